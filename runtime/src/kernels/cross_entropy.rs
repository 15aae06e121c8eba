//! Cross entropy of rows of logits, and its gradient.
//!
//! # Numerics
//! `lse = max + ln(sum exp(x - max))`, the sum ascending; `nll = lse - x[label]`.

use super::elementwise::{leading, start_from};
use super::rowwise::{RowKernel, elements};
use super::{Call, Kernel, KernelError};
use gptjc_graphs::dtype::DType::{F32, I32};

/// (negative log-likelihood, log of the sum of exponentials) of one row of V logits.
pub fn cross_entropy_row(logits: &[f32], label: usize) -> (f32, f32) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for x in logits {
        sum += libm::expf(x - largest);
    }
    let lse = largest + libm::logf(sum);
    (lse - logits[label], lse)
}

/// Turns one row of logits into its gradient: `(exp(x - lse) - [x is the label]) * dnll`.
pub fn cross_entropy_grad_row(row: &mut [f32], label: usize, lse: f32, dnll: f32) {
    for (index, x) in row.iter_mut().enumerate() {
        let one_hot = if index == label { 1.0 } else { 0.0 };
        *x = (libm::expf(*x - lse) - one_hot) * dnll;
    }
}

pub(super) fn bind_forward(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([logits, labels], [nll, lse]) = call.views([F32, I32], [F32, F32])?;
    let width = logits.row_elements();
    Ok(RowKernel::boxed(leading(&logits), call.partition.rows, move |rows, _, _| {
        // SAFETY: the promises of `run_tile`.
        unsafe {
            let (nll, lse) = (nll.write::<f32>(rows.clone()), lse.write::<f32>(rows.clone()));
            let labels = labels.read::<i32>(rows.clone());
            let logits = logits.read::<f32>(elements(&rows, width));
            for (index, row) in logits.chunks_exact(width).enumerate() {
                (nll[index], lse[index]) = cross_entropy_row(row, labels[index] as usize);
            }
        }
    }))
}

pub(super) fn bind_grad(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([dnll, logits, labels, lse], [dlogits]) = call.views([F32, F32, I32, F32], [F32])?;
    let width = logits.row_elements();
    Ok(RowKernel::boxed(leading(&logits), call.partition.rows, move |rows, _, _| {
        // SAFETY: the promises of `run_tile`; `dlogits` may lie over `logits`.
        unsafe {
            let out = start_from::<f32>(&logits, &dlogits, elements(&rows, width));
            let (dnll, lse) = (dnll.read::<f32>(rows.clone()), lse.read::<f32>(rows.clone()));
            let labels = labels.read::<i32>(rows);
            for (index, row) in out.chunks_exact_mut(width).enumerate() {
                cross_entropy_grad_row(row, labels[index] as usize, lse[index], dnll[index]);
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
            case.tile(rows, 0).check(|_, expected| {
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
            case.tile(rows, 0).check(|case, _| {
                let bound = |(element, x): (usize, &f64)| {
                    let (dnll, lse) = (case.floats(0)[element / width], case.floats(3)[element / width]);
                    dnll.abs() * U * ((x - lse).exp() * ((x - lse).abs() + 5.0) + 2.0)
                };
                vec![case.floats(1).iter().enumerate().map(bound).collect()]
            });
        }
    }
}
