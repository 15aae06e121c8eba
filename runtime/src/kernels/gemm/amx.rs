//! Products with AMX: products of bf16 by matrix tiles, others as with AVX-512.
//!
//! Four tiles of sums, two of the left panel and two of the right are all eight: 32 rows times 32 columns. Tile registers
//! are set up, used and released inside one block of assembly, since the compiler does not know of them.

use super::blocking::{LEFT_STRIDE, MOST_ROWS, padded};
use super::pack_avx512::ProvesAvx512;
use super::pairs::{COLUMNS, PairTiles, TILE, tiles};
use super::{Ahead, Format, Steps, avx512};
use crate::isa;
use std::arch::asm;

/// Steps with tiles of pairs.
#[derive(Clone, Copy)]
pub(super) struct Tiles(pub(super) isa::Amx);

impl ProvesAvx512 for Tiles {}

impl Steps for Tiles {
    const ROWS: usize = MOST_ROWS;
    const COLUMNS: usize = COLUMNS;
    const PAIRS: bool = true;

    unsafe fn multiply(
        self,
        format: Format,
        rows: usize,
        depth: usize,
        left: *const f32,
        right: *const f32,
        panels: usize,
        sums: *mut f32,
        fresh: bool,
        ahead: &Ahead,
    ) {
        // SAFETY: the token proves the instructions; the rest is the caller's promise. Packing of pairs leaves zeros behind
        // `depth` up to a whole tile.
        unsafe {
            match format {
                Format::F32 => avx512::multiply(rows, depth, left, right, panels, sums, fresh, ahead),
                Format::Pairs => tiles(self, rows, depth, left, right, panels, sums, fresh, ahead),
            }
        }
    }
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_of_row: [u16; 16],
    rows: [u8; 16],
}

impl Configuration {
    /// Sums of `rows` rows in tiles 0 to 3, left panels in 4 and 5, right panels in 6 and 7.
    fn new(rows: usize) -> Self {
        let upper = rows.min(TILE) as u8;
        let lower = rows.saturating_sub(TILE) as u8;
        let mut of_tile = [0; 16];
        of_tile[..8].copy_from_slice(&[upper, upper, lower, lower, upper, lower, TILE as u8, TILE as u8]);
        // A tile without rows must not have columns either.
        let bytes_of_row = of_tile.map(|rows| if rows > 0 { 64 } else { 0 });
        Self { palette: 1, start_row: 0, reserved: [0; 14], bytes_of_row, rows: of_tile }
    }
}

/// Bytes of a row of a right panel and of sums.
const ROW_BYTES: usize = COLUMNS * size_of::<f32>();
/// Bytes from one row of a left panel to the next.
const LEFT_BYTES: usize = LEFT_STRIDE * size_of::<f32>();

impl PairTiles for Tiles {
    unsafe fn multiply(
        self,
        rows: usize,
        lanes: usize,
        left: *const f32,
        right: *const f32,
        panels: usize,
        sums: *mut f32,
    ) {
        if rows == 0 || lanes == 0 || panels == 0 {
            return;
        }
        // SAFETY: the caller's promise: the memory that both kernels walk is there.
        unsafe {
            if rows > TILE {
                two_rows_of_tiles(rows, lanes, left, right, panels, sums);
            } else {
                one_row_of_tiles(rows, lanes, left, right, panels, sums);
            }
        }
    }
}

/// 17 to 32 rows; no count is zero.
unsafe fn two_rows_of_tiles(
    rows: usize,
    lanes: usize,
    left: *const f32,
    right: *const f32,
    panels: usize,
    sums: *mut f32,
) {
    let configuration = Configuration::new(rows);
    // SAFETY: the token in `Tiles` proves the instructions and the permission. Tiles 0 to 3 are loaded from and stored to
    // `panels` blocks of `rows` rows of sums; the left panel is read up to its last row and lane; right panels are read
    // whole, `skip` bytes of padding left out behind each.
    unsafe {
        asm!(
            "ldtilecfg [{configuration}]",
            "2:",
            "tileloadd tmm0, [{sums} + {row} * 1]",
            "tileloadd tmm1, [{sums} + {row} * 1 + 64]",
            "tileloadd tmm2, [{sums} + {row} * 1 + {lower_sums}]",
            "tileloadd tmm3, [{sums} + {row} * 1 + {lower_sums} + 64]",
            "mov {a}, {left}",
            "mov {steps}, {all_steps}",
            "3:",
            "tileloadd tmm6, [{right} + {row} * 1]",
            "tileloadd tmm4, [{a} + {left_row} * 1]",
            "tileloadd tmm7, [{right} + {row} * 1 + 64]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{a} + {left_row} * 1 + {lower_left}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 64",
            "add {right}, {right_step}",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{sums} + {row} * 1], tmm0",
            "tilestored [{sums} + {row} * 1 + 64], tmm1",
            "tilestored [{sums} + {row} * 1 + {lower_sums}], tmm2",
            "tilestored [{sums} + {row} * 1 + {lower_sums} + 64], tmm3",
            "add {right}, {skip}",
            "add {sums}, {sums_step}",
            "dec {panels}",
            "jnz 2b",
            "tilerelease",
            configuration = in(reg) &raw const configuration,
            row = in(reg) ROW_BYTES, left_row = in(reg) LEFT_BYTES, left = in(reg) left,
            a = out(reg) _, steps = out(reg) _,
            all_steps = in(reg) lanes / TILE,
            right = inout(reg) right => _, sums = inout(reg) sums => _, panels = inout(reg) panels => _,
            skip = in(reg) (padded(lanes) - lanes) * ROW_BYTES,
            sums_step = in(reg) rows * ROW_BYTES,
            lower_sums = const TILE * ROW_BYTES, lower_left = const TILE * LEFT_BYTES,
            right_step = const TILE * ROW_BYTES,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// 1 to 16 rows; no count is zero.
unsafe fn one_row_of_tiles(
    rows: usize,
    lanes: usize,
    left: *const f32,
    right: *const f32,
    panels: usize,
    sums: *mut f32,
) {
    let configuration = Configuration::new(rows);
    // SAFETY: as for `two_rows_of_tiles`, with tiles 0 and 1 for sums.
    unsafe {
        asm!(
            "ldtilecfg [{configuration}]",
            "2:",
            "tileloadd tmm0, [{sums} + {row} * 1]",
            "tileloadd tmm1, [{sums} + {row} * 1 + 64]",
            "mov {a}, {left}",
            "mov {steps}, {all_steps}",
            "3:",
            "tileloadd tmm6, [{right} + {row} * 1]",
            "tileloadd tmm4, [{a} + {left_row} * 1]",
            "tileloadd tmm7, [{right} + {row} * 1 + 64]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {a}, 64",
            "add {right}, {right_step}",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{sums} + {row} * 1], tmm0",
            "tilestored [{sums} + {row} * 1 + 64], tmm1",
            "add {right}, {skip}",
            "add {sums}, {sums_step}",
            "dec {panels}",
            "jnz 2b",
            "tilerelease",
            configuration = in(reg) &raw const configuration,
            row = in(reg) ROW_BYTES, left_row = in(reg) LEFT_BYTES, left = in(reg) left,
            a = out(reg) _, steps = out(reg) _,
            all_steps = in(reg) lanes / TILE,
            right = inout(reg) right => _, sums = inout(reg) sums => _, panels = inout(reg) panels => _,
            skip = in(reg) (padded(lanes) - lanes) * ROW_BYTES,
            sums_step = in(reg) rows * ROW_BYTES,
            right_step = const TILE * ROW_BYTES,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
