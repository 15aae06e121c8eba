//! Causal products inside a segment: scores, mixing by probabilities, and mixing by their transpose.
//!
//! A query at slot `t` of the segment that begins at `s0` meets the keys `j` in `0..=t - s0`: its *band*. Queries are all
//! slots, or the labelled ones. Elements of a score tensor outside of the band are not written, because no kernel reads
//! them.
//!
//! # Numerics
//! Each element is one chain of additions in ascending order of the summed index.

use super::elementwise::leading;
use super::rowwise::{RowKernel, elements, table_range};
use super::{Call, Kernel, KernelError, View};
use gptjc_graphs::dtype::DType::{F32, I32};
use gptjc_graphs::shape::Extents;
use std::ops::Range;

/// Which keys each query sees, as the batch's tables say.
pub(super) struct Queries {
    pub(super) segment: View,
    pub(super) table: View,
    /// The slot of each query, if queries are labelled rows; else they are the slots.
    pub(super) labelled: Option<View>,
}

impl Queries {
    /// First key of query `row`, and the number of keys in its band.
    ///
    /// # Safety
    /// Nobody writes the views.
    ///
    /// # Panics
    /// If the tables contradict each other, or the band is wider than `window`, the row of scores that it lies in.
    pub(super) unsafe fn band(&self, row: usize, window: usize) -> (usize, usize) {
        // SAFETY: the caller's promise.
        let (t, slots) = unsafe {
            let t = self.slot(row);
            (t, self.segment_of(t))
        };
        let keys = t - slots.start + 1;
        assert!(keys <= window, "slot {t} is number {keys} of its segment, a segment has at most {window}");
        (slots.start, keys)
    }

    /// The slot of query `row`.
    ///
    /// # Safety
    /// Nobody writes the views.
    pub(super) unsafe fn slot(&self, row: usize) -> usize {
        match &self.labelled {
            // SAFETY: the caller's promise.
            Some(labelled) => unsafe { labelled.read::<i32>(row..row + 1)[0] as usize },
            None => row,
        }
    }

    /// Slots of the segment of slot `t`.
    ///
    /// # Safety
    /// Nobody writes the views.
    ///
    /// # Panics
    /// If the tables contradict each other.
    unsafe fn segment_of(&self, t: usize) -> Range<usize> {
        // SAFETY: the caller's promise; what the tables name is checked here and by the view.
        unsafe {
            let index = self.segment.read::<i32>(t..t + 1)[0] as usize;
            let slots = table_range(self.table.read_to(self.table.ty().elements()), index);
            assert!(slots.contains(&t), "slot {t} is not in its segment {index}, which is {slots:?}");
            slots
        }
    }

