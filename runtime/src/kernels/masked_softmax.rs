//! Softmax over the band of each row, and its gradient.
//!
//! # Numerics
//! The largest score is subtracted; the sum of exponentials ascends; one division an element.

use super::elementwise::leading;
use super::rowwise::RowKernel;
use super::segment_matmul::band;
use super::{Call, Kernel, KernelError};
use gptjc_graphs::dtype::DType::{F32, I32};

/// `p = softmax(s)` of one row.
pub fn softmax_row(s: &[f32], p: &mut [f32]) {
    let largest = s.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for (p, s) in p.iter_mut().zip(s) {
        *p = libm::expf(s - largest);
        sum += *p;
    }
    for p in p {
        *p /= sum;
    }
}

/// `ds = p * (dp - sum(p * dp))` of one row.
pub fn softmax_grad_row(dp: &[f32], p: &[f32], ds: &mut [f32]) {
    let mut sum = 0.0;
    for (dp, p) in dp.iter().zip(p) {
        sum += p * dp;
    }
    for ((ds, dp), p) in ds.iter_mut().zip(dp).zip(p) {
        *ds = p * (dp - sum);
    }
}

pub(super) fn bind_forward(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([s, segment, table], [p]) = call.views([F32, I32, I32], [F32])?;
    let (heads, window) = (s.ty().dims[1].bound, s.ty().dims[2].bound);
    Ok(RowKernel::boxed(leading(&s), call.partition.rows, move |rows, _, _| {
        for t in rows {
            // SAFETY: the promises of `run_tile`; row `t` of `p` is this tile's own, and other memory than `s`.
            unsafe {
                let (_, keys) = band(&segment, &table, t, window);
                for head in 0..heads {
                    let start = (t * heads + head) * window;
                    softmax_row(s.read(start..start + keys), p.write(start..start + keys));
                }
            }
        }
    }))
}

pub(super) fn bind_grad(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([dp, p, segment, table], [ds]) = call.views([F32, F32, I32, I32], [F32])?;
    let (heads, window) = (p.ty().dims[1].bound, p.ty().dims[2].bound);
    Ok(RowKernel::boxed(leading(&p), call.partition.rows, move |rows, _, _| {
        for t in rows {
            // SAFETY: the promises of `run_tile`; row `t` of `ds` is this tile's own, and other memory than the operands.
            unsafe {
                let (_, keys) = band(&segment, &table, t, window);
                for head in 0..heads {
                    let start = (t * heads + head) * window;
                    let range = start..start + keys;
                    softmax_grad_row(dp.read(range.clone()), p.read(range.clone()), ds.write(range));
                }
            }
        }
    }))
}
