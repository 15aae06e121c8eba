//! The projection to the vocabulary with its loss and gradient, row by row: logits never exist as a whole.
//!
//! Letters: M labelled rows, D width, V vocabulary.
//!
//! Numerics: logits, log-sum-exp and loss are f32, as in [`cross_entropy`](super::cross_entropy). `h` and `w` may be
//! bf16. The gradient of the logits is rounded to `dtype`, because it is an operand of the second product. Each sum is
//! one chain in ascending order of its index.
//!
//! Does not: have a gradient rule; its gradient is its second result.

use super::check::{self, TypeError};
use super::{AttributeError, Attributes, AutodiffError, EvalError, Operation, Real, Tensor, VjpContext};
use crate::autodiff::ONLY_AFTER_FUSION;
use crate::dtype::DType;
use crate::interp::{index_below, round_to};
use crate::shape::{Extents, TensorType};

/// `vocab_loss %h[M, D], %w[V, D], %bias f32[V], %labels i32[M] -> nll f32[M][, dh f32[M, D]]`.
///
/// With `x = h · wᵀ + bias` and `lse = ln Σ exp(x)` of a row: `nll = lse - x[label]`, and the gradient of `Σ nll`,
/// `dh = (exp(x - lse) - onehot(label)) · w`.
#[derive(Clone, Debug, PartialEq)]
pub struct VocabLoss {
    /// Rows whose logits exist at one time; the results do not depend on it.
    pub chunk: usize,
    /// Whether `dh` is a result.
    pub gradient: bool,
    /// What the gradient of the logits is rounded to.
    pub dtype: DType,
}

impl Operation for VocabLoss {
    const NAME: &'static str = "vocab_loss";

    fn from_attributes(attributes: &Attributes) -> Result<Self, AttributeError> {
        attributes.only(&["chunk", "gradient", "dtype"])?;
        Ok(Self {
            chunk: attributes.get_int("chunk")?,
            gradient: attributes.get_flag("gradient")?,
            dtype: attributes.get_float_type("dtype")?,
        })
    }

    fn attributes(&self) -> Attributes {
        Attributes::new()
            .int("chunk", self.chunk)
            .int("gradient", usize::from(self.gradient))
            .word("dtype", self.dtype.name())
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [h, w, bias, labels] = check::operands(operands)?;
        if self.chunk == 0 {
            return Err(check::attribute("chunk", 0, "at least one row is in a chunk"));
        }
        check::float(0, h, 2)?;
        check::float(1, w, 2)?;
        let vocabulary = check::weight((1, w), h.dims[1], w)?;
        check::f32_of(2, bias, &[vocabulary])?;
        check::index_vector(3, labels, h.dims[0])?;
        let mut results = vec![TensorType::f32(&h.dims[..1])];
        results.extend(self.gradient.then(|| TensorType::f32(h.dims.clone())));
        Ok(results)
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(ONLY_AFTER_FUSION)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let (h, w, bias) = (operands[0].floats()?, operands[1].floats()?, operands[2].floats()?);
        let labels = operands[3].ints()?;
        let (rows, width, vocabulary) = (operands[0].dims[0], operands[0].dims[1], operands[1].dims[0]);
        let (mut nll, mut dh) = (Vec::with_capacity(rows), Vec::new());
        for row in 0..rows {
            let h = &h[row * width..(row + 1) * width];
            let label = index_below("label", labels[row], vocabulary)?;
            let mut logits = Vec::with_capacity(vocabulary);
            for v in 0..vocabulary {
                let mut sum = F::zero();
                for d in 0..width {
                    sum = sum + h[d] * w[v * width + d];
                }
                logits.push(sum + bias[v]);
            }
            let max = logits.iter().copied().fold(F::neg_infinity(), F::max);
            let lse = max + logits.iter().map(|&x| (x - max).exp()).sum::<F>().ln();
            nll.push(lse - logits[label]);
            if self.gradient {
                let mut sums = vec![F::zero(); width];
                for (v, &x) in logits.iter().enumerate() {
                    let onehot = if v == label { F::one() } else { F::zero() };
                    let dlogit = round_to((x - lse).exp() - onehot, self.dtype);
                    for (d, sum) in sums.iter_mut().enumerate() {
                        *sum = *sum + dlogit * w[v * width + d];
                    }
                }
                dh.extend(sums);
            }
        }
        let mut results = vec![Tensor::float([rows], nll)];
        results.extend(self.gradient.then(|| Tensor::float([rows, width], dh)));
        Ok(results)
    }

