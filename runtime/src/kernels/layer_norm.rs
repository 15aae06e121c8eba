//! Layer normalisation, its input gradient, and the gradients of its weight and bias per window.
//!
//! # Numerics
//! `x`, parameters and gradients are f32; `dy` may be bf16, and `y` is rounded once, to the attribute's type. Statistics
//! are sums in ascending order over the row: mean first, then the biased variance of the differences.

use super::elementwise::{add_assign, leading};
use super::rowwise::{RowKernel, elements, table_range};
use super::{Call, Kernel, KernelError};
use gptjc_graphs::dtype::DType::{F32, I32};

/// `y = (x - mean) * rstd * weight + bias` for one row of D elements; returns mean and 1 / standard deviation.
pub fn layer_norm_row(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32, y: &mut [f32]) -> (f32, f32) {
    let count = x.len() as f32;
    let mean = x.iter().sum::<f32>() / count;
    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / count;
    let rstd = 1.0 / (variance + epsilon).sqrt();
    for (((y, x), weight), bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
        *y = (x - mean) * rstd * weight + bias;
    }
    (mean, rstd)
}

/// `dx` of one row: `rstd * (g - mean(g) - h * mean(g * h))` with `g = dy * weight` and `h = (x - mean) * rstd`.
pub fn layer_norm_grad_row(dy: &[f32], x: &[f32], weight: &[f32], mean: f32, rstd: f32, dx: &mut [f32]) {
    let count = x.len() as f32;
    let (mut sum_g, mut sum_gh) = (0.0, 0.0);
    for ((dy, x), weight) in dy.iter().zip(x).zip(weight) {
        let g = dy * weight;
        sum_g += g;
        sum_gh += g * ((x - mean) * rstd);
    }
    let (mean_g, mean_gh) = (sum_g / count, sum_gh / count);
    for (((dx, dy), x), weight) in dx.iter_mut().zip(dy).zip(x).zip(weight) {
        *dx = rstd * (dy * weight - mean_g - (x - mean) * rstd * mean_gh);
    }
}

/// Adds one row's part to the gradients: `dweight += dy * (x - mean) * rstd`, `dbias += dy`.
pub fn layer_norm_param_grad_row(
    dy: &[f32],
    x: &[f32],
    mean: f32,
    rstd: f32,
    dweight: &mut [f32],
    dbias: &mut [f32],
) {
    for (((dy, x), dweight), dbias) in dy.iter().zip(x).zip(dweight).zip(dbias) {
        *dweight += dy * ((x - mean) * rstd);
        *dbias += dy;
    }
}

pub(super) fn bind_forward(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let of_y = call.float_type("dtype")?;
    let ([x, weight, bias], [y, mean, rstd]) = call.views([F32, F32, F32], [of_y, F32, F32])?;
    let (width, epsilon) = (x.row_elements(), call.float("epsilon")? as f32);
    Ok(RowKernel::with_scratch(leading(&x), call.partition.rows, width, move |rows, _, scratch| {
        // SAFETY: the promises of `run_tile`.
        unsafe {
            let (weight, bias) = (weight.read(0..width), bias.read(0..width));
            let (mean, rstd) = (mean.write::<f32>(rows.clone()), rstd.write::<f32>(rows.clone()));
            for (index, row) in rows.enumerate() {
                let x = x.read(row * width..(row + 1) * width);
                let out = &mut scratch[..width];
                (mean[index], rstd[index]) = layer_norm_row(x, weight, bias, epsilon, out);
                y.store(row * width, out);
            }
        }
    }))
}

pub(super) fn bind_grad(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
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
    Ok(RowKernel::with_scratch(leading(&x), call.partition.rows, width, move |rows, _, scratch| {
        // SAFETY: the promises of `run_tile`.
        unsafe {
            let weight = weight.read(0..width);
            for row in rows {
                let range = row * width..(row + 1) * width;
                let (mean, rstd) = (mean.read::<f32>(row..row + 1)[0], rstd.read::<f32>(row..row + 1)[0]);
                let of_row = &mut scratch[..width];
                dy.load(range.start, of_row);
                let out = dx.write(range.clone());
                layer_norm_grad_row(of_row, x.read(range.clone()), weight, mean, rstd, out);
                if let Some(residual) = &residual {
                    add_assign(out, residual.read(range));
                }
            }
        }
    }))
}

