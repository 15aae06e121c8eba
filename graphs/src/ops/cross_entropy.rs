//! Cross entropy of logits and labels, row by row, and its gradient.
//!
//! Letters: M rows, V vocabulary.
//!
//! Numerics: `lse = max + ln Σ exp(x - max)`, summed in ascending order; `nll = lse - x[label]`. Everything is f32.
//!
//! Does not: take the mean. Rows are summed per window, and divided once by the labelled tokens of the step.

use super::check::{self, TypeError};
use super::{AutodiffError, EvalError, Operation, Real, Tensor, VjpContext, no_attributes};
use crate::autodiff::ONLY_IN_GRADIENTS;
use crate::interp::index_below;
use crate::shape::{Extents, TensorType};

/// `cross_entropy %logits f32[M, V], %labels i32[M] -> nll f32[M], lse f32[M]`: the negative log likelihood of the
/// label, and the log of the sum of exponentials.
///
/// `lse` is for the gradient; it has none itself.
#[derive(Clone, Debug, PartialEq)]
pub struct CrossEntropy;

impl Operation for CrossEntropy {
    const NAME: &'static str = "cross_entropy";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [logits, labels] = check::operands(operands)?;
        check_logits(0, logits)?;
        check::index_vector(1, labels, logits.dims[0])?;
        let row = TensorType::f32(&logits.dims[..1]);
        Ok(vec![row.clone(), row])
    }

    /// `dlogits`: see [`CrossEntropyGrad`].
    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        if rule.cotangent(1).is_some() {
            return rule.no_rule("its lse is for the gradient only, but something else reads it");
        }
        let Some(dnll) = rule.cotangent(0) else { return Ok(()) };
        let dlogits =
            rule.push(CrossEntropyGrad, &[dnll, rule.operand(0), rule.operand(1), rule.result(1)])?;
        rule.contribute(0, dlogits);
        Ok(())
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let (logits, labels) = (operands[0].floats()?, operands[1].ints()?);
        let (rows, vocab_size) = (operands[0].dims[0], operands[0].dims[1]);
        let (mut nll, mut lse) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for row in 0..rows {
            let x = &logits[row * vocab_size..(row + 1) * vocab_size];
            let label = index_below("label", labels[row], vocab_size)?;
            let max = x.iter().copied().fold(F::neg_infinity(), F::max);
            let of_row = max + x.iter().map(|&x| (x - max).exp()).sum::<F>().ln();
            nll.push(of_row - x[label]);
            lse.push(of_row);
        }
        Ok(vec![Tensor::float([rows], nll), Tensor::float([rows], lse)])
    }

    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        const AN_ELEMENT: u64 = 3; // x - max, exp, the sum
        const A_ROW: u64 = 3; // ln, + max, - x[label]
        let rows = operands[0].dims[0].bound as u64;
        AN_ELEMENT * operands[0].elements() as u64 + A_ROW * rows
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// `cross_entropy_grad %dnll f32[M], %logits f32[M, V], %labels i32[M], %lse f32[M] -> dlogits f32[M, V]`:
/// `dlogits = (exp(x - lse) - onehot(label)) · dnll`.
#[derive(Clone, Debug, PartialEq)]
pub struct CrossEntropyGrad;

impl Operation for CrossEntropyGrad {
    const NAME: &'static str = "cross_entropy_grad";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [dnll, logits, labels, lse] = check::operands(operands)?;
        check_logits(1, logits)?;
        check::f32_of(0, dnll, &logits.dims[..1])?;
        check::index_vector(2, labels, logits.dims[0])?;
        check::f32_of(3, lse, &logits.dims[..1])?;
        Ok(vec![logits.clone()])
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
        let (dnll, logits) = (operands[0].floats()?, operands[1].floats()?);
        let (labels, lse) = (operands[2].ints()?, operands[3].floats()?);
        let (rows, vocab_size) = (operands[1].dims[0], operands[1].dims[1]);
        let mut dlogits = Vec::with_capacity(logits.len());
        for row in 0..rows {
            let label = index_below("label", labels[row], vocab_size)?;
            for v in 0..vocab_size {
                let probability = (logits[row * vocab_size + v] - lse[row]).exp();
                let onehot = if v == label { F::one() } else { F::zero() };
                dlogits.push((probability - onehot) * dnll[row]);
            }
        }
        Ok(vec![Tensor::float([rows, vocab_size], dlogits)])
    }

    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        const AN_ELEMENT: u64 = 3; // x - lse, exp, times dnll
        const A_ROW: u64 = 1; // - 1 at the label
        let rows = operands[1].dims[0].bound as u64;
        AN_ELEMENT * operands[1].elements() as u64 + A_ROW * rows
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 1)]
    }
}

