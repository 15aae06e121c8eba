//! Cross entropy of rows of logits, and its gradient.
//!
//! # Numerics
//! `lse = max + ln(sum exp(x - max))`; `nll = lse - x[label]`. Portable: the sum ascends. Vectors: each of 16 lanes adds its
//! elements in ascending order, then the lanes are added in halves.

use super::elementwise::{leading, start_from};
use super::rowwise::{RowKernel, elements};
use super::simd::slices::{fold, map};
use super::simd::{Simd, math};
use super::{Call, Kernel, KernelError, Portable};
use gptjc_graphs::dtype::DType::{F32, I32};

/// What the kernels of this file do to a row of V logits.
pub(crate) trait CrossEntropy: Copy + Send + Sync + 'static {
    /// The largest logit and the sum of `exp(x - largest)`.
    fn sum_of_exponentials(self, logits: &[f32]) -> (f32, f32);

    /// Negative log-likelihood of the label and log of the sum of exponentials.
    fn loss(self, logits: &[f32], label: usize) -> (f32, f32) {
        let (largest, sum) = self.sum_of_exponentials(logits);
        let lse = largest + libm::logf(sum);
        (lse - logits[label], lse)
    }

    /// The logits' gradient in their place: `(exp(x - lse) - [x is the label]) * dnll`.
    fn gradient(self, logits: &mut [f32], label: usize, lse: f32, dnll: f32);
}

impl CrossEntropy for Portable {
    fn sum_of_exponentials(self, logits: &[f32]) -> (f32, f32) {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        (largest, logits.iter().map(|x| libm::expf(x - largest)).sum())
    }

    fn gradient(self, logits: &mut [f32], label: usize, lse: f32, dnll: f32) {
        for (index, x) in logits.iter_mut().enumerate() {
            let one_hot = if index == label { 1.0 } else { 0.0 };
            *x = (libm::expf(*x - lse) - one_hot) * dnll;
        }
    }
}

impl<S: Simd> CrossEntropy for S {
    fn sum_of_exponentials(self, logits: &[f32]) -> (f32, f32) {
        let s = self;
        s.call(
            #[inline(always)]
            || {
                let lowest = f32::NEG_INFINITY;
                let largest = fold(
                    s,
                    logits,
                    lowest,
                    s.splat(lowest),
                    #[inline(always)]
                    |most, x| s.max(most, x),
                );
                let largest = s.largest(largest);
                let of_largest = s.splat(largest);
                let sums = fold(
                    s,
                    logits,
                    lowest,
                    s.splat(0.0),
                    #[inline(always)]
                    |sum, x| s.add(sum, math::exp(s, s.sub(x, of_largest))),
                );
                (largest, s.sum(sums))
            },
        )
    }

    fn gradient(self, logits: &mut [f32], label: usize, lse: f32, dnll: f32) {
        let s = self;
        s.call(
            #[inline(always)]
            || {
                let (of_lse, of_dnll) = (s.splat(lse), s.splat(dnll));
                // A lane does not depend on its place: the label's exponential is that of the others.
                let at_label = math::exp(s, s.splat(logits[label] - lse));
                map(
                    s,
                    logits,
                    #[inline(always)]
                    |x| s.mul(math::exp(s, s.sub(x, of_lse)), of_dnll),
                );
                logits[label] = (s.floats(at_label)[0] - 1.0) * dnll;
            },
        );
    }
}

pub(super) fn bind_forward(
    call: &Call,
    arithmetic: impl CrossEntropy,
) -> Result<Box<dyn Kernel>, KernelError> {
    let ([logits, labels], [nll, lse]) = call.views([F32, I32], [F32, F32])?;
    let width = logits.row_elements();
    Ok(RowKernel::boxed(leading(&logits), call.partition.rows, move |rows, _, _| {
        // SAFETY: the promises of `run_tile`.
        unsafe {
            let (nll, lse) = (nll.write::<f32>(rows.clone()), lse.write::<f32>(rows.clone()));
            let labels = labels.read::<i32>(rows.clone());
            let logits = logits.read::<f32>(elements(&rows, width));
            for (index, row) in logits.chunks_exact(width).enumerate() {
                (nll[index], lse[index]) = arithmetic.loss(row, labels[index] as usize);
            }
        }
    }))
}

