//! Softmax over the band of each row, and its gradient.
//!
//! # Numerics
//! The largest score is subtracted; the sum of exponentials ascends; one division an element.

use super::elementwise::leading;
use super::rowwise::RowKernel;
use super::segment_matmul::Queries;
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
    let ([s, segment, table], labelled, [p]) = call.views_of_queries([F32, I32, I32], [F32])?;
    let queries = Queries { segment, table, labelled };
    let (heads, window) = (s.ty().dims[1].bound, s.ty().dims[2].bound);
    Ok(RowKernel::boxed(leading(&s), call.partition.rows, move |rows, _, _| {
        for row in rows {
            // SAFETY: the promises of `run_tile`; row `row` of `p` is this tile's own, and other memory than `s`.
            unsafe {
                let (_, keys) = queries.band(row, window);
                for head in 0..heads {
                    let start = (row * heads + head) * window;
                    softmax_row(s.read(start..start + keys), p.write(start..start + keys));
                }
            }
        }
    }))
}

pub(super) fn bind_grad(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([dp, p, segment, table], labelled, [ds]) = call.views_of_queries([F32, F32, I32, I32], [F32])?;
    let queries = Queries { segment, table, labelled };
    let (heads, window) = (p.ty().dims[1].bound, p.ty().dims[2].bound);
    Ok(RowKernel::boxed(leading(&p), call.partition.rows, move |rows, _, _| {
        for row in rows {
            // SAFETY: the promises of `run_tile`; row `row` of `ds` is this tile's own, and other memory than the operands.
            unsafe {
                let (_, keys) = queries.band(row, window);
                for head in 0..heads {
                    let start = (row * heads + head) * window;
                    let range = start..start + keys;
                    softmax_grad_row(dp.read(range.clone()), p.read(range.clone()), ds.write(range));
                }
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Batch, Case, U, few};
    use gptjc_graphs::ops::masked_softmax as ops;
    use proptest::prelude::*;

    /// Scores of up to this magnitude.
    const LARGEST: f64 = 10.0;

    proptest! {
        #![proptest_config(few())]

        #[test]
        fn a_row_is_the_softmax_of_its_band(seed: u64, heads in 1usize..4, wider in 0usize..3, rows in 1u32..9) {
            let window = 9 + wider;
            let mut batch = Batch::new(seed, 9);
            for labelled in [false, true] {
                let dims = [batch.queries(labelled), heads.into(), window.into()];
                let (ty, s) = batch.f32(&dims);
                let s = s.floats().unwrap().iter().map(|s| LARGEST * s).collect();
                let s = Batch::given(&dims, &ty.used(&batch.extents()), s);
                let operands = [vec![s], batch.query_tables(labelled)].concat();
                let mut case = Case::new(ops::MaskedSoftmax, batch.extents(), operands).tile(rows, 0);
                case.written = Some(batch.band(labelled, heads, window));
                // Differences of up to 20, an exponential, a sum of 9, a division; above and below the line.
                let relative = U * (2.0 * (2.0 * LARGEST + 2.0) + 9.0 + 1.0);
                case.check(|_, expected| vec![expected[0].iter().map(|p| relative * p).collect()]);
            }
        }

        #[test]
        fn a_gradient_sums_over_the_band(seed: u64, heads in 1usize..4, rows in 1u32..9) {
            let window = 9;
            let mut batch = Batch::new(seed, 9);
            for labelled in [false, true] {
                let dims = [batch.queries(labelled), heads.into(), window.into()];
                let (dp, p) = (batch.f32(&dims), batch.f32(&dims));
                let operands = [vec![dp, p], batch.query_tables(labelled)].concat();
                let mut case = Case::new(ops::MaskedSoftmaxGrad, batch.extents(), operands).tile(rows, 0);
                case.written = Some(batch.band(labelled, heads, window));
                // A sum of at most 9 products of at most 1, a difference and a product.
                let bound = |p: &f64| p.abs() * U * ((9.0 + 3.0) * 9.0 + 2.0);
                case.check(|case, _| vec![case.floats(1).iter().map(bound).collect()]);
            }
        }
    }
}
