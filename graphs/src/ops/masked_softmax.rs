//! Softmax over the keys that a slot sees, and its gradient.
//!
//! Letters, and the queries and the *band* of each: see [`super::segment_matmul`]. The rest of a row is 0, whatever the operand holds.
//!
//! Numerics: f32; the largest score of the band is subtracted before the exponential, sums are chains in ascending j,
//! and each weight is the exponential divided by the sum.

use super::check::{self, TypeError};
use super::segment_matmul::{queries, query_operands};
use super::{AutodiffError, EvalError, Operation, Real, Tensor, VjpContext, no_attributes};
use crate::autodiff::ONLY_IN_GRADIENTS;
use crate::shape::{Extents, TensorType};

/// `masked_softmax %s, %segment, %segment_table[, %labelled]`: for each query and head of `s` f32`[R, NH, S]`,
/// `p[j] = exp(s[j] - max) / sum_i exp(s[i] - max)` over the band, and 0 outside of it.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskedSoftmax;

impl Operation for MaskedSoftmax {
    const NAME: &'static str = "masked_softmax";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [s, tables @ ..] = operands else { return Err(TypeError::Count { expected: 3, found: 0 }) };
        scores(0, s)?;
        query_operands(1, tables, (0, s))?;
        Ok(vec![TensorType::clone(s)])
    }

    /// For `p = softmax(s)`: `ds = p * (dp - sum_j p[j] dp[j])`.
    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        let Some(dp) = rule.cotangent(0) else { return Ok(()) };
        let operands = [&[dp, rule.result(0)], &rule.operands()[1..]].concat();
        let ds = rule.push(MaskedSoftmaxGrad, &operands)?;
        rule.contribute(0, ds);
        Ok(())
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let s = operands[0].floats()?;
        let mut p = vec![F::zero(); s.len()];
        for band in bands(operands[0], &operands[1..])? {
            let max = s[band.clone()].iter().copied().fold(F::neg_infinity(), F::max);
            let mut sum = F::zero();
            for element in band.clone() {
                p[element] = (s[element] - max).exp();
                sum = sum + p[element];
            }
            for element in band {
                p[element] = p[element] / sum;
            }
        }
        Ok(vec![Tensor::float(operands[0].dims.clone(), p)])
    }

    /// A comparison, a subtraction, an exponential, an addition and a division for each element of full windows'
    /// bands.
    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        5 * band_elements(operands[0])
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// `masked_softmax_grad %dp, %p, %segment, %segment_table[, %labelled]`: `ds = p * (dp - sum_j p[j] dp[j])` over the band, and 0
/// outside of it.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskedSoftmaxGrad;

impl Operation for MaskedSoftmaxGrad {
    const NAME: &'static str = "masked_softmax_grad";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [dp, p, tables @ ..] = operands else {
            return Err(TypeError::Count { expected: 4, found: operands.len() });
        };
        scores(0, dp)?;
        check::same(1, p, dp)?;
        query_operands(2, tables, (0, dp))?;
        Ok(vec![TensorType::clone(dp)])
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(ONLY_IN_GRADIENTS)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let (dp, p) = (operands[0].floats()?, operands[1].floats()?);
        let mut ds = vec![F::zero(); p.len()];
        for band in bands(operands[1], &operands[2..])? {
            let mut sum = F::zero();
            for element in band.clone() {
                sum = sum + p[element] * dp[element];
            }
            for element in band {
                ds[element] = p[element] * (dp[element] - sum);
            }
        }
        Ok(vec![Tensor::float(operands[0].dims.clone(), ds)])
    }

    /// A product and an addition, then a subtraction and a product, for each element of full windows' bands.
    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        4 * band_elements(operands[0])
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// The operand is f32`[M, NH, S]`.
fn scores(operand: usize, found: &TensorType) -> Result<(), TypeError> {
    if found.rank() != 3 {
        return Err(check::mismatch(operand, "scores f32[slots, heads, window]", found));
    }
    check::f32_of(operand, found, &found.dims)
}

/// Elements inside the bands of full windows.
fn band_elements(s: &TensorType) -> u64 {
    s.dims[0].bound as u64 * s.dims[1].bound as u64 * (s.dims[2].bound as u64 + 1) / 2
}

