//! Every instruction set against the software vectors bit by bit, and the functions against f64.

use super::philox::{RowWords, WORDS};
use super::slices::{map, map_from, map_with};
use super::{Body, LANES, Simd, Software, math};
use crate::kernels::testing::Random;
use gptjc_graphs::philox::DropoutSite;
use half::bf16;

/// Runs `body` with every instruction set of this CPU, and asks that they give what the software vectors give.
#[track_caller]
fn same_everywhere<B: Body<Output: PartialEq + std::fmt::Debug> + Clone>(body: B) -> B::Output {
    let expected = Software.vectorize(body.clone());
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = crate::isa::Avx2::detect().map(|s| s.vectorize(body.clone()));
        let avx512 = crate::isa::Avx512::detect().map(|s| s.vectorize(body));
        for found in [avx2, avx512].into_iter().flatten() {
            assert_eq!(found, expected);
        }
    }
    expected
}

#[derive(Clone, Copy, Debug)]
enum Function {
    Exp,
    Gelu,
    GeluDerivative,
    Round,
    Bf16,
}

#[derive(Clone)]
struct Apply<'a>(Function, &'a [f32]);

impl Body for Apply<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Vec<u32> {
        let mut y = self.1.to_vec();
        match self.0 {
            Function::Exp => map(
                s,
                &mut y,
                #[inline(always)]
                |x| math::exp(s, x),
            ),
            Function::Gelu => map(
                s,
                &mut y,
                #[inline(always)]
                |x| math::gelu(s, x),
            ),
            Function::GeluDerivative => map(
                s,
                &mut y,
                #[inline(always)]
                |x| math::gelu_derivative(s, x),
            ),
            Function::Round => map(
                s,
                &mut y,
                #[inline(always)]
                |x| s.round(x),
            ),
            Function::Bf16 => {
                let mut narrow = vec![bf16::ZERO; y.len()];
                map_from(
                    s,
                    &y,
                    &mut narrow,
                    #[inline(always)]
                    |x| x,
                );
                map_from(
                    s,
                    &narrow,
                    &mut y,
                    #[inline(always)]
                    |x| x,
                );
            }
        }
        y.into_iter().map(f32::to_bits).collect()
    }
}

/// The function of each number, the same everywhere.
fn apply(function: Function, x: &[f32]) -> Vec<f32> {
    same_everywhere(Apply(function, x)).into_iter().map(f32::from_bits).collect()
}

/// Evenly spaced numbers, an odd number of them.
fn spaced(from: f32, to: f32) -> Vec<f32> {
    let count = if cfg!(miri) { 101 } else { 400_001 };
    (0..count).map(|index| from + (to - from) * (index as f32 / (count - 1) as f32)).collect()
}

/// The distance between neighbouring f32 around `x`, at least that of the smallest normal numbers.
fn ulp(x: f64) -> f64 {
    let exponent = x.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor();
    (exponent - 23.0).exp2()
}

#[test]
fn exponentials_are_within_two_ulp() {
    let mut worst: f64 = 0.0;
    for x in [spaced(-103.9, 88.7), spaced(-1.0, 1.0), spaced(-1e-6, 1e-6)] {
        for (x, y) in x.iter().zip(apply(Function::Exp, &x)) {
            let expected = f64::from(*x).exp();
            let error = (f64::from(y) - expected).abs() / ulp(expected);
            worst = worst.max(error);
            assert!(error <= 2.0, "exp({x:e}) = {y:e}, expected {expected:e}: {error} ulp");
        }
    }
    assert!(worst > 0.4, "the test itself: the largest error of all is {worst} ulp");
}

#[test]
fn exponentials_end_in_zero_and_infinity() {
    let x = [f32::NEG_INFINITY, -1e30, -104.5, 0.0, -0.0, 89.5, 1e30, f32::INFINITY, f32::NAN, 1e-40];
    let y = apply(Function::Exp, &x);
    assert_eq!(y[..8], [0.0, 0.0, 0.0, 1.0, 1.0, f32::INFINITY, f32::INFINITY, f32::INFINITY]);
    assert!(y[8].is_nan() && y[9] == 1.0, "{y:?}");
}

/// gelu and its derivative in f64.
fn gelu(x: f64) -> (f64, f64) {
    const ROOT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
    let t = (ROOT_2_OVER_PI * (x + 0.044_715 * x * x * x)).tanh();
    let slope = ROOT_2_OVER_PI * (1.0 + 3.0 * 0.044_715 * x * x);
    (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope)
}

#[test]
fn gelu_and_its_derivative_are_within_their_bounds() {
    let unit = 2f64.powi(-24);
    for x in [spaced(-12.0, 12.0), spaced(-0.01, 0.01)] {
        let found = [apply(Function::Gelu, &x), apply(Function::GeluDerivative, &x)];
        for (index, &x) in x.iter().enumerate() {
            let expected = gelu(f64::from(x));
            let [y, slope] = [0, 1].map(|function: usize| f64::from(found[function][index]));
            let bound = 6.0 * unit * f64::from(x.abs()) + f64::from(f32::MIN_POSITIVE);
            assert!((y - expected.0).abs() <= bound, "gelu({x}) = {y:e}, expected {:e}", expected.0);
            assert!(
                (slope - expected.1).abs() <= 16.0 * unit,
                "gelu'({x}) = {slope}, expected {}",
                expected.1
            );
        }
    }
}

