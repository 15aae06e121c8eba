//! GELU in its tanh form (`gelu_new`) and its gradient. Source: Hendrycks and Gimpel 2016.

use super::elementwise::{leading, start_from};
use super::rowwise::{RowKernel, elements};
use super::{Call, Kernel, KernelError};
use gptjc_graphs::dtype::DType::F32;

const ROOT_2_OVER_PI: f32 = 0.797_884_56;
const CUBIC: f32 = 0.044_715;

/// `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
pub fn gelu_tanh(x: f32) -> f32 {
    0.5 * x * (1.0 + libm::tanhf(ROOT_2_OVER_PI * (x + CUBIC * x * x * x)))
}

/// The derivative of [`gelu_tanh`].
pub fn gelu_tanh_derivative(x: f32) -> f32 {
    let tanh = libm::tanhf(ROOT_2_OVER_PI * (x + CUBIC * x * x * x));
    let inner = ROOT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x);
    0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner
}

pub(super) fn bind_forward(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([x], [y]) = call.views([F32], [F32])?;
    let width = y.row_elements();
    Ok(RowKernel::boxed(leading(&y), call.partition.rows, move |rows, _, _| {
        // SAFETY: the promises of `run_tile`.
        let out = unsafe { start_from::<f32>(&x, &y, elements(&rows, width)) };
        for y in out {
            *y = gelu_tanh(*y);
        }
    }))
}

pub(super) fn bind_grad(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([dy, x], [dx]) = call.views([F32, F32], [F32])?;
    let width = dx.row_elements();
    Ok(RowKernel::boxed(leading(&dx), call.partition.rows, move |rows, _, _| {
        let range = elements(&rows, width);
        // SAFETY: the promises of `run_tile`; `dx` may lie over `dy`, never over `x`.
        let (out, x) = unsafe { (start_from::<f32>(&dy, &dx, range.clone()), x.read::<f32>(range)) };
        for (dx, x) in out.iter_mut().zip(x) {
            *dx *= gelu_tanh_derivative(*x);
        }
    }))
}