/// The elements of each query's and head's band.
fn bands<F: Real>(s: &Tensor<F>, tables: &[&Tensor<F>]) -> Result<Vec<std::ops::Range<usize>>, EvalError> {
    let (heads, window) = (s.dims[1], s.dims[2]);
    let of_query = |(query, (t, s0)): (usize, (usize, usize))| {
        (query * heads..(query + 1) * heads).map(move |row| row * window..row * window + t - s0 + 1)
    };
    Ok(queries(tables, window)?.into_iter().enumerate().flat_map(of_query).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::check::check_vjp;
    use crate::shape::Dim;

    fn evaluate(op: &impl Operation, operands: &[&Tensor<f64>]) -> Result<Tensor<f64>, EvalError> {
        op.evaluate(operands, &[], &Extents::default()).map(|mut results| results.remove(0))
    }

    /// Slot 0 alone, slots 1 and 2 together.
    fn segments() -> [Tensor<f64>; 2] {
        [Tensor::int([3], vec![0, 1, 1]), Tensor::int([2, 2], vec![0, 1, 1, 2])]
    }

    #[track_caller]
    fn assert_close(found: &Tensor<f64>, expected: &[f64]) {
        let found = found.floats().unwrap();
        let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(close && found.len() == expected.len(), "expected {expected:?}, found {found:?}");
    }

    #[test]
    fn weights_are_a_softmax_over_the_band() {
        let [segment, table] = segments();
        // The large scores: one outside of the band, and two that overflow unless the largest is subtracted.
        let s = Tensor::float([3, 1, 2], vec![5.0, 1e9, -3.0, f64::NAN, 1000.0, 1000.0 + 3f64.ln()]);
        let p = evaluate(&MaskedSoftmax, &[&s, &segment, &table]).unwrap();
        assert_close(&p, &[1.0, 0.0, 1.0, 0.0, 0.25, 0.75]);
    }

    #[test]
    fn the_gradient_is_zero_outside_of_the_band() {
        let [segment, table] = segments();
        let p = Tensor::float([3, 1, 2], vec![1.0, 0.0, 1.0, 0.0, 0.25, 0.75]);
        let dp = Tensor::float([3, 1, 2], vec![2.0, f64::NAN, 3.0, 9.0, 4.0, 8.0]);
        let ds = evaluate(&MaskedSoftmaxGrad, &[&dp, &p, &segment, &table]).unwrap();
        assert_close(&ds, &[0.0, 0.0, 0.0, 0.0, -0.75, 0.75]);
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let segment = TensorType::i32([Dim::slots(6)]);
        let table = TensorType::i32([Dim::segments(2), Dim::fixed(2)]);
        let matrix = TensorType::f32([Dim::slots(6), Dim::fixed(6)]);
        let error = MaskedSoftmax.infer(&[&matrix, &segment, &table]).unwrap_err().to_string();
        assert_eq!(error, "operand 0: expected scores f32[slots, heads, window], found f32[slots:6, 6]");
        let s = TensorType::f32([Dim::slots(6), Dim::fixed(2), Dim::fixed(6)]);
        let other = TensorType::f32([Dim::slots(6), Dim::fixed(3), Dim::fixed(6)]);
        let error = MaskedSoftmaxGrad.infer(&[&s, &other, &segment, &table]).unwrap_err().to_string();
        assert_eq!(error, "operand 1: expected f32[slots:6, 2, 6], found f32[slots:6, 3, 6]");
    }

    #[test]
    fn a_softmax_of_rows_matches_finite_differences() {
        check_vjp(
            "graph @f(%s: batch \"s\" f32[rows:4, 2, 6], %segment: batch \"segment\" i32[slots:6], \
             %table: batch \"segment_table\" i32[segments:2, 2], %labelled: batch \"labelled\" i32[rows:4]) { \
             %p = masked_softmax %s, %segment, %table, %labelled : f32[rows:4, 2, 6] return \"p\" %p }",
        );
    }

    #[test]
    fn a_softmax_matches_finite_differences() {
        check_vjp(
            "graph @f(%s: batch \"s\" f32[slots:6, 2, 6], %segment: batch \"segment\" i32[slots:6], \
             %table: batch \"segment_table\" i32[segments:2, 2]) { \
             %p = masked_softmax %s, %segment, %table : f32[slots:6, 2, 6] return \"p\" %p }",
        );
    }
}
