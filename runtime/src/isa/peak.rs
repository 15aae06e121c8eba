//! Loops of nothing but multiply-adds in registers: what they reach is what a matrix product is measured against.
//!
//! Twelve independent chains hide the latency of every CPU of the last decade. The chains begin with different numbers,
//! so that no compiler takes them for one.

use super::{Avx2, Avx512, Avx512Bf16};
use std::hint::black_box;

/// Independent chains of a loop.
const CHAINS: usize = 12;

/// A loop of multiply-adds on registers of `LANES` products: `run(rounds)` does [`Loop::flops`] times `rounds`.
#[derive(Clone, Copy, Debug)]
pub enum Loop {
    /// Plain Rust on four f32 a chain: multiplications and additions apart, as the portable kernels have them.
    Portable,
    /// FMA of 8 f32.
    Avx2(Avx2),
    /// FMA of 16 f32.
    Avx512(Avx512),
    /// Dot products of 16 pairs of bf16.
    Avx512Bf16(Avx512Bf16),
}

impl Loop {
    /// Floating-point operations of a round.
    pub const fn flops(self) -> u64 {
        let of_chain = match self {
            Loop::Portable => 4 * 2,
            Loop::Avx2(_) => 8 * 2,
            Loop::Avx512(_) => 16 * 2,
            Loop::Avx512Bf16(_) => 16 * 4,
        };
        of_chain * CHAINS as u64
    }

    /// Name of what is measured.
    pub const fn name(self) -> &'static str {
        match self {
            Loop::Portable => "portable multiply and add, f32",
            Loop::Avx2(_) => "AVX2 FMA, f32",
            Loop::Avx512(_) => "AVX-512 FMA, f32",
            Loop::Avx512Bf16(_) => "AVX512-BF16 dot product",
        }
    }

    /// Does `rounds` rounds; the number that comes out means nothing.
    pub fn run(self, rounds: u64) -> f32 {
        match self {
            Loop::Portable => portable(rounds),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves the instructions.
            Loop::Avx2(_) => unsafe { x86::avx2(rounds) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Loop::Avx512(_) => unsafe { x86::avx512(rounds) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Loop::Avx512Bf16(_) => unsafe { x86::avx512_bf16(rounds) },
            #[cfg(not(target_arch = "x86_64"))]
            Loop::Avx2(_) | Loop::Avx512(_) | Loop::Avx512Bf16(_) => portable(rounds), // there are no such tokens
        }
    }
}

fn portable(rounds: u64) -> f32 {
    let (x, y) = (black_box(1.000_000_1f32), black_box(1e-9f32));
    let mut sums: [[f32; 4]; CHAINS] = std::array::from_fn(|chain| [black_box(chain as f32); 4]);
    for _ in 0..rounds {
        for sum in sums.as_flattened_mut() {
            *sum = *sum * x + y;
        }
    }
    sums.as_flattened().iter().sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CHAINS, black_box};
    use std::arch::x86_64::{
        _mm256_add_ps, _mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps, _mm512_add_ps, _mm512_cvtne2ps_pbh,
        _mm512_cvtss_f32, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_set1_ps,
    };

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2(rounds: u64) -> f32 {
        let (x, y) = (_mm256_set1_ps(black_box(1.0)), _mm256_set1_ps(black_box(1e-9)));
        let mut sums = [_mm256_set1_ps(0.0); CHAINS];
        for (chain, sum) in sums.iter_mut().enumerate() {
            *sum = _mm256_set1_ps(black_box(chain as f32));
        }
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(x, y, *sum);
            }
        }
        let mut total = sums[0];
        for &sum in &sums[1..] {
            total = _mm256_add_ps(total, sum);
        }
        _mm256_cvtss_f32(total)
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512(rounds: u64) -> f32 {
        let (x, y) = (_mm512_set1_ps(black_box(1.0)), _mm512_set1_ps(black_box(1e-9)));
        let mut sums = [_mm512_set1_ps(0.0); CHAINS];
        for (chain, sum) in sums.iter_mut().enumerate() {
            *sum = _mm512_set1_ps(black_box(chain as f32));
        }
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(x, y, *sum);
            }
        }
        let mut total = sums[0];
        for &sum in &sums[1..] {
            total = _mm512_add_ps(total, sum);
        }
        _mm512_cvtss_f32(total)
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn avx512_bf16(rounds: u64) -> f32 {
        let (x, y) = (_mm512_set1_ps(black_box(1.0)), _mm512_set1_ps(black_box(1e-9)));
        let (x, y) = (_mm512_cvtne2ps_pbh(x, x), _mm512_cvtne2ps_pbh(y, y));
        let mut sums = [_mm512_set1_ps(0.0); CHAINS];
        for (chain, sum) in sums.iter_mut().enumerate() {
            *sum = _mm512_set1_ps(black_box(chain as f32));
        }
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, x, y);
            }
        }
        let mut total = sums[0];
        for &sum in &sums[1..] {
            total = _mm512_add_ps(total, sum);
        }
        _mm512_cvtss_f32(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loop_of_this_cpu_computes_what_it_counts() {
        let loops = [
            Some(Loop::Portable),
            Avx2::detect().map(Loop::Avx2),
            Avx512::detect().map(Loop::Avx512),
            Avx512Bf16::detect().map(Loop::Avx512Bf16),
        ];
        // The chains begin with 0 to 11 and hardly change.
        for one in loops.into_iter().flatten() {
            let lanes = if matches!(one, Loop::Portable) { 4.0 } else { 1.0 };
            let found = one.run(1000);
            assert!((found / lanes - 66.0).abs() < 0.1, "{}: {found}", one.name());
        }
    }
}
