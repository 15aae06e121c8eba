//! The backward pass of a unit.

use super::super::super::simd::math::exp;
use super::super::super::simd::{Body, LANES, Simd};
use super::super::KEY_TILE;
use super::super::shape::{Backward, Unit};
use super::panels::{self, Place};
use super::{QUERY_TILE, Seen, Vector, pack_keys, pack_queries, panels_of, query_tiles, take};

/// Queries, their gradients and the output's, statistics of each query; a tile of keys twice, of values, of the gradients
/// of both; two tiles of scores.
pub(super) fn scratch(call: &Backward) -> usize {
    let panels = panels_of(&call.inputs);
    let queries = call.inputs.longest_unit().next_multiple_of(QUERY_TILE);
    queries * (3 * panels * LANES + 2) + 6 * panels * KEY_TILE * LANES + 2 * QUERY_TILE * KEY_TILE
}

/// A unit with its part of scratch.
pub(super) struct Pass<'u, S, const ROWS: usize, const VECTORS: usize> {
    variant: Vector<S, ROWS, VECTORS>,
    call: &'u Backward,
    unit: &'u Unit,
    /// Queries, gradients of outputs and of queries, tile by tile in panels.
    q: &'u mut [f32],
    output_grad: &'u mut [f32],
    dq: &'u mut [f32],
    /// Of each query: log-sum-exp, and the product of output and its gradient.
    lse: &'u mut [f32],
    delta: &'u mut [f32],
    /// Keys in panels and transposed; values likewise; gradients of both in panels.
    k: &'u mut [f32],
    kt: &'u mut [f32],
    v: &'u mut [f32],
    vt: &'u mut [f32],
    dk: &'u mut [f32],
    dv: &'u mut [f32],
    p: &'u mut [f32],
    ds: &'u mut [f32],
}

impl<'u, S: Simd, const ROWS: usize, const VECTORS: usize> Pass<'u, S, ROWS, VECTORS> {
    /// # Safety
    /// The promises of [`Variant::backward`](super::Variant::backward), until the pass has run.
    pub(super) unsafe fn new(
        variant: Vector<S, ROWS, VECTORS>,
        call: &'u Backward,
        unit: &'u Unit,
        mut scratch: &'u mut [f32],
    ) -> Self {
        let (panels, queries) = (panels_of(&call.inputs), unit.rows.len().next_multiple_of(QUERY_TILE));
        let (of_queries, of_keys) = (queries * panels * LANES, panels * KEY_TILE * LANES);
        let mut part = |len| take(&mut scratch, len);
        Self {
            variant,
            call,
            unit,
            q: part(of_queries),
            output_grad: part(of_queries),
            dq: part(of_queries),
            lse: part(queries),
            delta: part(queries),
            k: part(of_keys),
            kt: part(of_keys),
            v: part(of_keys),
            vt: part(of_keys),
            dk: part(of_keys),
            dv: part(of_keys),
            p: part(QUERY_TILE * KEY_TILE),
            ds: part(QUERY_TILE * KEY_TILE),
        }
    }

    /// Whether dq or dk is wanted: both need gradients of scores.
    fn needs_scores_grad(&self) -> bool {
        self.call.dq.is_some() || self.call.dk.is_some()
    }

    /// Elements of a tile of queries.
    fn tile_len(&self) -> usize {
        panels_of(&self.call.inputs) * QUERY_TILE * LANES
    }

    /// Packs a tile of queries with what is known of them. The outputs are in `dq` while they are needed.
    ///
    /// # Safety
    /// As for [`new`](Self::new).
    #[inline(always)]
    unsafe fn pack_tile(&mut self, s: S, tile: usize, rows: std::ops::Range<usize>) {
        let (inputs, unit, len) = (&self.call.inputs, self.unit, self.tile_len());
        let here = tile * len..(tile + 1) * len;
        // SAFETY: the promises of `new`.
        unsafe {
            pack_queries(s, inputs, unit, (&inputs.q, true), rows.clone(), &mut self.q[here.clone()]);
            let of_output = &mut self.output_grad[here.clone()];
            pack_queries(s, inputs, unit, (&self.call.output_grad, false), rows.clone(), of_output);
            let o = &mut self.dq[here];
            if self.call.dq.is_some() || self.call.dk.is_some() {
                pack_queries(s, inputs, unit, (&self.call.o, false), rows.clone(), o);
            }
            for (at, row) in rows.enumerate() {
                let mut sums = s.splat(0.0);
                let panels =
                    o.chunks_exact(QUERY_TILE * LANES).zip(of_output.chunks_exact(QUERY_TILE * LANES));
                for (o, of_output) in panels {
                    let [o, of_output] = [o, of_output].map(|x| &x[at * LANES..][..LANES].as_chunks().0[0]);
                    sums = s.fma(s.load(o), s.load(of_output), sums);
                }
                let lse = row * inputs.heads + unit.head;
                self.delta[tile * QUERY_TILE + at] = s.sum(sums);
                self.lse[tile * QUERY_TILE + at] = self.call.lse.read::<f32>(lse..lse + 1)[0];
            }
            o.fill(0.0);
        }
    }

