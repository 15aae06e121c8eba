//! Layer normalisation, its input gradient, and the gradients of its weight and bias per window.
//!
//! # Numerics
//! Statistics are sums in ascending order over the row: mean first, then the biased variance of the differences.

use super::elementwise::leading;
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
    let ([x, weight, bias], [y, mean, rstd]) = call.views([F32, F32, F32], [F32, F32, F32])?;
    let (width, epsilon) = (x.row_elements(), call.float("epsilon")? as f32);
    Ok(RowKernel::boxed(leading(&x), call.partition.rows, move |rows, _, _| {
        // SAFETY: the promises of `run_tile`.
        unsafe {
            let (weight, bias) = (weight.read(0..width), bias.read(0..width));
            let (mean, rstd) = (mean.write::<f32>(rows.clone()), rstd.write::<f32>(rows.clone()));
            for (index, row) in rows.enumerate() {
                let range = row * width..(row + 1) * width;
                let out = y.write(range.clone());
                (mean[index], rstd[index]) = layer_norm_row(x.read(range), weight, bias, epsilon, out);
            }
        }
    }))
}

pub(super) fn bind_grad(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([dy, x, weight, mean, rstd], [dx]) = call.views([F32, F32, F32, F32, F32], [F32])?;
    let width = x.row_elements();
    Ok(RowKernel::boxed(leading(&x), call.partition.rows, move |rows, _, _| {
        // SAFETY: the promises of `run_tile`.
        unsafe {
            let weight = weight.read(0..width);
            for row in rows {
                let range = row * width..(row + 1) * width;
                let (mean, rstd) = (mean.read::<f32>(row..row + 1)[0], rstd.read::<f32>(row..row + 1)[0]);
                let out = dx.write(range.clone());
                layer_norm_grad_row(dy.read(range.clone()), x.read(range), weight, mean, rstd, out);
            }
        }
    }))
}

pub(super) fn bind_param_grad(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([dy, x, mean, rstd, table], [dweight, dbias]) = call.views([F32, F32, F32, F32, I32], [F32, F32])?;
    let width = x.row_elements();
    Ok(RowKernel::boxed(leading(&dweight), 1, move |windows, _, _| {
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
                    let (dy, x) = (dy.read(range.clone()), x.read(range));
                    layer_norm_param_grad_row(dy, x, mean, rstd, dweight, dbias);
                }
            }
        }
    }))
}