    /// One product or two, the bias, the loss, and the logits' gradient.
    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        const LOSS: u64 = 3; // x - max, exp, the sum
        const LOSS_OF_ROW: u64 = 3; // ln, + max, - x[label]
        const GRADIENT: u64 = 2; // x - lse, exp
        const GRADIENT_OF_ROW: u64 = 1; // - 1 at the label
        let (rows, width) = (operands[0].dims[0].bound as u64, operands[0].dims[1].bound as u64);
        let vocabulary = operands[1].dims[0].bound as u64;
        let forward = rows * vocabulary * (2 * width + 1 + LOSS) + rows * LOSS_OF_ROW;
        let backward = rows * vocabulary * (GRADIENT + 2 * width) + rows * GRADIENT_OF_ROW;
        forward + if self.gradient { backward } else { 0 }
    }

    /// The logits of a chunk, which their gradient replaces.
    fn workspace(&self, operands: &[&TensorType], _results: &[&TensorType]) -> Vec<TensorType> {
        let rows = self.chunk.min(operands[0].dims[0].bound);
        vec![TensorType::f32([rows.into(), operands[1].dims[0]])]
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Dim;

    #[test]
    fn a_chunk_of_logits_is_the_workspace() {
        let op = VocabLoss { chunk: 2, gradient: true, dtype: DType::Bf16 };
        assert_eq!(VocabLoss::from_attributes(&op.attributes()), Ok(op.clone()));
        let h = TensorType::f32([Dim::rows(5), 3.into()]);
        let (w, bias) = (TensorType::f32([7.into(), 3.into()]), TensorType::f32([Dim::fixed(7)]));
        let labels = TensorType::i32([Dim::rows(5)]);
        let operands = [&h, &w, &bias, &labels];
        let results = op.infer(&operands).unwrap();
        assert_eq!(results, [TensorType::f32([Dim::rows(5)]), h.clone()]);
        let results: Vec<_> = results.iter().collect();
        assert_eq!(op.workspace(&operands, &results), [TensorType::f32([2.into(), 7.into()])]);
        let large = VocabLoss { chunk: 100, ..op.clone() };
        assert_eq!(large.workspace(&operands, &results), [TensorType::f32([5.into(), 7.into()])]);
        // Two products; bias, loss and gradient of each logit; what each row has.
        assert_eq!(op.flops(&operands, &results), 2 * (2 * 5 * 7 * 3) + 5 * 7 * (1 + 3 + 2) + 5 * (3 + 1));
        let alone = VocabLoss { gradient: false, ..op.clone() };
        assert_eq!(alone.infer(&operands), Ok(vec![TensorType::f32([Dim::rows(5)])]));
        assert_eq!(alone.flops(&operands, &results[..1]), 2 * 5 * 7 * 3 + 5 * 7 * (1 + 3) + 5 * 3);
        let error = VocabLoss { chunk: 0, ..op.clone() }.infer(&operands).unwrap_err().to_string();
        assert_eq!(error, "attribute `chunk` = 0: at least one row is in a chunk");
        let error = op.infer(&[&h, &bias, &bias, &labels]).unwrap_err().to_string();
        assert_eq!(error, "operand 1: expected a floating-point tensor of rank 2, found f32[7]");
    }
}
