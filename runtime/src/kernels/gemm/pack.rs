//! Packing in plain Rust: what the vector code must do, and what the software steps use.

use super::blocking::{LANE_STEP, LEFT_STRIDE, elements_of_lane, padded};
use super::{Elements, Form, Format, Left, Right};
use half::bf16;
use std::ops::Range;

fn element(elements: Elements, index: usize) -> f32 {
    match elements {
        Elements::F32(from) => from[index],
        Elements::Bf16(from) => from[index].to_f32(),
    }
}

/// A lane from its elements: one f32, or the lower and the upper of a pair of bf16.
fn lane(format: Format, at: impl Fn(usize) -> f32) -> f32 {
    match format {
        Format::F32 => at(0),
        Format::Pairs => {
            let bits = |index| u32::from(bf16::from_f32(at(index)).to_bits());
            f32::from_bits(bits(0) | bits(1) << 16)
        }
    }
}

/// [`super::Packing::pack_right`] for panels of `panel` columns.
pub(super) fn right(
    format: Format,
    right: &Right,
    inner: Range<usize>,
    columns: Range<usize>,
    panel: usize,
    to: &mut [f32],
) {
    let (per_lane, length) = (elements_of_lane(format), inner.len());
    let lanes = padded(length.div_ceil(per_lane));
    for (index, column) in (0..columns.len().next_multiple_of(panel)).enumerate() {
        for l in 0..lanes {
            let at = |half: usize| {
                let k = l * per_lane + half;
                if column >= columns.len() || k >= length {
                    return 0.0;
                }
                let (k, column) = (inner.start + k, columns.start + column);
                match right.form {
                    Form::Nt => element(right.elements, column * right.stride + k),
                    Form::Nn => element(right.elements, k * right.stride + column),
                }
            };
            to[(index / panel * lanes + l) * panel + index % panel] = lane(format, at);
        }
    }
}

/// [`super::Packing::pack_left`].
pub(super) fn left(format: Format, left: &Left, rows: Range<usize>, inner: Range<usize>, to: &mut [f32]) {
    let (per_lane, length) = (elements_of_lane(format), inner.len());
    for (index, row) in rows.enumerate() {
        for l in 0..length.div_ceil(per_lane).next_multiple_of(LANE_STEP) {
            let at = |half: usize| {
                let k = l * per_lane + half;
                if k >= length {
                    return 0.0;
                }
                let k = inner.start + k;
                let (slow, fast) = if left.transposed { (k, row) } else { (row, k) };
                element(left.elements, slow * left.stride + fast) * left.scale
            };
            to[index * LEFT_STRIDE + l] = lane(format, at);
        }
    }
}
