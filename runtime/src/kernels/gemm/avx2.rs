//! Products with AVX2 and FMA: tiles of 6 rows and two vectors of 8 columns.
//!
//! 12 accumulators, two vectors of the right panel and one broadcast of the left are 15 of 16 registers; 12 independent
//! chains hide the latency of two multipliers.

use super::blocking::{LEFT_STRIDE, padded};
use super::{Ahead, Format, Left, Packing, Right, Steps, pack_avx2};
use crate::isa;
use std::arch::x86_64::*;
use std::ops::Range;

/// Rows of a tile.
const ROWS: usize = 6;
/// Columns of a tile.
const COLUMNS: usize = 16;

/// Steps with fused multiply-adds of 8 lanes.
#[derive(Clone, Copy)]
pub(super) struct Fma(pub(super) isa::Avx2);

impl Packing for Fma {
    unsafe fn pack_right(
        self,
        _format: Format,
        right: &Right,
        inner: Range<usize>,
        columns: Range<usize>,
        to: *mut f32,
    ) {
        // SAFETY: the token proves the instructions; the rest is the caller's promise.
        unsafe { pack_avx2::right(right, inner, columns, to) }
    }

    unsafe fn pack_left(
        self,
        _format: Format,
        left: &Left,
        rows: Range<usize>,
        inner: Range<usize>,
        to: *mut f32,
    ) {
        // SAFETY: the token proves the instructions; the rest is the caller's promise.
        unsafe { pack_avx2::left(left, rows, inner, to) }
    }
}

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

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn multiply(
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
        // SAFETY: right panels follow each other, and the sums of a panel are `rows` rows of COLUMNS.
        unsafe {
            let right = right.add(panel * padded(depth) * COLUMNS);
            let sums = sums.add(panel * rows * COLUMNS);
            match rows {
                1 => tile::<1>(depth, left, right, sums, fresh),
                2 => tile::<2>(depth, left, right, sums, fresh),
                3 => tile::<3>(depth, left, right, sums, fresh),
                4 => tile::<4>(depth, left, right, sums, fresh),
                5 => tile::<5>(depth, left, right, sums, fresh),
                _ => tile::<6>(depth, left, right, sums, fresh),
            }
        }
    }
}

/// `ROWS` rows times one panel of `COLUMNS` columns.
#[target_feature(enable = "avx2,fma,f16c")]
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
        let mut chains = [[_mm256_setzero_ps(); 2]; ROWS];
        if !fresh {
            for (row, chains) in chains.iter_mut().enumerate() {
                chains[0] = _mm256_loadu_ps(sums.add(row * COLUMNS));
                chains[1] = _mm256_loadu_ps(sums.add(row * COLUMNS + 8));
            }
        }
        for row in 0..ROWS {
            _mm_prefetch::<_MM_HINT_T0>(sums.wrapping_add((ROWS + row) * COLUMNS).cast());
        }
        let mut step = |lane: usize, right: *const f32| {
            let b = [_mm256_loadu_ps(right), _mm256_loadu_ps(right.add(8))];
            for (row, chains) in chains.iter_mut().enumerate() {
                let a = _mm256_broadcast_ss(&*left.add(row * LEFT_STRIDE + lane));
                chains[0] = _mm256_fmadd_ps(a, b[0], chains[0]);
                chains[1] = _mm256_fmadd_ps(a, b[1], chains[1]);
            }
        };
        let mut right = right;
        let twice = depth / 2 * 2;
        for lane in (0..twice).step_by(2) {
            step(lane, right);
            step(lane + 1, right.add(COLUMNS));
            right = right.add(2 * COLUMNS);
        }
        if twice < depth {
            step(twice, right);
        }
        for (row, chains) in chains.iter().enumerate() {
            _mm256_storeu_ps(sums.add(row * COLUMNS), chains[0]);
            _mm256_storeu_ps(sums.add(row * COLUMNS + 8), chains[1]);
        }
    }
}
