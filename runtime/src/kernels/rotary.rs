//! Rotary positions, interleaved, on the first lanes of each head. Source: Su et al. 2021, RoFormer; lanes paired as in
//! GPT-J.
//!
//! # Numerics
//! Two products and a sum a lane, each rounded. Tables: angle in f32 as transformers computes it, sine and cosine of
//! that angle in f64, rounded once.

use super::elementwise::{leading, start_from};
use super::rowwise::{RowKernel, elements};
use super::{Call, Kernel, KernelError};
use gptjc_graphs::dtype::DType::{F32, I32};
use gptjc_graphs::shape::Dim;

/// Angles of `positions` positions, `[positions, rotary_dim / 2]`.
fn angle(position: usize, pair: usize, rotary_dim: usize) -> f32 {
    let exponent = (2 * pair) as f32 / rotary_dim as f32;
    // 10000^x in f64 and rounded: bit for bit what torch gives for the dimensions in use.
    let frequency = 1.0 / (libm::pow(10000.0, f64::from(exponent)) as f32);
    position as f32 * frequency
}

/// Sines and cosines, `[positions, rotary_dim / 2]` each.
pub fn rotary_table(rotary_dim: usize, sin: &mut [f32], cos: &mut [f32]) {
    let pairs = rotary_dim / 2;
    for (index, (sin, cos)) in sin.iter_mut().zip(cos).enumerate() {
        let angle = f64::from(angle(index / pairs, index % pairs, rotary_dim));
        (*sin, *cos) = (libm::sin(angle) as f32, libm::cos(angle) as f32);
    }
}

/// Rotates the first `2 * sin.len()` lanes of each head of one row, in place; `sign` -1 turns back.
pub fn rotary_row(row: &mut [f32], heads: usize, sin: &[f32], cos: &[f32], sign: f32) {
    for head in row.chunks_exact_mut(row.len() / heads) {
        for ((pair, sin), cos) in head.chunks_exact_mut(2).zip(sin).zip(cos) {
            let (a, b, sin) = (pair[0], pair[1], sign * sin);
            pair[0] = a * cos - b * sin;
            pair[1] = b * cos + a * sin;
        }
    }
}

pub(super) fn bind_table(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([], [sin, cos]) = call.views([], [F32, F32])?;
    let (rotary_dim, size) = (call.int("rotary_dim")?, sin.ty().elements());
    Ok(RowKernel::boxed(Dim::fixed(1), 1, move |_, _, _| {
        // SAFETY: the promises of `run_tile`; there is one tile.
        unsafe { rotary_table(rotary_dim, sin.write(0..size), cos.write(0..size)) }
    }))
}

pub(super) fn bind_rotary(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([x, position, sin, cos], [y]) = call.views([F32, I32, F32, F32], [F32])?;
    let (width, pairs, table) = (y.row_elements(), sin.row_elements(), sin.ty().elements());
    let heads = call.int("heads")?;
    let sign = if call.int("inverse")? == 1 { -1.0 } else { 1.0 };
    Ok(RowKernel::boxed(leading(&y), call.partition.rows, move |rows, _, _| {
        // SAFETY: the promises of `run_tile`.
        unsafe {
            let out = start_from::<f32>(&x, &y, elements(&rows, width));
            let (sin, cos) = (sin.read_to::<f32>(table), cos.read_to::<f32>(table));
            for (row, &position) in out.chunks_exact_mut(width).zip(position.read::<i32>(rows)) {
                let range = elements(&(position as usize..position as usize + 1), pairs);
                rotary_row(row, heads, &sin[range.clone()], &cos[range], sign);
            }
        }
    }))
}
