//! Gradient norm, clipping and AdamW.
//!
//! # Numerics
//! AdamW in f32, in the order of operations of `torch.optim.AdamW`; the sum of squares in f64, ascending, rounded once.

use super::rowwise::RowKernel;
use super::{Call, Kernel, KernelError};
use crate::kernels::elementwise::start_from;
use gptjc_graphs::dtype::DType::{F32, I32};
use gptjc_graphs::hyper;
use gptjc_graphs::shape::{Dim, Extent};

/// Added to the norm before dividing by it, as `torch.nn.utils.clip_grad_norm_` does.
const NORM_EPSILON: f32 = 1e-6;

/// Sum of the squares of `g`.
pub fn sum_squares(g: &[f32]) -> f32 {
    g.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>() as f32
}

/// (what a summed gradient is multiplied by, the norm of the mean gradient) from the sum of squares over everything,
/// the number of labelled tokens and the largest norm allowed.
pub fn clip_scale(sum: f32, labelled: i32, max_norm: f32) -> (f32, f32) {
    let count = labelled.max(1) as f32;
    let norm = sum.sqrt() / count;
    let clipped = max_norm / (norm + NORM_EPSILON);
    // Not `min`: a norm that is not a number must show in the gradients.
    let factor = if max_norm <= 0.0 || clipped >= 1.0 { 1.0 } else { clipped };
    (factor / count, norm)
}

/// One AdamW step on `p` with moments `m` and `v`, all in place; the gradient is `g * scale`.
pub fn adamw(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], scale: f32, h: &[f32]) {
    for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        let g = g * scale;
        *p *= h[hyper::DECAY];
        *m += (g - *m) * h[hyper::ONE_MINUS_BETA1];
        *v = *v * h[hyper::BETA2] + h[hyper::ONE_MINUS_BETA2] * g * g;
        let denominator = v.sqrt() / h[hyper::SQRT_BIAS_CORRECTION2] + h[hyper::EPSILON];
        *p -= h[hyper::STEP_SIZE] * *m / denominator;
    }
}

pub(super) fn bind_sum_squares(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([g], [sum]) = call.views([F32], [F32])?;
    let size = g.ty().elements();
    if g.ty().dims.iter().any(|dim| dim.extent != Extent::Fixed) {
        return Err(call.refuse(format!("{}, of which a batch may use a part only", g.ty())));
    }
    Ok(RowKernel::boxed(Dim::fixed(1), 1, move |_, _, _| {
        // SAFETY: the promises of `run_tile`; there is one tile.
        unsafe { sum.write::<f32>(0..1)[0] = sum_squares(g.read(0..size)) }
    }))
}

pub(super) fn bind_clip_scale(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let [scale, norm] = call.results()?;
    let [totals, hyper_view, sums @ ..] = call.operands.as_slice() else {
        return Err(call.refuse(format!("{} operands", call.operands.len())));
    };
    call.check_types("result", &call.results, &[F32, F32])?;
    call.check_types("operand", &call.operands, &[I32, F32])?;
    call.check_types("operand", &call.operands[2..], &vec![F32; sums.len()])?;
    let (totals, hyper_view, sums) = (totals.clone(), hyper_view.clone(), sums.to_vec());
    Ok(RowKernel::boxed(Dim::fixed(1), 1, move |_, _, _| {
        // SAFETY: the promises of `run_tile`; there is one tile.
        unsafe {
            let mut sum = 0.0;
            for part in &sums {
                sum += part.read::<f32>(0..1)[0];
            }
            let labelled = totals.read::<i32>(0..2)[1];
            let max_norm = hyper_view.read_to::<f32>(hyper::LEN)[hyper::MAX_GRAD_NORM];
            (scale.write::<f32>(0..1)[0], norm.write::<f32>(0..1)[0]) = clip_scale(sum, labelled, max_norm);
        }
    }))
}

pub(super) fn bind_adamw(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([p, g, m, v, scale, hyper_view], [p_new, m_new, v_new]) =
        call.views([F32, F32, F32, F32, F32, F32], [F32, F32, F32])?;
    let size = p.ty().elements();
    Ok(RowKernel::boxed(Dim::fixed(size), call.partition.rows, move |range, _, _| {
        // SAFETY: the promises of `run_tile`; each result may lie over its operand, and over no other.
        unsafe {
            let p = start_from::<f32>(&p, &p_new, range.clone());
            let m = start_from::<f32>(&m, &m_new, range.clone());
            let v = start_from::<f32>(&v, &v_new, range.clone());
            let scale = scale.read::<f32>(0..1)[0];
            adamw(p, g.read(range), m, v, scale, hyper_view.read_to(hyper::LEN));
        }
    }))
}
