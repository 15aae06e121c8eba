//! Layer normalisation, its input gradient, and the gradients of its weight and bias per window.
//!
//! # Numerics
//! `x`, parameters and gradients are f32; `dy` may be bf16, and `y` is rounded once, to the attribute's type. Statistics
//! are the mean first, then the biased variance of the differences. Portable: sums in ascending order over the row; those
//! of vectors are in `vector`.

mod portable;
#[cfg(test)]
mod tests;
mod vector;

use super::elementwise::{Elementwise, leading, load_row, store_row};
use super::rowwise::{RowKernel, elements, table_range};
use super::{Call, Kernel, KernelError};
use gptjc_graphs::dtype::DType::{F32, I32};

/// An operand's row and its statistics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowOf<'a> {
    x: &'a [f32],
    mean: f32,
    rstd: f32,
}

/// What the kernels do to a row of D elements.
pub(crate) trait LayerNorm: Elementwise {
    /// `x = (x - mean) * rstd * weight + bias`; returns mean and 1 / standard deviation.
    fn forward(self, x: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) -> (f32, f32);

    /// `dy = rstd * (g - mean(g) - h * mean(g * h))` with `g = dy * weight` and `h = (x - mean) * rstd`.
    fn grad(self, dy: &mut [f32], row: RowOf<'_>, weight: &[f32]);

    /// Adds one row's part to the gradients: `dweight += dy * (x - mean) * rstd`, `dbias += dy`.
    fn param_grad(self, dy: &[f32], row: RowOf<'_>, dweight: &mut [f32], dbias: &mut [f32]);
}

pub(super) fn bind_forward(call: &Call, arithmetic: impl LayerNorm) -> Result<Box<dyn Kernel>, KernelError> {
    let of_y = call.float_type("dtype")?;
    let ([x, weight, bias], [y, mean, rstd]) = call.views([F32, F32, F32], [of_y, F32, F32])?;
    let (width, epsilon) = (x.row_elements(), call.float("epsilon")? as f32);
    Ok(RowKernel::with_scratch(leading(&x), call.partition.rows, width, move |rows, _, scratch| {
        // SAFETY: the promises of `run_tile`.
        unsafe {
            let (weight, bias) = (weight.read(0..width), bias.read(0..width));
            let (mean, rstd) = (mean.write::<f32>(rows.clone()), rstd.write::<f32>(rows.clone()));
            for (index, row) in rows.enumerate() {
                let out = &mut scratch[..width];
                out.copy_from_slice(x.read(row * width..(row + 1) * width));
                (mean[index], rstd[index]) = arithmetic.forward(out, weight, bias, epsilon);
                store_row(arithmetic, &y, row * width, out);
            }
        }
    }))
}

pub(super) fn bind_grad(call: &Call, arithmetic: impl LayerNorm) -> Result<Box<dyn Kernel>, KernelError> {
    let (first, residual) = call.operands.split_first_chunk().ok_or_else(|| call.refuse_count())?;
    let ([dy, x, weight, mean, rstd], [dx]) = (first.clone(), call.results()?);
    let residual = match residual {
        [] => None,
        [residual] => Some(residual.clone()),
        _ => return Err(call.refuse_count()),
    };
    call.check_float("operand 0", &dy)?;
    call.check_types("operand", first, &[dy.ty().dtype, F32, F32, F32, F32])?;
    call.check_type("result 0", &dx, F32)?;
    residual.iter().try_for_each(|residual| call.check_type("residual", residual, F32))?;
    let width = x.row_elements();
    Ok(RowKernel::boxed(leading(&x), call.partition.rows, move |rows, _, _| {
        // SAFETY: the promises of `run_tile`.
        unsafe {
            let weight = weight.read(0..width);
            for row in rows {
                let range = row * width..(row + 1) * width;
                let (mean, rstd) = (mean.read::<f32>(row..row + 1)[0], rstd.read::<f32>(row..row + 1)[0]);
                let out = dx.write(range.clone());
                load_row(arithmetic, &dy, range.start, out);
                arithmetic.grad(out, RowOf { x: x.read(range.clone()), mean, rstd }, weight);
                if let Some(residual) = &residual {
                    arithmetic.add_assign(out, residual.read(range));
                }
            }
        }
    }))
}

pub(super) fn bind_param_grad(
    call: &Call,
    arithmetic: impl LayerNorm,
) -> Result<Box<dyn Kernel>, KernelError> {
    let [dy, x, mean, rstd, table] = call.operands()?;
    call.check_float("operand 0", &dy)?;
    let (_, [dweight, dbias]) = call.views([dy.ty().dtype, F32, F32, F32, I32], [F32, F32])?;
    let width = x.row_elements();
    Ok(RowKernel::with_scratch(leading(&dweight), 1, width, move |windows, _, scratch| {
        for window in windows {
            // SAFETY: the promises of `run_tile`; a window's gradients are this tile's own.
            unsafe {
                let rows = table_range(table.read_to(2 * window + 2), window);
                let range = elements(&(window..window + 1), width);
                let (dweight, dbias) = (dweight.write::<f32>(range.clone()), dbias.write::<f32>(range));
                dweight.fill(0.0);
                dbias.fill(0.0);
                for row in rows {
                    let range = row * width..(row + 1) * width;
                    let (mean, rstd) = (mean.read::<f32>(row..row + 1)[0], rstd.read::<f32>(row..row + 1)[0]);
                    let of_row = &mut scratch[..width];
                    load_row(arithmetic, &dy, range.start, of_row);
                    let row = RowOf { x: x.read(range), mean, rstd };
                    arithmetic.param_grad(of_row, row, dweight, dbias);
                }
            }
        }
    }))
}