pub(super) fn bind_grad(call: &Call, arithmetic: impl CrossEntropy) -> Result<Box<dyn Kernel>, KernelError> {
    let ([dnll, logits, labels, lse], [dlogits]) = call.views([F32, F32, I32, F32], [F32])?;
    let width = logits.row_elements();
    Ok(RowKernel::boxed(leading(&logits), call.partition.rows, move |rows, _, _| {
        // SAFETY: the promises of `run_tile`; `dlogits` may lie over `logits`.
        unsafe {
            let (dnll, lse) = (dnll.read::<f32>(rows.clone()), lse.read::<f32>(rows.clone()));
            let labels = labels.read::<i32>(rows.clone());
            for (index, row) in rows.enumerate() {
                let out = start_from::<f32>(&logits, &dlogits, row * width..(row + 1) * width);
                arithmetic.gradient(out, labels[index] as usize, lse[index], dnll[index]);
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Batch, Case, U, few};
    use gptjc_graphs::ops::cross_entropy as ops;
    use proptest::prelude::*;

    /// Logits of up to this magnitude.
    const LARGEST: f64 = 20.0;

    /// Absolute error of a log of a sum of exponentials: differences of up to 40, k + 3 roundings in the sum, those of
    /// the logarithm and of two sums.
    fn lse_bound(width: usize) -> f64 {
        U * (2.0 * LARGEST
            + width as f64
            + 3.0
            + 2.0 * (width as f64).ln()
            + 2.0 * (LARGEST + (width as f64).ln()))
    }

    fn forward(seed: u64, width: usize) -> (Batch, Case) {
        let mut batch = Batch::new(seed, 9);
        let dims = [batch.rows(), width.into()];
        let (ty, logits) = batch.f32(&dims);
        let logits = logits.floats().unwrap().iter().map(|x| LARGEST * x).collect();
        let used = ty.used(&batch.extents());
        let labels = batch.indices(batch.rows(), width);
        let case =
            Case::new(ops::CrossEntropy, batch.extents(), vec![Batch::given(&dims, &used, logits), labels]);
        (batch, case)
    }

    proptest! {
        #![proptest_config(few())]

        #[test]
        fn the_loss_is_that_of_the_op(seed: u64, width in 1usize..70, rows in 1u32..9) {
            let (_, case) = forward(seed, width);
            case.tile(rows, 0).vector().check(|_, expected| {
                let bound = lse_bound(width);
                vec![vec![bound + 3.0 * LARGEST * U; expected[0].len()], vec![bound; expected[1].len()]]
            });
        }

        #[test]
        fn the_gradient_is_that_of_the_op(seed: u64, width in 1usize..70, rows in 1u32..9) {
            let (mut batch, case) = forward(seed, width);
            let lse = case.evaluate(|_, x| x).remove(1);
            let dim = batch.rows();
            let dnll = batch.f32(&[dim]);
            let [logits, labels] = [case.operands[0].clone(), case.operands[1].clone()];
            let lse = Batch::given(&[dim], &[batch.extents().rows], lse);
            let case = Case::new(ops::CrossEntropyGrad, batch.extents(), vec![dnll, logits, labels, lse]);
            case.tile(rows, 0).vector().check(|case, _| {
                let bound = |(element, x): (usize, &f64)| {
                    let (dnll, lse) = (case.floats(0)[element / width], case.floats(3)[element / width]);
                    dnll.abs() * U * ((x - lse).exp() * ((x - lse).abs() + 5.0) + 2.0)
                };
                vec![case.floats(1).iter().enumerate().map(bound).collect()]
            });
        }
    }
}
