//! The forward pass of a unit.

use super::super::super::simd::math::exp;
use super::super::super::simd::{Body, LANES, Simd};
use super::super::KEY_TILE;
use super::super::shape::{Forward, Unit};
use super::panels::{self, Place};
use super::{QUERY_TILE, Seen, Vector, pack_keys, pack_queries, panels_of, query_tiles, take};

/// Queries and their sums, statistics of each query, a tile of keys twice and of values, a tile of scores.
pub(super) fn scratch(call: &Forward, queries: usize) -> usize {
    let (panels, queries) = (panels_of(&call.inputs), queries.next_multiple_of(QUERY_TILE));
    queries * (2 * panels * LANES + 1 + LANES) + 3 * panels * KEY_TILE * LANES + QUERY_TILE * KEY_TILE
}

/// A unit with its part of scratch.
pub(super) struct Pass<'u, S, const ROWS: usize, const VECTORS: usize> {
    variant: Vector<S, ROWS, VECTORS>,
    call: &'u Forward,
    unit: &'u Unit,
    /// Queries and weighted sums, tile by tile in panels.
    q: &'u mut [f32],
    o: &'u mut [f32],
    /// Largest score, and the sum of exponentials in lanes, of each query.
    max: &'u mut [f32],
    sums: &'u mut [f32],
    /// Keys in panels and transposed; values in panels.
    k: &'u mut [f32],
    kt: &'u mut [f32],
    v: &'u mut [f32],
    s: &'u mut [f32],
}

impl<'u, S: Simd, const ROWS: usize, const VECTORS: usize> Pass<'u, S, ROWS, VECTORS> {
    /// # Safety
    /// The promises of [`Variant::forward`](super::Variant::forward), until the pass has run.
    pub(super) unsafe fn new(
        variant: Vector<S, ROWS, VECTORS>,
        call: &'u Forward,
        unit: &'u Unit,
        mut scratch: &'u mut [f32],
    ) -> Self {
        let (panels, queries) = (panels_of(&call.inputs), unit.rows.len().next_multiple_of(QUERY_TILE));
        let mut part = |len| take(&mut scratch, len);
        Self {
            variant,
            call,
            unit,
            q: part(queries * panels * LANES),
            o: part(queries * panels * LANES),
            max: part(queries),
            sums: part(queries * LANES),
            k: part(panels * KEY_TILE * LANES),
            kt: part(panels * KEY_TILE * LANES),
            v: part(panels * KEY_TILE * LANES),
            s: part(QUERY_TILE * KEY_TILE),
        }
    }

    /// Elements of a tile of queries.
    fn tile_len(&self) -> usize {
        panels_of(&self.call.inputs) * QUERY_TILE * LANES
    }

    /// Adds a tile of keys to a tile of queries.
    #[inline(always)]
    fn step(&mut self, s: S, tile: usize, seen: &Seen) {
        let (len, first) = (self.tile_len(), tile * QUERY_TILE);
        let here = tile * len..(tile + 1) * len;
        self.variant.scores(&self.q[here.clone()], self.kt, seen, self.s);
        let end = seen.most().next_multiple_of(LANES);
        for (at, &keys) in seen.all().iter().enumerate() {
            let row = &mut self.s[at * KEY_TILE..][..end];
            let sums = &mut self.sums[(first + at) * LANES..][..LANES].as_chunks_mut().0[0];
            let factor = softmax(s, row, keys, self.call.inputs.scale, &mut self.max[first + at], sums);
            if let Some(factor) = factor {
                for o in self.o[here.clone()].chunks_exact_mut(QUERY_TILE * LANES) {
                    let o = &mut o[at * LANES..][..LANES].as_chunks_mut().0[0];
                    s.store(s.mul(s.load(o), factor), o);
                }
            }
        }
        self.variant.add_keys(self.s, self.v, seen, &mut self.o[here]);
    }

