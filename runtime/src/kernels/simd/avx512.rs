//! Vectors with AVX-512: one register each.

use super::{Body, LANES, Simd};
use crate::isa::Avx512;
use half::bf16;
use std::arch::x86_64::*;

/// Methods that are a few instructions.
macro_rules! instructions {
    ($($(#[$attribute:meta])* fn $name:ident($($argument:ident: $ty:ty),*) $(-> $result:ty)? $body:block)*) => {$(
        $(#[$attribute])*
        #[inline(always)]
        fn $name(self, $($argument: $ty),*) $(-> $result)? {
            // SAFETY: the token proves AVX-512 F, BW, DQ and VL; addresses come from references to arrays of the size that
            // is read or written.
            unsafe { $body }
        }
    )*};
}

impl Simd for Avx512 {
    const REGISTERS: usize = 32;

    type Floats = __m512;
    type Doubles = [__m512d; 2];
    type Words = __m512i;

    #[inline]
    fn vectorize<B: Body>(self, body: B) -> B::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        fn run<B: Body>(simd: Avx512, body: B) -> B::Output {
            body.run(simd)
        }
        // SAFETY: the token proves the features.
        unsafe { run(self, body) }
    }

    instructions! {
        fn splat(x: f32) -> __m512 { _mm512_set1_ps(x) }
        fn load(x: &[f32; LANES]) -> __m512 { _mm512_loadu_ps(x.as_ptr()) }
        fn store(x: __m512, y: &mut [f32; LANES]) { _mm512_storeu_ps(y.as_mut_ptr(), x) }
        fn load_bf16(x: &[bf16; LANES]) -> __m512 {
            let x = _mm256_loadu_si256(x.as_ptr().cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x)))
        }
        fn store_bf16(x: __m512, y: &mut [bf16; LANES]) {
            let bits = _mm512_castps_si512(x);
            let high = _mm512_srli_epi32::<16>(bits);
            let odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
            let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
            let rounded = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, half));
            let quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
            let unordered = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
            let words = _mm512_mask_mov_epi32(rounded, unordered, quiet);
            _mm256_storeu_si256(y.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(words));
        }
        fn add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        fn mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn div(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        fn sqrt(x: __m512) -> __m512 { _mm512_sqrt_ps(x) }
        fn fma(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn fnma(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fnmadd_ps(a, b, c) }
        fn min(a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
        fn max(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        fn round(x: __m512) -> __m512 {
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x)
        }
        fn scale(x: __m512, n: __m512) -> __m512 { _mm512_scalef_ps(x, n) }
        fn swap_pairs(x: __m512) -> __m512 { _mm512_permute_ps::<0b10_11_00_01>(x) }
        fn zero_doubles() -> [__m512d; 2] { [_mm512_setzero_pd(); 2] }
        fn add_squares(sums: [__m512d; 2], x: __m512) -> [__m512d; 2] {
            let low = _mm512_cvtps_pd(_mm512_castps512_ps256(x));
            let high = _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(x));
            [_mm512_fmadd_pd(low, low, sums[0]), _mm512_fmadd_pd(high, high, sums[1])]
        }
        fn doubles(x: [__m512d; 2]) -> [f64; LANES] {
            let mut lanes = [0.0; LANES];
            _mm512_storeu_pd(lanes.as_mut_ptr(), x[0]);
            _mm512_storeu_pd(lanes[LANES / 2..].as_mut_ptr(), x[1]);
            lanes
        }
        fn splat_words(x: u32) -> __m512i { _mm512_set1_epi32(x.cast_signed()) }
        fn load_words(x: &[u32; LANES]) -> __m512i { _mm512_loadu_si512(x.as_ptr().cast()) }
        fn words(x: __m512i) -> [u32; LANES] {
            let mut lanes = [0; LANES];
            _mm512_storeu_si512(lanes.as_mut_ptr().cast(), x);
            lanes
        }
        fn add_words(a: __m512i, b: __m512i) -> __m512i { _mm512_add_epi32(a, b) }
        fn xor(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
            _mm512_ternarylogic_epi32::<0b1001_0110>(a, b, c)
        }
        fn wide_products(a: __m512i, b: __m512i) -> __m512i { _mm512_mul_epu32(a, b) }
        fn high(x: __m512i) -> __m512i { _mm512_srli_epi64::<32>(x) }
        fn merge(even: __m512i, odd: __m512i) -> __m512i {
            _mm512_mask_mov_epi32(even, 0xaaaa, _mm512_slli_epi64::<32>(odd))
        }
        fn transpose(x: [__m512i; 4]) -> [__m512i; 4] {
            let low = [_mm512_unpacklo_epi32(x[0], x[1]), _mm512_unpacklo_epi32(x[2], x[3])];
            let high = [_mm512_unpackhi_epi32(x[0], x[1]), _mm512_unpackhi_epi32(x[2], x[3])];
            [
                _mm512_unpacklo_epi64(low[0], low[1]),
                _mm512_unpackhi_epi64(low[0], low[1]),
                _mm512_unpacklo_epi64(high[0], high[1]),
                _mm512_unpackhi_epi64(high[0], high[1]),
            ]
        }
        fn keep(words: __m512i, threshold: __m512i, x: __m512) -> __m512 {
            _mm512_maskz_mov_ps(_mm512_cmpge_epu32_mask(words, threshold), x)
        }
    }
}