pub(super) fn bind_param_grad(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
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
                    dy.load(range.start, of_row);
                    layer_norm_param_grad_row(of_row, x.read(range), mean, rstd, dweight, dbias);
                }
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Batch, Case, U, few};
    use gptjc_graphs::ops::layer_norm as ops;
    use proptest::prelude::*;

    /// x, weight and bias of `[slots, width]`.
    fn forward(seed: u64, width: usize) -> (Batch, Case) {
        let mut batch = Batch::new(seed, 7);
        let dims = [batch.slots(), width.into()];
        let operands = vec![batch.f32(&dims), batch.f32(&dims[1..]), batch.f32(&dims[1..])];
        let case = Case::new(ops::LayerNorm::new(1e-5), batch.extents(), operands);
        (batch, case)
    }

    /// Bounds of y, mean and rstd, from k + 1 roundings of the mean and k + 2 of the variance.
    fn forward_bounds(case: &Case, expected: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let width = case.floats(1).len();
        let k = width as f64;
        let mut bounds = vec![Vec::new(); 3];
        for (row, x) in case.floats(0).chunks_exact(width).enumerate() {
            let largest = x.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
            let rstd = expected[2][row];
            // A mean of k numbers, and a difference from it.
            let (mean, difference) = ((k + 1.0) * U * largest, (k + 3.0) * U * largest);
            let relative = difference * rstd + (k / 2.0 + 4.0) * U; // of rstd, by the error of the variance
            bounds[1].push(mean);
            bounds[2].push(relative * rstd);
            for column in 0..width {
                let normalised = (x[column] - expected[1][row]).abs() * rstd;
                let (weight, bias) = (case.floats(1)[column].abs(), case.floats(2)[column].abs());
                let of_normalised = difference * rstd + normalised * (relative + 2.0 * U);
                bounds[0].push(weight * of_normalised + 2.0 * U * (weight * normalised + bias));
            }
        }
        bounds
    }

    proptest! {
        #![proptest_config(few())]

        #[test]
        fn rows_are_normalised(seed: u64, width in 1usize..70, rows in 1u32..9) {
            forward(seed, width).1.tile(rows, 0).check(forward_bounds);
        }

        #[test]
        fn gradients_are_those_of_the_op(seed: u64, width in 1usize..70, rows in 1u32..9) {
            let (mut batch, case) = forward(seed, width);
            let (dims, k) = ([batch.slots(), width.into()], width as f64);
            let (dy, used) = (batch.f32(&dims), [batch.extents().slots]);
            let [_, mean, rstd] = case.evaluate(|_, x| x).try_into().unwrap();
            let [mean, rstd] = [mean, rstd].map(|of_row| Batch::given(&dims[..1], &used, of_row));
            let [x, weight] = [case.operands[0].clone(), case.operands[1].clone()];
            let table = batch.window_table();
            let operands = vec![dy.clone(), x.clone(), mean.clone(), rstd.clone(), table];
            let parameters = Case::new(ops::LayerNormParamGrad, batch.extents(), operands).tile(rows, 0);
            parameters.check(|case, _| {
                // With `-|mean|` the differences from it are sums of magnitudes; 4 roundings a product, 7 tokens.
                let mut bounds = case.evaluate(|operand, x| if operand == 2 { -x.abs() } else { x.abs() });
                bounds.iter_mut().flatten().for_each(|bound| *bound *= 11.0 * U);
                bounds
            });
            let operands = vec![dy, x, weight, mean, rstd];
            Case::new(ops::LayerNormGrad, batch.extents(), operands).tile(rows, 0).check(|case, _| {
                let bound = |(element, x): (usize, &f64)| {
                    let (mean, rstd) = (case.floats(3)[element / width], case.floats(4)[element / width]);
                    // Of a normalised row the squares sum to at most k, and |g| is at most 1: so no mean exceeds 1.
                    rstd * U * (k + 12.0) * (1.0 + 1.0 + (x - mean).abs() * rstd)
                };
                vec![case.floats(1).iter().enumerate().map(bound).collect()]
            });
        }
    }
}
