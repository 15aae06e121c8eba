//! One layer over the vector instruction sets.
//!
//! A [`Simd`] is a proof token of an instruction set with the arithmetic of vectors of [`LANES`] numbers. Both
//! instruction sets have the same number of lanes (AVX2 takes two registers for them), every operation rounds as IEEE 754
//! says, and no result depends on anything else: code written against this trait gives the same bits with every
//! implementation. So all vector variants of an element-wise kernel are one *rounding class*, `vector`.
//!
//! How to use it: write a closure and give it to [`Simd::call`], which compiles it with the instruction set's features (or a
//! [`Body`] and [`Simd::vectorize`], where the instruction set is not known). Everything that it calls is `#[inline(always)]`, closures too; what is not would lose the features.
//!
//! Elementary functions are in [`math`], the random words of dropout in [`philox`], loops over slices in [`slices`].
//!
//! # Numerics
//! Numbers are not flushed: subnormal operands and results are kept, unless the thread's control word says otherwise.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod math;
pub(crate) mod philox;
pub(crate) mod slices;
#[cfg(test)]
mod software;
#[cfg(test)]
mod tests;

use super::Element;
use half::bf16;

#[cfg(test)]
pub(crate) use software::Software;

/// Numbers of a vector.
pub(crate) const LANES: usize = 16;

/// Work that is compiled once for each instruction set.
pub(crate) trait Body {
    /// What it returns.
    type Output;

    /// Does the work. Implementations are `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// See [`Simd::call`].
struct Closure<F>(F);

impl<R, F: FnOnce() -> R> Body for Closure<F> {
    type Output = R;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> R {
        (self.0)()
    }
}

/// The arithmetic of vectors of [`LANES`] numbers, by an instruction set that the token proves.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// Vectors that registers hold.
    const REGISTERS: usize;

    /// f32 numbers.
    type Floats: Copy;
    /// f64 numbers, as many.
    type Doubles: Copy;
    /// u32 numbers, as many; also taken as half as many u64 numbers, of which lane 2i is the low half.
    type Words: Copy;

    /// Runs `body` with the instruction set's features.
    fn vectorize<B: Body>(self, body: B) -> B::Output;

    /// The same for a closure, which is `#[inline(always)]`.
    #[inline]
    fn call<R>(self, work: impl FnOnce() -> R) -> R {
        self.vectorize(Closure(work))
    }

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::Floats;
    /// The numbers in memory.
    fn load(self, x: &[f32; LANES]) -> Self::Floats;
    /// Writes the lanes to memory.
    fn store(self, x: Self::Floats, y: &mut [f32; LANES]);
    /// The numbers in memory, widened exactly.
    fn load_bf16(self, x: &[bf16; LANES]) -> Self::Floats;
    /// Writes the lanes rounded to nearest, ties to even; what is not a number stays one.
    fn store_bf16(self, x: Self::Floats, y: &mut [bf16; LANES]);
    /// `a + b`.
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a - b`.
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a b`.
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a / b`.
    fn div(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The square root.
    fn sqrt(self, x: Self::Floats) -> Self::Floats;
    /// `a b + c`, rounded once.
    fn fma(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// `c - a b`, rounded once.
    fn fnma(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// `a` where it is less than `b`, otherwise `b`: also where one of them is not a number.
    fn min(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a` where it is greater than `b`, otherwise `b`: also where one of them is not a number.
    fn max(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The nearest whole number, ties to even.
    fn round(self, x: Self::Floats) -> Self::Floats;
    /// `x 2^n`, rounded once, for whole `n` in -252..=252 and `x` from 1/2 to 2; what is not a number stays one.
    fn scale(self, x: Self::Floats, n: Self::Floats) -> Self::Floats;
    /// Exchanges lanes 2i and 2i + 1.
    fn swap_pairs(self, x: Self::Floats) -> Self::Floats;

    /// Zeros.
    fn zero_doubles(self) -> Self::Doubles;
    /// `sums + x²`: the squares are exact in f64, the sums are rounded.
    fn add_squares(self, sums: Self::Doubles, x: Self::Floats) -> Self::Doubles;
    /// The lanes.
    fn doubles(self, x: Self::Doubles) -> [f64; LANES];

    /// `x` in every lane.
    fn splat_words(self, x: u32) -> Self::Words;
    /// The numbers in memory.
    fn load_words(self, x: &[u32; LANES]) -> Self::Words;
    /// The lanes.
    fn words(self, x: Self::Words) -> [u32; LANES];
    /// `a + b`, modulo 2^32.
    fn add_words(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// `a ^ b ^ c`.
    fn xor(self, a: Self::Words, b: Self::Words, c: Self::Words) -> Self::Words;
    /// The u64 products of the lanes 2i of `a` and `b`.
    fn wide_products(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// Lanes 2i get lanes 2i + 1, and these get 0.
    fn high(self, x: Self::Words) -> Self::Words;
    /// Lanes 2i of `even`, and as lanes 2i + 1 the lanes 2i of `odd`.
    fn merge(self, even: Self::Words, odd: Self::Words) -> Self::Words;
    /// Transposes the 4 x 4 words in each quarter: lane 4q + j of result i is lane 4q + i of `x[j]`.
    fn transpose(self, x: [Self::Words; 4]) -> [Self::Words; 4];
    /// `x` where `words >= threshold`, elsewhere +0.
    fn keep(self, words: Self::Words, threshold: Self::Words, x: Self::Floats) -> Self::Floats;

    /// The lanes.
    #[inline(always)]
    fn floats(self, x: Self::Floats) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        self.store(x, &mut lanes);
        lanes
    }

    /// The sum of the lanes, in a fixed order: halves are added, then their halves, and so on.
    #[inline(always)]
    fn sum(self, x: Self::Floats) -> f32 {
        let mut lanes = self.floats(x);
        let mut half = LANES / 2;
        while half > 0 {
            for lane in 0..half {
                lanes[lane] += lanes[lane + half];
            }
            half /= 2;
        }
        lanes[0]
    }

    /// The largest lane; one of them if there are several, and anything if one is not a number.
    #[inline(always)]
    fn largest(self, x: Self::Floats) -> f32 {
        self.floats(x).into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
}

/// Elements that vectors are loaded from and stored to.
pub(crate) trait Stored: Element {
    /// Zero.
    const ZERO: Self;

    /// The numbers in memory.
    fn load<S: Simd>(simd: S, x: &[Self; LANES]) -> S::Floats;

    /// Writes the lanes, rounded to what an element holds.
    fn store<S: Simd>(simd: S, x: S::Floats, y: &mut [Self; LANES]);
}

impl Stored for f32 {
    const ZERO: Self = 0.0;

    #[inline(always)]
    fn load<S: Simd>(simd: S, x: &[Self; LANES]) -> S::Floats {
        simd.load(x)
    }

    #[inline(always)]
    fn store<S: Simd>(simd: S, x: S::Floats, y: &mut [Self; LANES]) {
        simd.store(x, y);
    }
}

impl Stored for bf16 {
    const ZERO: Self = bf16::ZERO;

    #[inline(always)]
    fn load<S: Simd>(simd: S, x: &[Self; LANES]) -> S::Floats {
        simd.load_bf16(x)
    }

    #[inline(always)]
    fn store<S: Simd>(simd: S, x: S::Floats, y: &mut [Self; LANES]) {
        simd.store_bf16(x, y);
    }
}
