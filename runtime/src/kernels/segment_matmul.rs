//! Causal products inside a segment: scores, mixing by probabilities, and mixing by their transpose.
//!
//! A row `t` of the segment that begins at `s0` meets the keys `j` in `0..=t - s0`: its *band*. Elements of a score
//! tensor outside of the band are not written, because no kernel reads them.
//!
//! # Numerics
//! Each element is one chain of additions in ascending order of the summed index.

use super::elementwise::leading;
use super::rowwise::{RowKernel, elements, table_range};
use super::{Call, Kernel, KernelError, View};
use gptjc_graphs::dtype::DType::{F32, I32};
use std::ops::Range;

/// First key of row `t`, and the number of keys in its band.
///
/// # Safety
/// Nobody writes the two views.
///
/// # Panics
/// If the tables contradict each other, or the band is wider than `window`, the row of scores that it lies in.
pub(super) unsafe fn band(segment: &View, table: &View, t: usize, window: usize) -> (usize, usize) {
    // SAFETY: the caller's promise.
    let slots = unsafe { segment_of(segment, table, t) };
    let keys = t - slots.start + 1;
    assert!(keys <= window, "slot {t} is number {keys} of its segment, a segment has at most {window}");
    (slots.start, keys)
}

/// Slots of the segment of row `t`.
///
/// # Safety
/// Nobody writes the two views.
///
/// # Panics
/// If the tables contradict each other.
unsafe fn segment_of(segment: &View, table: &View, t: usize) -> Range<usize> {
    // SAFETY: the caller's promise; what the tables name is checked here and by the view.
    unsafe {
        let index = segment.read::<i32>(t..t + 1)[0] as usize;
        let slots = table_range(table.read_to(table.ty().elements()), index);
        assert!(slots.contains(&t), "slot {t} is not in its segment {index}, which is {slots:?}");
        slots
    }
}

/// `s[j] = q · k[j]` for one head: `q[HD]`, keys `k` with `stride` elements between rows.
pub fn scores_row(q: &[f32], k: &[f32], stride: usize, s: &mut [f32]) {
    for (j, s) in s.iter_mut().enumerate() {
        let key = &k[j * stride..][..q.len()];
        let mut sum = 0.0;
        for (q, k) in q.iter().zip(key) {
            sum += q * k;
        }
        *s = sum;
    }
}

/// `out += p * v` for one head's lanes.
pub fn add_scaled(out: &mut [f32], p: f32, v: &[f32]) {
    for (out, v) in out.iter_mut().zip(v) {
        *out += p * v;
    }
}

pub(super) fn bind_scores(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([q, k, segment, table], [s]) = call.views([F32, F32, I32, I32], [F32])?;
    let (width, heads, window) = (q.row_elements(), call.int("heads")?, call.int("window")?);
    let lanes = width / heads.max(1);
    Ok(RowKernel::boxed(leading(&q), call.partition.rows, move |rows, _, _| {
        for t in rows {
            // SAFETY: the promises of `run_tile`; row `t` of `s` is this tile's own.
            unsafe {
                let (first, keys) = band(&segment, &table, t, window);
                let q = q.read::<f32>(elements(&(t..t + 1), width));
                let k = k.read::<f32>(elements(&(first..t + 1), width));
                for head in 0..heads {
                    let start = (t * heads + head) * window;
                    let lane = head * lanes;
                    scores_row(&q[lane..lane + lanes], &k[lane..], width, s.write(start..start + keys));
                }
            }
        }
    }))
}

pub(super) fn bind_mix(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([p, v, segment, table], [o]) = call.views([F32, F32, I32, I32], [F32])?;
    let (width, heads, window) = (v.row_elements(), p.ty().dims[1].bound, p.ty().dims[2].bound);
    let lanes = width / heads.max(1);
    Ok(RowKernel::boxed(leading(&v), call.partition.rows, move |rows, _, _| {
        for t in rows {
            // SAFETY: the promises of `run_tile`; row `t` of `o` is this tile's own.
            unsafe {
                let (first, keys) = band(&segment, &table, t, window);
                let v = v.read::<f32>(elements(&(first..t + 1), width));
                let out = o.write::<f32>(elements(&(t..t + 1), width));
                out.fill(0.0);
                for (head, out) in out.chunks_exact_mut(lanes).enumerate() {
                    let start = (t * heads + head) * window;
                    for (j, &p) in p.read::<f32>(start..start + keys).iter().enumerate() {
                        add_scaled(out, p, &v[j * width + head * lanes..][..lanes]);
                    }
                }
            }
        }
    }))
}

pub(super) fn bind_mix_transposed(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([p, x, segment, table], [y]) = call.views([F32, F32, I32, I32], [F32])?;
    let (width, heads, window) = (x.row_elements(), p.ty().dims[1].bound, p.ty().dims[2].bound);
    let lanes = width / heads.max(1);
    Ok(RowKernel::boxed(leading(&x), call.partition.rows, move |rows, _, _| {
        for u in rows {
            // SAFETY: the promises of `run_tile`; row `u` of `y` is this tile's own.
            unsafe {
                let slots = segment_of(&segment, &table, u);
                assert!(slots.len() <= window, "a segment of {} slots, it has at most {window}", slots.len());
                let out = y.write::<f32>(elements(&(u..u + 1), width));
                out.fill(0.0);
                for t in u..slots.end {
                    let x = x.read::<f32>(elements(&(t..t + 1), width));
                    for (head, out) in out.chunks_exact_mut(lanes).enumerate() {
                        let at = (t * heads + head) * window + (u - slots.start);
                        add_scaled(out, p.read::<f32>(at..at + 1)[0], &x[head * lanes..][..lanes]);
                    }
                }
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Batch, Case, few};
    use gptjc_graphs::ops::segment_matmul as ops;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(few())]

        #[test]
        fn scores_are_the_products_on_the_band(
            seed: u64,
            heads in 1usize..4,
            lanes in 1usize..20,
            wider in 0usize..3,
            rows in 1u32..9,
        ) {
            let mut batch = Batch::new(seed, 9);
            let dims = [batch.slots(), (heads * lanes).into()];
            let (q, k, [segment, table]) = (batch.f32(&dims), batch.f32(&dims), batch.segment_tables());
            let window = 9 + wider;
            let op = ops::SegmentScores { heads, window };
            let mut case = Case::new(op, batch.extents(), vec![q, k, segment, table]).tile(rows, 0);
            case.written = Some(batch.band(heads, window));
            case.check_sums(lanes);
        }

        #[test]
        fn mixes_weight_the_rows_of_the_segment(
            seed: u64,
            heads in 1usize..4,
            lanes in 1usize..20,
            rows in 1u32..9,
        ) {
            let mut batch = Batch::new(seed, 9);
            // What lies outside of the band is random as well, and must not be read.
            let p = batch.f32(&[batch.slots(), heads.into(), 9.into()]);
            let (x, [segment, table]) = (batch.f32(&[batch.slots(), (heads * lanes).into()]), batch.segment_tables());
            let operands = vec![p, x, segment, table];
            Case::new(ops::SegmentMix, batch.extents(), operands.clone()).tile(rows, 0).check_sums(9);
            Case::new(ops::SegmentMixTransposed, batch.extents(), operands).tile(rows, 0).check_sums(9);
        }
    }
}
