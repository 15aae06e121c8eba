//! Vectors with AVX2, FMA and F16C: two registers each, of eight lanes.

use super::{Body, LANES, Simd};
use crate::isa::Avx2;
use half::bf16;
use std::arch::x86_64::*;

/// Lanes of a register.
const HALF: usize = LANES / 2;

/// Methods that are a few instructions.
macro_rules! instructions {
    ($($(#[$attribute:meta])* fn $name:ident($($argument:ident: $ty:ty),*) $(-> $result:ty)? $body:block)*) => {$(
        $(#[$attribute])*
        #[inline(always)]
        fn $name(self, $($argument: $ty),*) $(-> $result)? {
            // SAFETY: the token proves AVX2, FMA and F16C; addresses come from references to arrays of the size that is read
            // or written.
            unsafe { $body }
        }
    )*};
}

/// Methods that apply one instruction to each half of their operands.
macro_rules! halves {
    ($(fn $name:ident($($argument:ident),*): $ty:ty = $instruction:ident;)*) => {$(
        #[inline(always)]
        fn $name(self, $($argument: $ty),*) -> $ty {
            // SAFETY: the token proves AVX2, FMA and F16C.
            unsafe { [$instruction($($argument[0]),*), $instruction($($argument[1]),*)] }
        }
    )*};
}

impl Simd for Avx2 {
    const REGISTERS: usize = 8;

    type Floats = [__m256; 2];
    type Doubles = [__m256d; 4];
    type Words = [__m256i; 2];

    #[inline]
    fn vectorize<B: Body>(self, body: B) -> B::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn run<B: Body>(simd: Avx2, body: B) -> B::Output {
            body.run(simd)
        }
        // SAFETY: the token proves the features.
        unsafe { run(self, body) }
    }

    halves! {
        fn add(a, b): [__m256; 2] = _mm256_add_ps;
        fn sub(a, b): [__m256; 2] = _mm256_sub_ps;
        fn mul(a, b): [__m256; 2] = _mm256_mul_ps;
        fn div(a, b): [__m256; 2] = _mm256_div_ps;
        fn sqrt(x): [__m256; 2] = _mm256_sqrt_ps;
        fn fma(a, b, c): [__m256; 2] = _mm256_fmadd_ps;
        fn fnma(a, b, c): [__m256; 2] = _mm256_fnmadd_ps;
        fn min(a, b): [__m256; 2] = _mm256_min_ps;
        fn max(a, b): [__m256; 2] = _mm256_max_ps;
        fn round(x): [__m256; 2] = round;
        fn scale(x, n): [__m256; 2] = scale;
        fn swap_pairs(x): [__m256; 2] = swap_pairs;
        fn add_words(a, b): [__m256i; 2] = _mm256_add_epi32;
        fn xor(a, b, c): [__m256i; 2] = xor;
        fn wide_products(a, b): [__m256i; 2] = _mm256_mul_epu32;
        fn high(x): [__m256i; 2] = high;
        fn merge(even, odd): [__m256i; 2] = merge;
    }

    instructions! {
        fn splat(x: f32) -> [__m256; 2] { [_mm256_set1_ps(x); 2] }
        fn load(x: &[f32; LANES]) -> [__m256; 2] {
            [_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x[HALF..].as_ptr())]
        }
        fn store(x: [__m256; 2], y: &mut [f32; LANES]) {
            _mm256_storeu_ps(y.as_mut_ptr(), x[0]);
            _mm256_storeu_ps(y[HALF..].as_mut_ptr(), x[1]);
        }
        fn load_bf16(x: &[bf16; LANES]) -> [__m256; 2] {
            [widen(_mm_loadu_si128(x.as_ptr().cast())), widen(_mm_loadu_si128(x[HALF..].as_ptr().cast()))]
        }
        fn store_bf16(x: [__m256; 2], y: &mut [bf16; LANES]) {
            // Packing interleaves the halves of both operands by quarters of 64 bits.
            let packed = _mm256_packus_epi32(narrow(x[0]), narrow(x[1]));
            let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
            _mm256_storeu_si256(y.as_mut_ptr().cast(), ordered);
        }
        fn zero_doubles() -> [__m256d; 4] { [_mm256_setzero_pd(); 4] }
        fn add_squares(sums: [__m256d; 4], x: [__m256; 2]) -> [__m256d; 4] {
            let [a, b] = [squares(sums[0], sums[1], x[0]), squares(sums[2], sums[3], x[1])];
            [a[0], a[1], b[0], b[1]]
        }
        fn doubles(x: [__m256d; 4]) -> [f64; LANES] {
            let mut lanes = [0.0; LANES];
            for (quarter, x) in lanes.chunks_exact_mut(LANES / 4).zip(x) {
                _mm256_storeu_pd(quarter.as_mut_ptr(), x);
            }
            lanes
        }
        fn splat_words(x: u32) -> [__m256i; 2] { [_mm256_set1_epi32(x.cast_signed()); 2] }
        fn load_words(x: &[u32; LANES]) -> [__m256i; 2] {
            [_mm256_loadu_si256(x.as_ptr().cast()), _mm256_loadu_si256(x[HALF..].as_ptr().cast())]
        }
        fn words(x: [__m256i; 2]) -> [u32; LANES] {
            let mut lanes = [0; LANES];
            _mm256_storeu_si256(lanes.as_mut_ptr().cast(), x[0]);
            _mm256_storeu_si256(lanes[HALF..].as_mut_ptr().cast(), x[1]);
            lanes
        }
        fn transpose(x: [[__m256i; 2]; 4]) -> [[__m256i; 2]; 4] {
            let low = transpose([x[0][0], x[1][0], x[2][0], x[3][0]]);
            let high = transpose([x[0][1], x[1][1], x[2][1], x[3][1]]);
            [[low[0], high[0]], [low[1], high[1]], [low[2], high[2]], [low[3], high[3]]]
        }
        fn keep(words: [__m256i; 2], threshold: [__m256i; 2], x: [__m256; 2]) -> [__m256; 2] {
            [keep(words[0], threshold[0], x[0]), keep(words[1], threshold[1], x[1])]
        }
    }
}

