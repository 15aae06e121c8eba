//! Elementary functions of vectors.
//!
//! # Numerics
//! Error bounds are of the result, in units in the last place (ulp) of f32, and tested against f64. Each lane depends on
//! its own operand only.

use super::Simd;

/// Where the exponential is 0 and infinity; in between, its scaling by powers of two is exact.
const EXP_LOWEST: f32 = -104.0;
const EXP_HIGHEST: f32 = 89.0;

/// ln 2 as a sum of two f32.
const LN_2: [f32; 2] = [std::f32::consts::LN_2, -1.904_654_3e-9];

/// Minimax polynomial q, ascending, of e^r = 1 + r + r² q(r) for |r| up to (ln 2) / 2, relative error 3.1e-9 (by Remez's
/// algorithm).
const EXP: [f32; 5] = [0.499_999_93, 0.166_665_2, 0.041_668_39, 0.008_368_717, 0.001_381_46];

const ROOT_2_OVER_PI: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

/// From here to both sides gelu is 0 or its operand, and its derivative 0 or 1, to f32's precision.
const GELU_FLAT: f32 = 10.0;

/// e^x, within 2 ulp; what lies below the subnormal numbers is 0, and what is not a number stays one.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::Floats) -> S::Floats {
    // The operand is second: `max` and `min` keep it if it is not a number.
    let x = s.min(s.splat(EXP_HIGHEST), s.max(s.splat(EXP_LOWEST), x));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fnma(n, s.splat(LN_2[1]), s.fnma(n, s.splat(LN_2[0]), x));
    let mut q = s.splat(EXP[4]);
    for coefficient in [EXP[3], EXP[2], EXP[1], EXP[0]] {
        q = s.fma(q, r, s.splat(coefficient));
    }
    let p = s.add(s.splat(1.0), s.fma(s.mul(r, r), q, r));
    s.scale(p, n)
}

/// (σ, e) with `e = exp(-2z)` and `σ = 1 / (1 + e)`, of gelu's `z = √(2/π) (x + 0.044715 x³)`: `tanh z = 2σ - 1`.
#[inline(always)]
fn gelu_sigmoid<S: Simd>(s: S, x: S::Floats) -> (S::Floats, S::Floats) {
    let square = s.mul(x, x);
    let factor = s.fma(square, s.splat(-2.0 * ROOT_2_OVER_PI * CUBIC), s.splat(-2.0 * ROOT_2_OVER_PI));
    let e = exp(s, s.mul(x, factor));
    (s.div(s.splat(1.0), s.add(s.splat(1.0), e)), e)
}

/// GELU in its tanh form, as `x σ(2z)`: absolute error at most 6 · 2^-24 |x|.
#[inline(always)]
pub(crate) fn gelu<S: Simd>(s: S, x: S::Floats) -> S::Floats {
    s.mul(x, gelu_sigmoid(s, flat(s, x)).0)
}

/// The derivative of [`gelu`], `σ + 2 x σ (1 - σ) z'` with `z' = √(2/π) (1 + 3 · 0.044715 x²)`: absolute error at most
/// 16 · 2^-24.
#[inline(always)]
pub(crate) fn gelu_derivative<S: Simd>(s: S, x: S::Floats) -> S::Floats {
    let x = flat(s, x);
    let (sigma, e) = gelu_sigmoid(s, x);
    let slope = s.fma(s.mul(x, x), s.splat(6.0 * ROOT_2_OVER_PI * CUBIC), s.splat(2.0 * ROOT_2_OVER_PI));
    // `e` may be as large as f32 allows: first times σ, which makes 1 - σ.
    let both = s.mul(s.mul(sigma, e), sigma);
    s.fma(s.mul(x, slope), both, sigma)
}

/// `x` brought to where gelu is not flat; what is not a number stays one.
#[inline(always)]
fn flat<S: Simd>(s: S, x: S::Floats) -> S::Floats {
    s.min(s.splat(GELU_FLAT), s.max(s.splat(-GELU_FLAT), x))
}
