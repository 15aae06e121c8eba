//! Rotary positions, interleaved, on the first lanes of each head. Source: Su et al. 2021, RoFormer; lanes paired as in
//! GPT-J.
//!
//! # Numerics
//! Two products and a sum a lane, each rounded; with vectors, the sum is fused with the first of them. Tables: angle in
//! f32 as transformers computes it, sine and cosine of that angle in f64, rounded once.

use super::elementwise::{leading, start_from};
use super::rowwise::{RowKernel, elements};
use super::simd::Simd;
use super::simd::slices::map_with2;
use super::{Call, Kernel, KernelError, Portable};
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

/// What the kernels of this file do to a row.
pub(crate) trait Rotary: Copy + Send + Sync + 'static {
    /// Rotates the first `2 * sin.len()` lanes of each head of a row, in place; `sign` -1 turns back. `scratch` has four
    /// elements for each pair of lanes.
    fn rotate(self, row: &mut [f32], heads: usize, sin: &[f32], cos: &[f32], sign: f32, scratch: &mut [f32]);
}

impl Rotary for Portable {
    fn rotate(
        self,
        row: &mut [f32],
        heads: usize,
        sin: &[f32],
        cos: &[f32],
        sign: f32,
        _scratch: &mut [f32],
    ) {
        rotary_row(row, heads, sin, cos, sign);
    }
}

impl<S: Simd> Rotary for S {
    fn rotate(self, row: &mut [f32], heads: usize, sin: &[f32], cos: &[f32], sign: f32, scratch: &mut [f32]) {
        // Lane by lane: what the lane and its neighbour are multiplied by.
        let (own, neighbour) = scratch[..4 * sin.len()].split_at_mut(2 * sin.len());
        for (pair, (sin, cos)) in sin.iter().zip(cos).enumerate() {
            own[2 * pair..2 * pair + 2].fill(*cos);
            (neighbour[2 * pair], neighbour[2 * pair + 1]) = (-sign * sin, sign * sin);
        }
        let width = row.len() / heads;
        self.call(
            #[inline(always)]
            || {
                for head in row.chunks_exact_mut(width) {
                    rotate_head(self, &mut head[..own.len()], own, neighbour);
                }
            },
        );
    }
}

/// `x = x * own + swapped x * neighbour`.
#[inline(always)]
fn rotate_head<S: Simd>(s: S, x: &mut [f32], own: &[f32], neighbour: &[f32]) {
    map_with2(
        s,
        x,
        own,
        neighbour,
        #[inline(always)]
        |x, own, neighbour| s.fma(x, own, s.mul(s.swap_pairs(x), neighbour)),
    );
}

pub(super) fn bind_table(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([], [sin, cos]) = call.views([], [F32, F32])?;
    let (rotary_dim, size) = (call.int("rotary_dim")?, sin.ty().elements());
    Ok(RowKernel::boxed(Dim::fixed(1), 1, move |_, _, _| {
        // SAFETY: the promises of `run_tile`; there is one tile.
        unsafe { rotary_table(rotary_dim, sin.write(0..size), cos.write(0..size)) }
    }))
}

pub(super) fn bind_rotary(call: &Call, arithmetic: impl Rotary) -> Result<Box<dyn Kernel>, KernelError> {
    let ([x, position, sin, cos], [y]) = call.views([F32, I32, F32, F32], [F32])?;
    let (width, pairs, table) = (y.row_elements(), sin.row_elements(), sin.ty().elements());
    let heads = call.int("heads")?;
    let sign = if call.int("inverse")? == 1 { -1.0 } else { 1.0 };
    Ok(RowKernel::with_scratch(leading(&y), call.partition.rows, 4 * pairs, move |rows, _, scratch| {
        // SAFETY: the promises of `run_tile`.
        unsafe {
            let out = start_from::<f32>(&x, &y, elements(&rows, width));
            let (sin, cos) = (sin.read_to::<f32>(table), cos.read_to::<f32>(table));
            for (row, &position) in out.chunks_exact_mut(width).zip(position.read::<i32>(rows)) {
                let range = elements(&(position as usize..position as usize + 1), pairs);
                arithmetic.rotate(row, heads, &sin[range.clone()], &cos[range], sign, scratch);
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Batch, Case, U, few};
    use super::*;
    use gptjc_graphs::ops::rotary as ops;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(few())]

        #[test]
        fn lanes_turn_as_the_op_says(
            seed: u64,
            heads in 1usize..5,
            pairs in 0usize..6,
            others in 0usize..4,
            rows in 1u32..9,
        ) {
            let mut batch = Batch::new(seed, 7);
            let width = heads * (2 * pairs + others).max(1);
            let x = batch.f32(&[batch.slots(), width.into()]);
            let position = batch.indices(batch.slots(), 9);
            let table = [Dim::fixed(9), pairs.into()];
            let operands = vec![x, position, batch.f32(&table), batch.f32(&table)];
            for inverse in [false, true] {
                let op = ops::Rotary { heads, inverse };
                let case = Case::new(op, batch.extents(), operands.clone()).tile(rows, 0).vector();
                case.check(|case, _| vec![magnitudes(case).iter().map(|sum| 2.0 * U * sum).collect()]);
            }
        }

        #[test]
        fn tables_are_rounded_once(positions in 1usize..40, pairs in 0usize..17) {
            let op = ops::RotaryTable { positions, rotary_dim: 2 * pairs };
            let case = Case::new(op, Batch::new(0, 1).extents(), Vec::new());
            // The sine and cosine in f64 may differ in their last bits.
            case.check(|_, expected| {
                expected.iter().map(|table| table.iter().map(|x| U * x.abs() + 1e-15).collect()).collect()
            });
        }
    }

    /// The sum of the magnitudes of both products of each lane: one of the directions adds them.
    fn magnitudes(case: &Case) -> Vec<f64> {
        let Case { extents, operands, .. } = case;
        let Ok(heads) = case.op.attributes().get_int("heads") else { panic!("a rotary") };
        let [forth, back] = [false, true].map(|inverse| {
            Case::new(ops::Rotary { heads, inverse }, *extents, operands.clone()).magnitudes().remove(0)
        });
        forth.iter().zip(back).map(|(a, b)| a.abs().max(b.abs())).collect()
    }
}
