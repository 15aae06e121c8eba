//! Rows of a head between memory and scratch.
//!
//! In scratch a matrix of a head is cut into *panels* of [`LANES`] columns: panel p, row r is `x[(p * height + r) * LANES ..]`.
//! Columns behind the head's are 0.

use super::super::super::View;
use super::super::super::simd::slices::padded;
use super::super::super::simd::{LANES, Simd, Stored};
use super::super::shape::Inputs;
use gptjc_graphs::dtype::DType;
use half::bf16;

/// Sine, with the signs of a rotation, and cosine of each column that is rotated; other columns of the last panel stay.
#[inline(always)]
fn angles(sin: &[f32], cos: &[f32], panel: usize, back: bool) -> [[f32; LANES]; 2] {
    let (mut signed, mut wide) = ([0.0; LANES], [1.0; LANES]);
    let pairs = panel * LANES / 2..((panel + 1) * LANES / 2).min(sin.len());
    for (lane, (&sin, &cos)) in sin[pairs.clone()].iter().zip(&cos[pairs]).enumerate() {
        let sin = if back { -sin } else { sin };
        (signed[2 * lane], signed[2 * lane + 1]) = (-sin, sin);
        (wide[2 * lane], wide[2 * lane + 1]) = (cos, cos);
    }
    [signed, wide]
}

/// `x` rotated: the product with the sine is added to the rounded product with the cosine.
#[inline(always)]
fn rotate<S: Simd>(s: S, x: S::Floats, [sin, cos]: [[f32; LANES]; 2]) -> S::Floats {
    s.fma(s.swap_pairs(x), s.load(&sin), s.mul(x, s.load(&cos)))
}

/// Row `at` of `height` in panels.
#[inline(always)]
fn lanes_at(panel: usize, height: usize, at: usize) -> std::ops::Range<usize> {
    let start = (panel * height + at) * LANES;
    start..start + LANES
}

#[inline(always)]
fn vector_of(x: &mut [f32], range: std::ops::Range<usize>) -> &mut [f32; LANES] {
    &mut x[range].as_chunks_mut().0[0]
}

/// Where a row lies in panels, and the slot whose position it is rotated by.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) height: usize,
    pub(super) at: usize,
    pub(super) rotated_by: Option<usize>,
}

/// Widens a row of a head into panels.
#[inline(always)]
fn pack_row<S: Simd, T: Stored>(s: S, row: &[T], [sin, cos]: [&[f32]; 2], x: &mut [f32], place: Place) {
    let (whole, rest) = row.as_chunks::<LANES>();
    let rotated = (2 * sin.len()).div_ceil(LANES);
    for (panel, row) in whole.iter().enumerate() {
        let mut vector = T::load(s, row);
        if panel < rotated {
            vector = rotate(s, vector, angles(sin, cos, panel, false));
        }
        s.store(vector, vector_of(x, lanes_at(panel, place.height, place.at)));
    }
    if !rest.is_empty() {
        let mut vector = T::load(s, &padded(rest));
        if whole.len() < rotated {
            vector = rotate(s, vector, angles(sin, cos, whole.len(), false));
        }
        s.store(vector, vector_of(x, lanes_at(whole.len(), place.height, place.at)));
    }
}

/// Row `row` of head `head` of `view`, widened, perhaps rotated, into panels.
///
/// # Safety
/// Nobody writes the operands.
#[inline(always)]
pub(super) unsafe fn pack<S: Simd>(
    s: S,
    inputs: &Inputs,
    view: &View,
    (row, head): (usize, usize),
    x: &mut [f32],
    place: Place,
) {
    let elements = inputs.elements(row, head);
    // SAFETY: the caller's promise.
    unsafe {
        let angles = match place.rotated_by {
            Some(slot) => inputs.angles(slot),
            None => [&[][..], &[]],
        };
        match view.ty().dtype {
            DType::Bf16 => pack_row::<S, bf16>(s, view.read(elements), angles, x, place),
            DType::F32 | DType::I32 => pack_row::<S, f32>(s, view.read(elements), angles, x, place),
        }
    }
}

/// Rounds a row of panels to the elements of a head.
#[inline(always)]
fn unpack_row<S: Simd, T: Stored>(s: S, x: &mut [f32], [sin, cos]: [&[f32]; 2], row: &mut [T], place: Place) {
    let rotated = (2 * sin.len()).div_ceil(LANES);
    for (panel, row) in row.chunks_mut(LANES).enumerate() {
        let mut vector = s.load(vector_of(x, lanes_at(panel, place.height, place.at)));
        if panel < rotated {
            vector = rotate(s, vector, angles(sin, cos, panel, true));
        }
        match row.as_chunks_mut() {
            ([whole], []) => T::store(s, vector, whole),
            _ => {
                let mut lanes = [T::ZERO; LANES];
                T::store(s, vector, &mut lanes);
                row.copy_from_slice(&lanes[..row.len()]);
            }
        }
    }
}

/// The reverse of [`pack`], rotated back.
///
/// # Safety
/// Nobody writes the operands, and the row of the head is the caller's own.
#[inline(always)]
pub(super) unsafe fn unpack<S: Simd>(
    s: S,
    inputs: &Inputs,
    x: &mut [f32],
    place: Place,
    view: &View,
    (row, head): (usize, usize),
) {
    let elements = inputs.elements(row, head);
    // SAFETY: the caller's promise.
    unsafe {
        let angles = match place.rotated_by {
            Some(slot) => inputs.angles(slot),
            None => [&[][..], &[]],
        };
        match view.ty().dtype {
            DType::Bf16 => unpack_row::<S, bf16>(s, x, angles, view.write(elements), place),
            DType::F32 | DType::I32 => unpack_row::<S, f32>(s, x, angles, view.write(elements), place),
        }
    }
}

/// The transpose of `rows` rows in panels: rows become lanes. Vector v of column d is `y[(v * columns + d) * LANES ..]`;
/// lanes of rows that are not there hold anything.
#[inline(always)]
pub(super) fn transpose<S: Simd>(s: S, x: &[f32], height: usize, rows: usize, y: &mut [f32]) {
    let panels = x.len() / (height * LANES);
    for (vector, y) in y.chunks_exact_mut(panels * LANES * LANES).take(rows.div_ceil(LANES)).enumerate() {
        for (panel, y) in y.chunks_exact_mut(LANES * LANES).enumerate() {
            let start = (panel * height + vector * LANES) * LANES;
            let x = bytemuck::cast_slice::<f32, u32>(&x[start..start + LANES * LANES]).as_chunks::<LANES>().0;
            for quarter in 0..4 {
                let rows = [4 * quarter, 4 * quarter + 1, 4 * quarter + 2, 4 * quarter + 3];
                let columns = s.transpose([
                    s.load_words(&x[rows[0]]),
                    s.load_words(&x[rows[1]]),
                    s.load_words(&x[rows[2]]),
                    s.load_words(&x[rows[3]]),
                ]);
                for (column, words) in columns.into_iter().enumerate() {
                    let words = s.words(words);
                    for (block, four) in words.as_chunks::<4>().0.iter().enumerate() {
                        let at = (4 * block + column) * LANES + 4 * quarter;
                        y[at..at + 4].copy_from_slice(bytemuck::cast_slice::<u32, f32>(four));
                    }
                }
            }
        }
    }
}