    /// Adds what a tile of queries and a tile of keys give each other.
    #[inline(always)]
    fn step(&mut self, s: S, tile: usize, seen: &Seen) {
        let (len, first, scale) = (self.tile_len(), tile * QUERY_TILE, self.call.inputs.scale);
        let here = tile * len..(tile + 1) * len;
        let end = seen.most().next_multiple_of(LANES);
        self.variant.scores(&self.q[here.clone()], self.kt, seen, self.p);
        for (at, &keys) in seen.all().iter().enumerate() {
            probabilities(s, &mut self.p[at * KEY_TILE..][..end], keys, scale, self.lse[first + at]);
        }
        if self.call.dv.is_some() {
            self.variant.add_queries(self.p, &self.output_grad[here.clone()], seen, self.dv);
        }
        if !self.needs_scores_grad() {
            return;
        }
        self.variant.scores(&self.output_grad[here.clone()], self.vt, seen, self.ds);
        for (at, &keys) in seen.all().iter().enumerate() {
            let row = at * KEY_TILE..at * KEY_TILE + end;
            scores_grad(s, &mut self.ds[row.clone()], &self.p[row], keys, scale, self.delta[first + at]);
        }
        if self.call.dq.is_some() {
            self.variant.add_keys(self.ds, self.k, seen, &mut self.dq[here.clone()]);
        }
        if self.call.dk.is_some() {
            self.variant.add_queries(self.ds, &self.q[here], seen, self.dk);
        }
    }

    /// A tile of keys with all queries that see it.
    ///
    /// # Safety
    /// As for [`new`](Self::new).
    #[inline(always)]
    unsafe fn key_tile(&mut self, s: S, keys: (usize, usize), reached: usize) {
        let (inputs, unit) = (&self.call.inputs, self.unit);
        self.dk.fill(0.0);
        self.dv.fill(0.0);
        // SAFETY: the promises of `new`.
        unsafe {
            if keys.0 < reached {
                pack_keys(s, inputs, unit, (&inputs.k, true), keys, self.k);
                panels::transpose(s, self.k, KEY_TILE, keys.1, self.kt);
                if self.needs_scores_grad() {
                    pack_keys(s, inputs, unit, (&inputs.v, false), keys, self.v);
                    panels::transpose(s, self.v, KEY_TILE, keys.1, self.vt);
                }
                for (tile, rows) in query_tiles(unit) {
                    let seen = Seen::new(inputs, unit, rows, keys.0);
                    if seen.most() > 0 {
                        self.step(s, tile, &seen);
                    }
                }
            }
            for at in 0..keys.1 {
                let slot = unit.slots.start + keys.0 + at;
                for (x, view, rotated_by) in
                    [(&mut *self.dk, &self.call.dk, Some(slot)), (&mut *self.dv, &self.call.dv, None)]
                {
                    if let Some(view) = view {
                        let place = Place { height: KEY_TILE, at, rotated_by };
                        panels::unpack(s, inputs, x, place, view, (slot, unit.head));
                    }
                }
            }
        }
    }
}

/// Scores of a row, of which `keys` are seen, become probabilities; what is not seen gets 0.
#[inline(always)]
fn probabilities<S: Simd>(s: S, row: &mut [f32], keys: usize, scale: f32, lse: f32) {
    for vector in row[..keys.next_multiple_of(LANES)].as_chunks_mut::<LANES>().0 {
        s.store(exp(s, s.sub(s.mul(s.load(vector), s.splat(scale)), s.splat(lse))), vector);
    }
    row[keys..].fill(0.0);
}

/// Gradients of probabilities `p` of a row become gradients of scores; what is not seen gets 0.
#[inline(always)]
fn scores_grad<S: Simd>(s: S, row: &mut [f32], p: &[f32], keys: usize, scale: f32, delta: f32) {
    let end = keys.next_multiple_of(LANES);
    for (vector, p) in row[..end].as_chunks_mut::<LANES>().0.iter_mut().zip(p.as_chunks::<LANES>().0) {
        let difference = s.sub(s.load(vector), s.splat(delta));
        s.store(s.mul(s.mul(s.load(p), difference), s.splat(scale)), vector);
    }
    row[keys..].fill(0.0);
}

impl<S: Simd, const ROWS: usize, const VECTORS: usize> Body for Pass<'_, S, ROWS, VECTORS> {
    type Output = ();

    #[inline(always)]
    fn run<T: Simd>(mut self, _: T) {
        let (s, inputs, unit, len) = (self.variant.0, &self.call.inputs, self.unit, self.tile_len());
        // SAFETY: the promises of `new`.
        unsafe {
            let mut reached = 0;
            for (tile, rows) in query_tiles(unit) {
                reached = inputs.slot(rows.end - 1) + 1 - unit.slots.start;
                self.pack_tile(s, tile, rows);
            }
            for first in (0..unit.slots.len()).step_by(KEY_TILE) {
                let keys = (first, (unit.slots.len() - first).min(KEY_TILE));
                self.key_tile(s, keys, reached);
            }
            let Some(view) = &self.call.dq else { return };
            for (tile, rows) in query_tiles(unit) {
                let dq = &mut self.dq[tile * len..][..len];
                for (at, row) in rows.enumerate() {
                    let place = Place { height: QUERY_TILE, at, rotated_by: Some(inputs.slot(row)) };
                    panels::unpack(s, inputs, dq, place, view, (row, unit.head));
                }
            }
        }
    }
}
