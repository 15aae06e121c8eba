//! The end of an optimizer step: the norm of all gradients, the factor that divides and clips them, and AdamW.
//!
//! `hyper` is f32`[LEN]`, laid out by [`crate::hyper`]. The formulas are those of `torch.nn.utils.clip_grad_norm_` and
//! `torch.optim.AdamW` for one tensor on a CPU; torch fuses or reorders some products, so last bits may differ.
//!
//! Does not: compute the learning rate or the bias corrections of a step; the trainer does.

use super::check::{self, TypeError};
use super::window::TERMINAL;
use super::{AutodiffError, EvalError, Operation, Real, Tensor, VjpContext, no_attributes};
use crate::hyper;
use crate::shape::{Dim, Extents, TensorType};

/// Added to the norm before the largest norm is divided by it, as torch does.
const NORM_EPSILON: f64 = 1e-6;

/// One number.
const ONE: [Dim; 1] = [Dim::fixed(1)];

/// `sum_squares %g`: the sum of the squares of `g` f32`[...]`, in ascending order, as f32`[1]`.
///
/// Numerics: one chain here; a kernel may carry it in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct SumSquares;

impl Operation for SumSquares {
    const NAME: &'static str = "sum_squares";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [g] = check::operands(operands)?;
        check::f32_of(0, g, &g.dims)?;
        Ok(vec![TensorType::f32(ONE)])
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(TERMINAL)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let sum = operands[0].floats()?.iter().fold(F::zero(), |sum, &g| sum + g * g);
        Ok(vec![Tensor::float([1], vec![sum])])
    }

    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        2 * operands[0].elements() as u64
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// `clip_scale %totals, %hyper, %ss0, %ss1, ...`: f32`[1]` `scale`, by which every gradient is multiplied, and
/// f32`[1]` `norm`, of all gradients together before clipping, from the sums of squares f32`[1]` of the gradients' sums
/// over tokens.
///
/// `totals` i32`[2]` is (windows, labelled tokens) of the step; gradients are of the mean over labelled tokens, so with
/// `count` tokens: `norm = sqrt(sum ss) / count`, `factor = min(1, MAX_GRAD_NORM / (norm + 1e-6))` or 1 if
/// `MAX_GRAD_NORM` is at most 0, `scale = factor / count`. A step without labelled tokens counts as one token: its
/// gradients are zeros and stay zeros.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipScale;

impl Operation for ClipScale {
    const NAME: &'static str = "clip_scale";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [totals, hyper, first, rest @ ..] = operands else {
            return Err(TypeError::Count { expected: 3, found: operands.len() });
        };
        check::index_vector(0, totals, Dim::fixed(2))?;
        check::f32_of(1, hyper, &[Dim::fixed(hyper::LEN)])?;
        check::f32_of(2, first, &ONE)?;
        for (index, sum) in rest.iter().enumerate() {
            check::f32_of(3 + index, sum, &ONE)?;
        }
        Ok(vec![TensorType::f32(ONE); 2])
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(TERMINAL)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let count = F::from_f64(f64::from(operands[0].ints()?[1].max(1)));
        let max_norm = operands[1].floats()?[hyper::MAX_GRAD_NORM];
        let mut sum = F::zero();
        for squares in &operands[2..] {
            sum = sum + squares.floats()?[0];
        }
        let norm = sum.sqrt() / count;
        let clipped = max_norm / (norm + F::from_f64(NORM_EPSILON));
        // Not `min`: a norm that is not a number must show in the gradients.
        let factor = if max_norm <= F::zero() || clipped >= F::one() { F::one() } else { clipped };
        Ok(vec![Tensor::float([1], vec![factor / count]), Tensor::float([1], vec![norm])])
    }

    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        operands.len() as u64 + 4 // one addition for each sum; a root, three divisions, an addition and a comparison
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// `adamw %p, %g, %m, %v, %scale, %hyper`: the new parameter and its moments `p, m, v`, all f32 of one shape; `scale`
/// f32`[1]` multiplies the gradient.
///
/// For each element, in this order: `g = g * scale`; `p = p * DECAY`; `m = m + (g - m) * ONE_MINUS_BETA1`;
/// `v = v * BETA2 + ONE_MINUS_BETA2 * g * g`; `p = p - STEP_SIZE * m / (sqrt(v) / SQRT_BIAS_CORRECTION2 + EPSILON)`.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamW;

