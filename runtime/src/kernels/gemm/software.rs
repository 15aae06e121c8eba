//! Plain Rust in place of the instructions that a machine may lack, for the tests.
//!
//! It rounds as the manuals of the instructions say: AVX512-BF16 adds the product of a pair's upper halves, then that of
//! the lower ones; an AMX tile sums the products of lower and of upper halves of 16 lanes apart, and adds both to the sum
//! at the end. Every addition is fused with its product; subnormal numbers are taken and given as zero.

use super::blocking::{LEFT_STRIDE, MOST_ROWS, elements_of_lane, padded};
use super::pairs::{COLUMNS, PairTiles, PairVector, ROWS, TILE, tiles, vector_tile, vector_tiles};
use super::{Ahead, Finish, Format, Left, Packing, Right, Steps, Term, driver, pack};
use std::ops::Range;

/// Which instructions are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Software {
    /// Dot products of pairs.
    Dots,
    /// Tiles of pairs.
    Tiles,
}

impl Software {
    pub(super) fn run(
        self,
        terms: &[Term],
        rows: Range<usize>,
        columns: Range<usize>,
        finish: &dyn Finish,
        scratch: &mut [f32],
    ) {
        match self {
            Software::Dots => driver::run(Plain::<ROWS>, terms, rows, columns, finish, scratch),
            Software::Tiles => driver::run(Plain::<MOST_ROWS>, terms, rows, columns, finish, scratch),
        }
    }
}

/// Steps for panels of `HEIGHT` rows: tiles if they are those of matrix tiles.
#[derive(Clone, Copy)]
struct Plain<const HEIGHT: usize>;

impl<const HEIGHT: usize> Packing for Plain<HEIGHT> {
    unsafe fn pack_right(
        self,
        format: Format,
        right: &Right,
        inner: Range<usize>,
        columns: Range<usize>,
        to: *mut f32,
    ) {
        let lanes = padded(inner.len().div_ceil(elements_of_lane(format)));
        let room = lanes * columns.len().next_multiple_of(COLUMNS);
        // SAFETY: the caller's room for whole panels.
        let to = unsafe { std::slice::from_raw_parts_mut(to, room) };
        pack::right(format, right, inner, columns, COLUMNS, to);
    }

    unsafe fn pack_left(
        self,
        format: Format,
        left: &Left,
        rows: Range<usize>,
        inner: Range<usize>,
        to: *mut f32,
    ) {
        // SAFETY: the caller's room for a left panel.
        let to = unsafe { std::slice::from_raw_parts_mut(to, rows.len() * LEFT_STRIDE) };
        pack::left(format, left, rows, inner, to);
    }
}

impl<const HEIGHT: usize> Steps for Plain<HEIGHT> {
    const ROWS: usize = HEIGHT;
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
        // SAFETY: the caller's promise.
        unsafe {
            match format {
                Format::F32 => multiply_f32(rows, depth, left, right, panels, sums, fresh),
                Format::Pairs if HEIGHT == MOST_ROWS => {
                    tiles(SoftwareTiles, rows, depth, left, right, panels, sums, fresh, ahead);
                }
                Format::Pairs => multiply_pairs(rows, depth, left, right, panels, sums, fresh, ahead),
            }
        }
    }
}

/// One fused multiply-add after the other.
unsafe fn multiply_f32(
    rows: usize,
    depth: usize,
    left: *const f32,
    right: *const f32,
    panels: usize,
    sums: *mut f32,
    fresh: bool,
) {
    for (panel, row, column) in cells(panels, rows) {
        // SAFETY: the caller's panels and sums.
        unsafe {
            let sum = sums.add((panel * rows + row) * COLUMNS + column);
            let mut chain = if fresh { 0.0 } else { sum.read() };
            for lane in 0..depth {
                let a = left.add(row * LEFT_STRIDE + lane).read();
                let b = right.add((panel * padded(depth) + lane) * COLUMNS + column).read();
                chain = a.mul_add(b, chain);
            }
            sum.write(chain);
        }
    }
}

fn cells(panels: usize, rows: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..panels * rows * COLUMNS).map(move |at| (at / COLUMNS / rows, at / COLUMNS % rows, at % COLUMNS))
}

unsafe fn multiply_pairs(
    rows: usize,
    depth: usize,
    left: *const f32,
    right: *const f32,
    panels: usize,
    sums: *mut f32,
    fresh: bool,
    ahead: &Ahead,
) {
    vector_tiles(rows, depth, panels, ahead, |rows, of_left, of_right, of_sums| {
        for row in 0..rows {
            // SAFETY: the offsets lie in the caller's panels and sums.
            unsafe {
                let left = left.add(of_left + row * LEFT_STRIDE);
                let sums = sums.add(of_sums + row * COLUMNS);
                vector_tile::<SoftwareVector, 1>(depth, left, right.add(of_right), sums, fresh);
            }
        }
    });
}

/// Zero for a subnormal number.
fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0.0f32.copysign(x) } else { x }
}

/// `sum + a · b` of halves of 32 bits, rounded once.
fn add_product(sum: f32, a: u32, b: u32) -> f32 {
    let number = |half: u32| flushed(f32::from_bits(half << 16));
    flushed(number(a).mul_add(number(b), flushed(sum)))
}

/// 16 lanes as the dot products take them.
#[derive(Clone, Copy)]
struct SoftwareVector;

impl PairVector for SoftwareVector {
    type Sums = [f32; 16];
    type Pairs = [u32; 16];

    fn zero() -> [f32; 16] {
        [0.0; 16]
    }

    unsafe fn load(from: *const f32) -> [f32; 16] {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<[f32; 16]>().read() }
    }

    unsafe fn store(sums: [f32; 16], to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[f32; 16]>().write(sums) }
    }

    unsafe fn pairs(from: *const f32) -> [u32; 16] {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<[u32; 16]>().read() }
    }

    unsafe fn broadcast(from: *const f32) -> [u32; 16] {
        // SAFETY: the caller's promise.
        [unsafe { from.cast::<u32>().read() }; 16]
    }

    fn dot(mut sums: [f32; 16], a: [u32; 16], b: [u32; 16]) -> [f32; 16] {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum = add_product(*sum, a >> 16, b >> 16);
            *sum = add_product(*sum, a & 0xffff, b & 0xffff);
        }
        sums
    }
}

/// Tiles of 16 rows of 16 lanes as the tile instruction takes them.
#[derive(Clone, Copy)]
struct SoftwareTiles;

impl PairTiles for SoftwareTiles {
    unsafe fn multiply(
        self,
        rows: usize,
        lanes: usize,
        left: *const f32,
        right: *const f32,
        panels: usize,
        sums: *mut f32,
    ) {
        for (panel, row, column) in cells(panels, rows) {
            for first in (0..lanes).step_by(TILE) {
                let (mut lower, mut upper) = (0.0, 0.0);
                for lane in first..first + TILE {
                    // SAFETY: the caller's left and right panels.
                    let (a, b) = unsafe {
                        let b = (panel * padded(lanes) + lane) * COLUMNS + column;
                        let a = left.cast::<u32>().add(row * LEFT_STRIDE + lane).read();
                        (a, right.cast::<u32>().add(b).read())
                    };
                    lower = add_product(lower, a & 0xffff, b & 0xffff);
                    upper = add_product(upper, a >> 16, b >> 16);
                }
                // SAFETY: the caller's sums.
                unsafe {
                    let sum = sums.add((panel * rows + row) * COLUMNS + column);
                    sum.write(flushed(flushed(sum.read()) + flushed(lower + upper)));
                }
            }
        }
    }
}