    /// Divides by the sums and writes what a tile of queries gives.
    ///
    /// # Safety
    /// As for [`new`](Self::new).
    #[inline(always)]
    unsafe fn finish(&mut self, s: S, tile: usize, rows: std::ops::Range<usize>) {
        let (len, head) = (self.tile_len(), self.unit.head);
        for (at, row) in rows.enumerate() {
            let here = tile * QUERY_TILE + at;
            let sum = s.sum(s.load(&self.sums[here * LANES..][..LANES].as_chunks().0[0]));
            let o = &mut self.o[tile * len..][..len];
            for o in o.chunks_exact_mut(QUERY_TILE * LANES) {
                let o = &mut o[at * LANES..][..LANES].as_chunks_mut().0[0];
                s.store(s.div(s.load(o), s.splat(sum)), o);
            }
            let place = Place { height: QUERY_TILE, at, rotated_by: None };
            let lse = row * self.call.inputs.heads + head;
            // SAFETY: the promises of `new`; the row is the unit's own.
            unsafe {
                panels::unpack(s, &self.call.inputs, o, place, &self.call.o, (row, head));
                self.call.lse.write::<f32>(lse..lse + 1)[0] = self.max[here] + libm::logf(sum);
            }
        }
    }
}

/// Scores of a row, of which `keys` are seen, become weights relative to the row's new maximum; what is not seen gets 0.
/// Returns what earlier weights are to be multiplied by, if that is not 1.
#[inline(always)]
fn softmax<S: Simd>(
    s: S,
    row: &mut [f32],
    keys: usize,
    scale: f32,
    max: &mut f32,
    sums: &mut [f32; LANES],
) -> Option<S::Floats> {
    let (seen, unseen) = row.split_at_mut(keys.next_multiple_of(LANES));
    unseen.fill(0.0);
    let scale = s.splat(scale);
    let seen_vectors = seen.as_chunks_mut::<LANES>().0;
    for vector in &mut *seen_vectors {
        s.store(s.mul(s.load(vector), scale), vector);
    }
    if let Some(last) = seen_vectors.last_mut().filter(|_| !keys.is_multiple_of(LANES)) {
        last[keys % LANES..].fill(f32::NEG_INFINITY);
    }
    let mut largest = s.splat(*max);
    for vector in &*seen_vectors {
        largest = s.max(s.load(vector), largest);
    }
    let new = s.largest(largest);
    let factor = exp(s, s.splat(*max - new));
    let mut sum = s.load(sums);
    let raised = new > *max;
    if raised {
        sum = s.mul(sum, factor);
    }
    for vector in seen_vectors {
        let p = exp(s, s.sub(s.load(vector), s.splat(new)));
        sum = s.add(sum, p);
        s.store(p, vector);
    }
    s.store(sum, sums);
    *max = new;
    raised.then_some(factor)
}

impl<S: Simd, const ROWS: usize, const VECTORS: usize> Body for Pass<'_, S, ROWS, VECTORS> {
    type Output = ();

    #[inline(always)]
    fn run<T: Simd>(mut self, _: T) {
        let (s, inputs, unit) = (self.variant.0, &self.call.inputs, self.unit);
        let len = self.tile_len();
        self.o.fill(0.0);
        self.sums.fill(0.0);
        self.max.fill(f32::NEG_INFINITY);
        // SAFETY: the promises of `new`.
        unsafe {
            for (tile, rows) in query_tiles(unit) {
                pack_queries(s, inputs, unit, (&inputs.q, true), rows, &mut self.q[tile * len..][..len]);
            }
            let all = inputs.slot(unit.rows.end - 1) + 1 - unit.slots.start;
            for first in (0..all).step_by(KEY_TILE) {
                let keys = (first, (all - first).min(KEY_TILE));
                pack_keys(s, inputs, unit, (&inputs.k, true), keys, self.k);
                panels::transpose(s, self.k, KEY_TILE, keys.1, self.kt);
                pack_keys(s, inputs, unit, (&inputs.v, false), keys, self.v);
                for (tile, rows) in query_tiles(unit) {
                    let seen = Seen::new(inputs, unit, rows, first);
                    if seen.most() > 0 {
                        self.step(s, tile, &seen);
                    }
                }
            }
            for (tile, rows) in query_tiles(unit) {
                self.finish(s, tile, rows);
            }
        }
    }
}
