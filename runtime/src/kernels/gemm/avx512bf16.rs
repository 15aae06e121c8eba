//! Products with AVX512-BF16: products of bf16 by dot products of pairs, others as with AVX-512.

use super::pack_avx512::ProvesAvx512;
use super::pairs::{COLUMNS, PairVector, ROWS, vector_tile, vector_tiles};
use super::{Ahead, Format, Steps, avx512};
use crate::isa;
use std::arch::x86_64::*;

/// Steps with dot products of 16 pairs.
#[derive(Clone, Copy)]
pub(super) struct Dots(pub(super) isa::Avx512Bf16);

impl ProvesAvx512 for Dots {}

impl Steps for Dots {
    const ROWS: usize = ROWS;
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
        // SAFETY: the token proves the instructions; the rest is the caller's promise.
        unsafe {
            match format {
                Format::F32 => avx512::multiply(rows, depth, left, right, panels, sums, fresh, ahead),
                Format::Pairs => multiply(rows, depth, left, right, panels, sums, fresh, ahead),
            }
        }
    }
}

/// The instructions.
#[derive(Clone, Copy)]
struct Hardware;

impl PairVector for Hardware {
    type Sums = __m512;
    type Pairs = __m512i;

    #[inline(always)]
    fn zero() -> __m512 {
        // SAFETY: only `tile` uses this, which has the instructions.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: as above, and the caller's promise.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(sums: __m512, to: *mut f32) {
        // SAFETY: as above, and the caller's promise.
        unsafe { _mm512_storeu_ps(to, sums) }
    }

    #[inline(always)]
    unsafe fn pairs(from: *const f32) -> __m512i {
        // SAFETY: as above, and the caller's promise.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn broadcast(from: *const f32) -> __m512i {
        // SAFETY: as above, and the caller's promise.
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read()) }
    }

    #[inline(always)]
    fn dot(sums: __m512, a: __m512i, b: __m512i) -> __m512 {
        // SAFETY: only `tile` uses this, which has the instructions; both types are 512 bits without invalid patterns.
        unsafe {
            let pairs = |x: __m512i| std::mem::transmute::<__m512i, __m512bh>(x);
            _mm512_dpbf16_ps(sums, pairs(a), pairs(b))
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
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
    vector_tiles(rows, depth, panels, ahead, |rows, of_left, of_right, of_sums| {
        // SAFETY: the offsets lie in the caller's panels and sums.
        unsafe {
            let (left, right, sums) = (left.add(of_left), right.add(of_right), sums.add(of_sums));
            match rows {
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
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn tile<const ROWS: usize>(
    depth: usize,
    left: *const f32,
    right: *const f32,
    sums: *mut f32,
    fresh: bool,
) {
    // SAFETY: the caller's promise.
    unsafe { vector_tile::<Hardware, ROWS>(depth, left, right, sums, fresh) }
}