#[test]
fn gelu_far_from_zero_is_flat() {
    let x = [f32::NAN, 1e20, -1e10, 1e10, 11.0];
    let (y, slope) = (apply(Function::Gelu, &x), apply(Function::GeluDerivative, &x));
    assert!(y[0].is_nan() && slope[0].is_nan());
    assert_eq!((y[1], y[3], y[4]), (1e20, 1e10, 11.0));
    assert_eq!((slope[1], slope[3], slope[4]), (1.0, 1.0, 1.0));
    assert!(y[2].abs() < 1e-20 && slope[2].abs() < 1e-20, "{y:?} {slope:?}");
}

#[test]
fn numbers_are_rounded_to_the_nearest() {
    let x = [0.5, 1.5, -0.5, 2.4999998, -1e9, 0.49999997, -127.5];
    assert_eq!(apply(Function::Round, &x), x.map(f32::round_ties_even));
    // Ties both ways, overflow, subnormal numbers, what is no number; and random bits.
    let special = [0x3f80_8000, 0x3f81_8000, 0x7f7f_ffff, 0x0000_8001, 0x8000_7fff, 0x7f80_0001, 0xffc0_0000];
    let mut random = Random::new(5);
    let bits = special.into_iter().chain((0..10_000).map(|_| random.below(1 << 32) as u32));
    let x: Vec<f32> = bits.map(f32::from_bits).collect();
    for (x, y) in x.iter().zip(apply(Function::Bf16, &x)) {
        assert_eq!(y.to_bits(), bf16::from_f32(*x).to_f32().to_bits(), "{x:e}");
    }
}

/// Sums, swaps and squares of a vector, and the ends of two-operand loops.
#[derive(Clone)]
struct Reduce<'a>(&'a [f32; LANES]);

impl Body for Reduce<'_> {
    type Output = (u32, f32, [f32; LANES], [f64; LANES]);

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let x = s.load(self.0);
        let squares = s.add_squares(s.add_squares(s.zero_doubles(), x), s.splat(3.0));
        (s.sum(x).to_bits(), s.largest(x), s.floats(s.swap_pairs(x)), s.doubles(squares))
    }
}

#[test]
fn lanes_are_summed_in_halves() {
    let mut random = Random::new(1);
    for _ in 0..50 {
        let x: [f32; LANES] = std::array::from_fn(|_| random.signed() as f32);
        let (sum, largest, swapped, squares) = same_everywhere(Reduce(&x));
        let mut halves = x.to_vec();
        while halves.len() > 1 {
            let (a, b) = halves.split_at(halves.len() / 2);
            halves = a.iter().zip(b).map(|(a, b)| a + b).collect();
        }
        assert_eq!(sum, halves[0].to_bits());
        assert_eq!(largest, x.into_iter().fold(-1.0, f32::max));
        for lane in 0..LANES {
            assert_eq!(swapped[lane], x[lane ^ 1]);
            assert_eq!(squares[lane], f64::from(x[lane]) * f64::from(x[lane]) + 9.0);
        }
    }
}

#[derive(Clone)]
struct MinMax<'a>(&'a [f32], &'a [f32]);

impl Body for MinMax<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Vec<u32> {
        let (mut low, mut high) = (self.0.to_vec(), self.0.to_vec());
        map_with(
            s,
            &mut low,
            self.1,
            #[inline(always)]
            |a, b| s.min(a, b),
        );
        map_with(
            s,
            &mut high,
            self.1,
            #[inline(always)]
            |a, b| s.max(a, b),
        );
        low.into_iter().chain(high).map(f32::to_bits).collect()
    }
}

#[test]
fn what_is_not_a_number_is_kept_from_the_second_operand() {
    let found = same_everywhere(MinMax(&[1.0, f32::NAN, 2.0], &[f32::NAN, 3.0, -1.0]));
    let found: Vec<f32> = found.into_iter().map(f32::from_bits).collect();
    assert!(found[0].is_nan() && found[3].is_nan(), "{found:?}");
    assert_eq!((found[1], found[2], found[4], found[5]), (3.0, -1.0, 3.0, 2.0));
}

#[derive(Clone)]
struct Words(RowWords, usize);

impl Body for Words {
    type Output = (Vec<u32>, Vec<f32>);

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let (mut all, mut kept) = (Vec::new(), Vec::new());
        for words in self.0.of(s, self.1) {
            all.extend(s.words(words));
            kept.extend(s.floats(s.keep(words, s.splat_words(1 << 31), s.splat(2.0))));
        }
        (all, kept)
    }
}

#[test]
fn words_are_those_of_the_definition() {
    let mut random = Random::new(3);
    for index in [0, 1, 63, 1 << 20] {
        let site = DropoutSite::new(std::array::from_fn(|_| random.below(1 << 32) as u32 as i32), 0xfedc);
        let (window, offset) = (random.below(1 << 32) as u32, random.below(1 << 16) as u16);
        let (words, kept) = same_everywhere(Words(RowWords::new(&site, window, offset), index));
        for column in 0..WORDS {
            let expected = site.keep_word(window, offset, (index * WORDS + column) as u32);
            assert_eq!(words[column], expected, "column {column} of group {index}");
            assert_eq!(kept[column], if expected >= 1 << 31 { 2.0 } else { 0.0 });
        }
    }
}