    /// The queries whose slots are in `slots`.
    ///
    /// # Safety
    /// Nobody writes the views.
    pub(super) unsafe fn rows_in(&self, slots: Range<usize>, extents: &Extents) -> Range<usize> {
        let Some(labelled) = &self.labelled else { return slots };
        // SAFETY: the caller's promise.
        let labelled = unsafe { labelled.read_to::<i32>(extents.rows) };
        let first = labelled.partition_point(|&slot| (slot as usize) < slots.start);
        let last = labelled.partition_point(|&slot| (slot as usize) < slots.end);
        first..last
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
    let ([q, k, segment, table], labelled, [s]) = call.views_of_queries([F32, F32, I32, I32], [F32])?;
    let queries = Queries { segment, table, labelled };
    let (width, heads, window) = (q.row_elements(), call.int("heads")?, call.int("window")?);
    let lanes = width / heads.max(1);
    Ok(RowKernel::boxed(leading(&q), call.partition.rows, move |rows, _, _| {
        for row in rows {
            // SAFETY: the promises of `run_tile`; row `row` of `s` is this tile's own.
            unsafe {
                let (first, keys) = queries.band(row, window);
                let q = q.read::<f32>(elements(&(row..row + 1), width));
                let k = k.read::<f32>(elements(&(first..first + keys), width));
                for head in 0..heads {
                    let start = (row * heads + head) * window;
                    let lane = head * lanes;
                    scores_row(&q[lane..lane + lanes], &k[lane..], width, s.write(start..start + keys));
                }
            }
        }
    }))
}

pub(super) fn bind_mix(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([p, v, segment, table], labelled, [o]) = call.views_of_queries([F32, F32, I32, I32], [F32])?;
    let queries = Queries { segment, table, labelled };
    let (width, heads, window) = (v.row_elements(), p.ty().dims[1].bound, p.ty().dims[2].bound);
    let lanes = width / heads.max(1);
    Ok(RowKernel::boxed(leading(&o), call.partition.rows, move |rows, _, _| {
        for row in rows {
            // SAFETY: the promises of `run_tile`; row `row` of `o` is this tile's own.
            unsafe {
                let (first, keys) = queries.band(row, window);
                let v = v.read::<f32>(elements(&(first..first + keys), width));
                let out = o.write::<f32>(elements(&(row..row + 1), width));
                out.fill(0.0);
                for (head, out) in out.chunks_exact_mut(lanes).enumerate() {
                    let start = (row * heads + head) * window;
                    for (j, &p) in p.read::<f32>(start..start + keys).iter().enumerate() {
                        add_scaled(out, p, &v[j * width + head * lanes..][..lanes]);
                    }
                }
            }
        }
    }))
}

pub(super) fn bind_mix_transposed(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([p, x, segment, table], labelled, [y]) = call.views_of_queries([F32, F32, I32, I32], [F32])?;
    let queries = Queries { segment, table, labelled };
    let (width, heads, window) = (x.row_elements(), p.ty().dims[1].bound, p.ty().dims[2].bound);
    let lanes = width / heads.max(1);
    Ok(RowKernel::boxed(leading(&y), call.partition.rows, move |slots, extents, _| {
        for u in slots {
            // SAFETY: the promises of `run_tile`; row `u` of `y` is this tile's own.
            unsafe {
                let slots = queries.segment_of(u);
                assert!(slots.len() <= window, "a segment of {} slots, it has at most {window}", slots.len());
                let out = y.write::<f32>(elements(&(u..u + 1), width));
                out.fill(0.0);
                for row in queries.rows_in(u..slots.end, extents) {
                    let x = x.read::<f32>(elements(&(row..row + 1), width));
                    for (head, out) in out.chunks_exact_mut(lanes).enumerate() {
                        let at = (row * heads + head) * window + (u - slots.start);
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
            let (slots, width) = (batch.slots(), (heads * lanes).into());
            let (k, window) = (batch.f32(&[slots, width]), 9 + wider);
            for labelled in [false, true] {
                let q = batch.f32(&[batch.queries(labelled), width]);
                let op = ops::SegmentScores { heads, window };
                let operands = [vec![q, k.clone()], batch.query_tables(labelled)].concat();
                let mut case = Case::new(op, batch.extents(), operands).tile(rows, 0);
                case.written = Some(batch.band(labelled, heads, window));
                case.check_sums(lanes);
            }
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
            let (width, extents) = ((heads * lanes).into(), batch.extents());
            for labelled in [false, true] {
                let queries = batch.queries(labelled);
                let p = batch.f32(&[queries, heads.into(), 9.into()]);
                let (v, x) = (batch.f32(&[batch.slots(), width]), batch.f32(&[queries, width]));
                let tables = batch.query_tables(labelled);
                let operands = |x| [vec![p.clone(), x], tables.clone()].concat();
                Case::new(ops::SegmentMix, extents, operands(v)).tile(rows, 0).check_sums(9);
                Case::new(ops::SegmentMixTransposed, extents, operands(x)).tile(rows, 0).check_sums(9);
            }
        }
    }
}