/// Functions of one register.
macro_rules! of_register {
    ($(fn $name:ident($($argument:ident: $ty:ty),*) -> $result:ty $body:block)*) => {$(
        #[inline]
        #[target_feature(enable = "avx2,fma,f16c")]
        fn $name($($argument: $ty),*) -> $result $body
    )*};
}

of_register! {
    fn round(x: __m256) -> __m256 { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
    // By two powers of two that f32 holds: the first product is exact.
    fn scale(x: __m256, n: __m256) -> __m256 {
        let n = _mm256_cvtps_epi32(n);
        let first = _mm256_srai_epi32::<1>(n);
        let second = _mm256_sub_epi32(n, first);
        _mm256_mul_ps(_mm256_mul_ps(x, power(first)), power(second))
    }
    fn power(n: __m256i) -> __m256 {
        const BIAS: i32 = 127;
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(BIAS))))
    }
    fn swap_pairs(x: __m256) -> __m256 { _mm256_permute_ps::<0b10_11_00_01>(x) }
    fn widen(x: __m128i) -> __m256 { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(x))) }
    // The rounded upper half, in the lower.
    fn narrow(x: __m256) -> __m256i {
        let bits = _mm256_castps_si256(x);
        let high = _mm256_srli_epi32::<16>(bits);
        let odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
        let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
        let rounded = _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, half));
        let quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
        let unordered = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
        _mm256_blendv_epi8(rounded, quiet, unordered)
    }
    fn squares(low: __m256d, high: __m256d, x: __m256) -> [__m256d; 2] {
        let a = _mm256_cvtps_pd(_mm256_castps256_ps128(x));
        let b = _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(x));
        [_mm256_fmadd_pd(a, a, low), _mm256_fmadd_pd(b, b, high)]
    }
    fn xor(a: __m256i, b: __m256i, c: __m256i) -> __m256i { _mm256_xor_si256(_mm256_xor_si256(a, b), c) }
    fn high(x: __m256i) -> __m256i { _mm256_srli_epi64::<32>(x) }
    fn merge(even: __m256i, odd: __m256i) -> __m256i {
        _mm256_blend_epi32::<0b1010_1010>(even, _mm256_slli_epi64::<32>(odd))
    }
    fn transpose(x: [__m256i; 4]) -> [__m256i; 4] {
        let low = [_mm256_unpacklo_epi32(x[0], x[1]), _mm256_unpacklo_epi32(x[2], x[3])];
        let high = [_mm256_unpackhi_epi32(x[0], x[1]), _mm256_unpackhi_epi32(x[2], x[3])];
        [
            _mm256_unpacklo_epi64(low[0], low[1]),
            _mm256_unpackhi_epi64(low[0], low[1]),
            _mm256_unpacklo_epi64(high[0], high[1]),
            _mm256_unpackhi_epi64(high[0], high[1]),
        ]
    }
    fn keep(words: __m256i, threshold: __m256i, x: __m256) -> __m256 {
        let kept = _mm256_cmpeq_epi32(_mm256_max_epu32(words, threshold), words);
        _mm256_and_ps(x, _mm256_castsi256_ps(kept))
    }
}
