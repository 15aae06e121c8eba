//! Products with AVX-512: tiles of 12 rows and two vectors of 16 columns.
//!
//! 24 accumulators, two vectors of the right panel and one broadcast of the left are 27 of 32 registers; 24 independent
//! chains hide the latency of two multipliers.

use super::blocking::{LEFT_STRIDE, even_part, padded};
use super::pack_avx512::ProvesAvx512;
use super::{Ahead, Format, Steps};
use crate::isa;
use std::arch::x86_64::*;

/// Rows of a tile.
pub(super) const ROWS: usize = 12;
/// Columns of a tile.
pub(super) const COLUMNS: usize = 32;

/// Steps with fused multiply-adds of 16 lanes.
#[derive(Clone, Copy)]
pub(super) struct Fma(pub(super) isa::Avx512);

impl ProvesAvx512 for Fma {}

impl Steps for Fma {
    const ROWS: usize = ROWS;
    const COLUMNS: usize = COLUMNS;
    const PAIRS: bool = false;

    unsafe fn multiply(
        self,
        _format: Format,
        rows: usize,
        depth: usize,
        left: *const f32,
        right: *const f32,
        panels: usize,
        sums: *mut f32,
        fresh: bool,
        ahead: &Ahead,
    ) {
        // SAFETY: the token proves the instructions; the rest is the caller's promise.
        unsafe { multiply(rows, depth, left, right, panels, sums, fresh, ahead) }
    }
}

/// [`Steps::multiply`] in f32, of any number of rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn multiply(
    rows: usize,
    depth: usize,
    left: *const f32,
    right: *const f32,
    panels: usize,
    sums: *mut f32,
    fresh: bool,
    ahead: &Ahead,
) {
    for panel in 0..panels {
        ahead.fetch(panel, panels);
        for part in 0..rows.div_ceil(ROWS) {
            let part = even_part(rows, ROWS, part);
            // SAFETY: the rows of a left panel are LEFT_STRIDE apart, right panels follow each other, and the sums of a
            // panel are `rows` rows of COLUMNS.
            unsafe {
                let left = left.add(part.start * LEFT_STRIDE);
                let right = right.add(panel * padded(depth) * COLUMNS);
                let sums = sums.add((panel * rows + part.start) * COLUMNS);
                match part.len() {
                    1 => tile::<1>(depth, left, right, sums, fresh),
                    2 => tile::<2>(depth, left, right, sums, fresh),
                    3 => tile::<3>(depth, left, right, sums, fresh),
                    4 => tile::<4>(depth, left, right, sums, fresh),
                    5 => tile::<5>(depth, left, right, sums, fresh),
                    6 => tile::<6>(depth, left, right, sums, fresh),
                    7 => tile::<7>(depth, left, right, sums, fresh),
                    8 => tile::<8>(depth, left, right, sums, fresh),
                    9 => tile::<9>(depth, left, right, sums, fresh),
                    10 => tile::<10>(depth, left, right, sums, fresh),
                    11 => tile::<11>(depth, left, right, sums, fresh),
                    _ => tile::<12>(depth, left, right, sums, fresh),
                }
            }
        }
    }
}

/// `ROWS` rows times one panel of `COLUMNS` columns.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn tile<const ROWS: usize>(
    depth: usize,
    left: *const f32,
    right: *const f32,
    sums: *mut f32,
    fresh: bool,
) {
    // SAFETY: the caller gives a left panel of ROWS rows and a right panel of `depth` lanes, and sums of ROWS rows. What is
    // prefetched lies up to a tile behind; a prefetch does not fault.
    unsafe {
        let mut chains = [[_mm512_setzero_ps(); 2]; ROWS];
        if !fresh {
            for (row, chains) in chains.iter_mut().enumerate() {
                chains[0] = _mm512_loadu_ps(sums.add(row * COLUMNS));
                chains[1] = _mm512_loadu_ps(sums.add(row * COLUMNS + 16));
            }
        }
        for row in 0..ROWS {
            let next = sums.wrapping_add((ROWS + row) * COLUMNS);
            _mm_prefetch::<_MM_HINT_T0>(next.cast());
            _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(16).cast());
        }
        let mut right = right;
        for lane in 0..depth {
            let b = [_mm512_loadu_ps(right), _mm512_loadu_ps(right.add(16))];
            for (row, chains) in chains.iter_mut().enumerate() {
                let a = _mm512_set1_ps(*left.add(row * LEFT_STRIDE + lane));
                chains[0] = _mm512_fmadd_ps(a, b[0], chains[0]);
                chains[1] = _mm512_fmadd_ps(a, b[1], chains[1]);
            }
            right = right.add(COLUMNS);
        }
        for (row, chains) in chains.iter().enumerate() {
            _mm512_storeu_ps(sums.add(row * COLUMNS), chains[0]);
            _mm512_storeu_ps(sums.add(row * COLUMNS + 16), chains[1]);
        }
    }
}