/// The operand is f32\[M, V\], with V fixed.
fn check_logits(operand: usize, found: &TensorType) -> Result<(), TypeError> {
    check::float(operand, found, 2)?;
    check::f32_of(operand, found, &[found.dims[0], found.dims[1].bound.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::check::check_vjp;
    use crate::autodiff::{WindowTables, differentiate};
    use crate::graph::{Graph, Role};
    use crate::shape::Dim;

    #[test]
    fn a_label_costs_minus_the_log_of_its_probability() {
        // Probabilities 1/4, 1/4, 1/2; and the same far from zero, where exp alone would overflow.
        let ln2 = std::f64::consts::LN_2;
        let logits = Tensor::float([2, 3], vec![0.0, 0.0, ln2, 1000.0, 1000.0, 1000.0 + ln2]);
        let labels = Tensor::int([2], vec![2, 0]);
        let results = CrossEntropy.evaluate(&[&logits, &labels], &[], &Extents::default()).unwrap();
        for (result, expected) in results.iter().zip([[ln2, 2.0 * ln2], [2.0 * ln2, 1000.0 + 2.0 * ln2]]) {
            for (found, expected) in result.floats().unwrap().iter().zip(expected) {
                assert!((found - expected).abs() < 1e-12, "expected {expected}, found {found}");
            }
        }
        let labels = Tensor::int([2], vec![2, 3]);
        let error =
            CrossEntropy.evaluate(&[&logits, &labels], &[], &Extents::default()).unwrap_err().to_string();
        assert_eq!(error, "label 3 is outside of 0..3");
    }

    #[test]
    fn labels_of_other_rows_are_refused() {
        let logits = TensorType::f32([Dim::rows(4), 7.into()]);
        let labels = TensorType::i32([Dim::slots(4)]);
        let error = CrossEntropy.infer(&[&logits, &labels]).unwrap_err().to_string();
        assert_eq!(error, "operand 1: expected i32[rows:4], found i32[slots:4]");
        let logits = logits.with_dtype(crate::dtype::DType::Bf16);
        let error = CrossEntropy.infer(&[&logits, &labels]).unwrap_err().to_string();
        assert_eq!(error, "operand 0: expected f32[rows:4, 7], found bf16[rows:4, 7]");
    }

    #[test]
    fn the_gradient_of_the_log_sum_is_refused() {
        let mut graph = Graph::new("g");
        let logits = graph.input("logits", Role::Batch, TensorType::f32([Dim::rows(4), 7.into()])).unwrap();
        let labels = graph.input("labels", Role::Batch, TensorType::i32([Dim::rows(4)])).unwrap();
        let node = graph.push(CrossEntropy, &[logits, labels]).unwrap();
        let lse = graph.node(node).results[1];
        let error =
            differentiate(&mut graph, &[(lse, lse)], WindowTables::default()).unwrap_err().to_string();
        assert!(error.starts_with("op `cross_entropy` has no gradient rule: its lse"), "{error}");
    }

    #[test]
    fn the_loss_matches_finite_differences() {
        check_vjp(
            "graph @f(%x: batch \"logits\" f32[rows:4, 5], %l: batch \"labels\" i32[rows:4]) { \
             %nll, %lse = cross_entropy %x, %l : f32[rows:4], f32[rows:4] return \"nll\" %nll }",
        );
    }
}