impl Operation for AdamW {
    const NAME: &'static str = "adamw";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [p, g, m, v, scale, hyper] = check::operands(operands)?;
        check::f32_of(0, p, &p.dims)?;
        for (index, operand) in [g, m, v].into_iter().enumerate() {
            check::same(1 + index, operand, p)?;
        }
        check::f32_of(4, scale, &ONE)?;
        check::f32_of(5, hyper, &[Dim::fixed(hyper::LEN)])?;
        Ok(vec![p.clone(); 3])
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(TERMINAL)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let (mut p, g) = (operands[0].floats()?.to_vec(), operands[1].floats()?);
        let (mut m, mut v) = (operands[2].floats()?.to_vec(), operands[3].floats()?.to_vec());
        let (scale, hyper) = (operands[4].floats()?[0], operands[5].floats()?);
        for (((p, m), v), &g) in p.iter_mut().zip(&mut m).zip(&mut v).zip(g) {
            let g = g * scale;
            *p = *p * hyper[hyper::DECAY];
            *m = *m + (g - *m) * hyper[hyper::ONE_MINUS_BETA1];
            *v = *v * hyper[hyper::BETA2] + hyper[hyper::ONE_MINUS_BETA2] * g * g;
            let denominator = v.sqrt() / hyper[hyper::SQRT_BIAS_CORRECTION2] + hyper[hyper::EPSILON];
            *p = *p - hyper[hyper::STEP_SIZE] * *m / denominator; // torch multiplies first
        }
        Ok([p, m, v].map(|data| Tensor::float(operands[0].dims.clone(), data)).into())
    }

    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        15 * operands[0].elements() as u64
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0), (1, 2), (2, 3)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluate(op: &impl Operation, operands: &[&Tensor<f64>]) -> Vec<Tensor<f64>> {
        op.evaluate(operands, &[], &Extents::default()).unwrap()
    }

    fn number(value: f64) -> Tensor<f64> {
        Tensor::float([1], vec![value])
    }

    /// Learning rate 0.01, weight decay 0.1, betas 0.9 and 0.999, at this step.
    fn hyper_of(step: i32, max_norm: f64) -> Tensor<f64> {
        let mut hyper = vec![0.0; hyper::LEN];
        hyper[hyper::LEARNING_RATE] = 0.01;
        hyper[hyper::WEIGHT_DECAY] = 0.1;
        hyper[hyper::BETA1] = 0.9;
        hyper[hyper::ONE_MINUS_BETA1] = 1.0 - 0.9;
        hyper[hyper::BETA2] = 0.999;
        hyper[hyper::ONE_MINUS_BETA2] = 1.0 - 0.999;
        hyper[hyper::EPSILON] = 1e-8;
        hyper[hyper::STEP_SIZE] = 0.01 / (1.0 - 0.9f64.powi(step));
        hyper[hyper::SQRT_BIAS_CORRECTION2] = (1.0 - 0.999f64.powi(step)).sqrt();
        hyper[hyper::MAX_GRAD_NORM] = max_norm;
        hyper[hyper::DECAY] = 1.0 - 0.01 * 0.1;
        Tensor::float([hyper::LEN], hyper)
    }

    fn clip(tokens: i32, max_norm: f64, squares: &[f64]) -> [f64; 2] {
        let (totals, hyper) = (Tensor::int([2], vec![3, tokens]), hyper_of(1, max_norm));
        let squares: Vec<_> = squares.iter().map(|&sum| number(sum)).collect();
        let operands: Vec<_> = [&totals, &hyper].into_iter().chain(&squares).collect();
        let results = evaluate(&ClipScale, &operands);
        [&results[0], &results[1]].map(|result| result.floats().unwrap()[0])
    }

    #[track_caller]
    fn assert_close(found: &Tensor<f64>, expected: [f64; 3]) {
        for (found, expected) in found.floats().unwrap().iter().zip(expected) {
            let error = (found - expected).abs() / expected.abs();
            assert!(error < 1e-13, "expected {expected}, found {found}: relative error {error:e}");
        }
    }

    #[test]
    fn two_steps_are_those_of_torch() {
        // What torch 2.x computes in f64 with clip_grad_norm_(1.0) and AdamW(foreach=False), two tokens a step:
        // norm, parameter, first and second moment after each step.
        let steps = [
            (
                [6.0, -4.0, 0.02],
                3.605565142942227,
                [0.9890000001201855, -1.9880000001802782, 0.48950003605553144],
                [0.08320468633954746, -0.05546979089303165, 0.00027734895446515824],
                [0.0006923019828862486, 0.000307689770171666, 7.692244254291652e-09],
            ),
            (
                [-1.0, 3.0, 0.01],
                1.581146735758576,
                [0.9843927355447396, -1.9890557817135786, 0.4789978783812697],
                [0.043261619216393446, 0.04494498366386933, 0.0005658400439106352],
                [0.0007916085544242733, 0.0012073719420896926, 1.7684439362128455e-08],
            ),
        ];
        let mut state =
            [vec![1.0, -2.0, 0.5], vec![0.0; 3], vec![0.0; 3]].map(|data| Tensor::float([3], data));
        for (step, (g, norm, p, m, v)) in (1..).zip(steps) {
            let g = Tensor::float([3], g.to_vec());
            let squares = evaluate(&SumSquares, &[&g]).remove(0);
            let (totals, hyper) = (Tensor::int([2], vec![1, 2]), hyper_of(step, 1.0));
            let clipped = evaluate(&ClipScale, &[&totals, &hyper, &squares]);
            assert!(
                (clipped[1].floats().unwrap()[0] - norm).abs() < 1e-14,
                "norm of step {step}: {clipped:?}"
            );
            let results = evaluate(&AdamW, &[&state[0], &g, &state[1], &state[2], &clipped[0], &hyper]);
            for (found, expected) in results.iter().zip([p, m, v]) {
                assert_close(found, expected);
            }
            state = results.try_into().unwrap();
        }
    }

    #[test]
    fn gradients_are_clipped_only_above_the_largest_norm() {
        let norm = 5.0 / 2.0;
        assert_eq!(clip(2, 1.0, &[9.0, 16.0]), [1.0 / (norm + 1e-6) / 2.0, norm]);
        assert_eq!(clip(2, 3.0, &[9.0, 16.0]), [0.5, norm]);
        for off in [0.0, -1.0] {
            assert_eq!(clip(2, off, &[9.0, 16.0]), [0.5, norm], "a largest norm of {off} clips nothing");
        }
        assert_eq!(clip(0, 1.0, &[0.0]), [1.0, 0.0], "a step without labelled tokens");
        assert!(clip(2, 1.0, &[f64::NAN])[0].is_nan(), "a norm that is not a number shows");
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let [p, other, one] = [3, 4, 1].map(|length| TensorType::f32([Dim::fixed(length)]));
        let (totals, hyper) = (TensorType::i32([Dim::fixed(2)]), TensorType::f32([Dim::fixed(hyper::LEN)]));
        let error = AdamW.infer(&[&p, &p, &other, &p, &one, &hyper]).unwrap_err().to_string();
        assert_eq!(error, "operand 2: expected f32[3], found f32[4]");
        let error = ClipScale.infer(&[&totals, &hyper, &one, &p]).unwrap_err().to_string();
        assert_eq!(error, "operand 3: expected f32[1], found f32[3]");
        let error = ClipScale.infer(&[&totals, &hyper]).unwrap_err().to_string();
        assert_eq!(error, "expected 3 operands, found 2");
        assert!(SumSquares.infer(&[&totals]).is_err(), "integers have no norm");
    }
}
