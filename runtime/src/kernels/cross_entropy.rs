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
