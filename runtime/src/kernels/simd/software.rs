//! Vectors as arrays, lane by lane: what the instruction sets are held against. Runs anywhere, also under Miri.

use super::{Body, LANES, Simd};
use half::bf16;
use std::array::from_fn;

/// The token of no instruction set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Software;

impl Simd for Software {
    const REGISTERS: usize = 32;

    type Floats = [f32; LANES];
    type Doubles = [f64; LANES];
    type Words = [u32; LANES];

    fn vectorize<B: Body>(self, body: B) -> B::Output {
        body.run(self)
    }

    fn splat(self, x: f32) -> [f32; LANES] {
        [x; LANES]
    }

    fn load(self, x: &[f32; LANES]) -> [f32; LANES] {
        *x
    }

    fn store(self, x: [f32; LANES], y: &mut [f32; LANES]) {
        *y = x;
    }

    fn load_bf16(self, x: &[bf16; LANES]) -> [f32; LANES] {
        x.map(bf16::to_f32)
    }

    fn store_bf16(self, x: [f32; LANES], y: &mut [bf16; LANES]) {
        *y = x.map(bf16::from_f32);
    }

    fn add(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        from_fn(|i| a[i] + b[i])
    }

    fn sub(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        from_fn(|i| a[i] - b[i])
    }

    fn mul(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        from_fn(|i| a[i] * b[i])
    }

    fn div(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        from_fn(|i| a[i] / b[i])
    }

    fn sqrt(self, x: [f32; LANES]) -> [f32; LANES] {
        x.map(f32::sqrt)
    }

    fn fma(self, a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    fn fnma(self, a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        from_fn(|i| (-a[i]).mul_add(b[i], c[i]))
    }

    fn min(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    fn max(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    fn round(self, x: [f32; LANES]) -> [f32; LANES] {
        x.map(f32::round_ties_even)
    }

    fn scale(self, x: [f32; LANES], n: [f32; LANES]) -> [f32; LANES] {
        // The product in f64 is exact, and rounded once.
        from_fn(|i| (f64::from(x[i]) * f64::from(n[i]).exp2()) as f32)
    }

    fn swap_pairs(self, x: [f32; LANES]) -> [f32; LANES] {
        from_fn(|i| x[i ^ 1])
    }

    fn zero_doubles(self) -> [f64; LANES] {
        [0.0; LANES]
    }

    fn add_squares(self, sums: [f64; LANES], x: [f32; LANES]) -> [f64; LANES] {
        from_fn(|i| sums[i] + f64::from(x[i]) * f64::from(x[i]))
    }

    fn doubles(self, x: [f64; LANES]) -> [f64; LANES] {
        x
    }

    fn splat_words(self, x: u32) -> [u32; LANES] {
        [x; LANES]
    }

    fn load_words(self, x: &[u32; LANES]) -> [u32; LANES] {
        *x
    }

    fn words(self, x: [u32; LANES]) -> [u32; LANES] {
        x
    }

    fn add_words(self, a: [u32; LANES], b: [u32; LANES]) -> [u32; LANES] {
        from_fn(|i| a[i].wrapping_add(b[i]))
    }

    fn xor(self, a: [u32; LANES], b: [u32; LANES], c: [u32; LANES]) -> [u32; LANES] {
        from_fn(|i| a[i] ^ b[i] ^ c[i])
    }

    // Inlined, LLVM (of Rust 1.95, for SSE2) now and then computes some lanes wrong: it takes the products apart again.
    #[inline(never)]
    fn wide_products(self, a: [u32; LANES], b: [u32; LANES]) -> [u32; LANES] {
        from_fn(|i| {
            let product = u64::from(a[i & !1]) * u64::from(b[i & !1]);
            (product >> (32 * (i % 2))) as u32
        })
    }

    fn high(self, x: [u32; LANES]) -> [u32; LANES] {
        from_fn(|i| if i % 2 == 0 { x[i + 1] } else { 0 })
    }

    fn merge(self, even: [u32; LANES], odd: [u32; LANES]) -> [u32; LANES] {
        from_fn(|i| if i % 2 == 0 { even[i] } else { odd[i - 1] })
    }

    fn transpose(self, x: [[u32; LANES]; 4]) -> [[u32; LANES]; 4] {
        from_fn(|i| from_fn(|lane| x[lane % 4][lane / 4 * 4 + i]))
    }

    fn keep(self, words: [u32; LANES], threshold: [u32; LANES], x: [f32; LANES]) -> [f32; LANES] {
        from_fn(|i| if words[i] >= threshold[i] { x[i] } else { 0.0 })
    }
}
