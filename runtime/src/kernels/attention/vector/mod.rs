//! Attention over vectors of 16 lanes, for every instruction set that has them.
//!
//! Key tile by key tile, and in it by tiles of [`QUERY_TILE`] queries: keys are packed once for all queries of a unit,
//! and what a pair of tiles touches stays near. Everything is widened to f32 and lies in scratch as [`panels`] say; all
//! products are [`Product`].
//!
//! # Numerics
//! Chains of fused multiply-adds in the op's order. The sum of exponentials of a query and `delta` are 16 chains, one for
//! each lane, that are added up at the end; the exponential is that of the vector layer. Instruction sets do not differ in
//! a bit.

mod backward;
mod forward;
mod panels;
mod product;

use super::super::View;
use super::super::simd::{LANES, Simd};
use super::shape::{Backward, Forward, Inputs, Unit};
use super::{KEY_TILE, Variant};
use panels::Place;
use product::{Product, Terms};

/// Queries of a tile: a multiple of every instruction set's block of rows.
const QUERY_TILE: usize = 48;

/// The algorithm with an instruction set, and the rows and vectors that its registers hold in a block of a product.
#[derive(Clone, Copy)]
pub(super) struct Vector<S, const ROWS: usize, const VECTORS: usize>(pub(super) S);

/// Cuts the first `len` elements off `scratch`.
fn take<'s>(scratch: &mut &'s mut [f32], len: usize) -> &'s mut [f32] {
    let (first, rest) = std::mem::take(scratch).split_at_mut(len);
    *scratch = rest;
    first
}

/// Panels of a head.
fn panels_of(inputs: &Inputs) -> usize {
    inputs.lanes.div_ceil(LANES)
}

/// How many keys of the tile that begins at `first` each query of a tile sees, ascending.
struct Seen {
    of: [usize; QUERY_TILE],
    queries: usize,
}

impl Seen {
    /// Of the queries `rows` of `unit`.
    ///
    /// # Safety
    /// Nobody writes the operands.
    unsafe fn new(inputs: &Inputs, unit: &Unit, rows: std::ops::Range<usize>, first: usize) -> Self {
        let (mut of, queries) = ([0; QUERY_TILE], rows.len());
        for (seen, row) in of.iter_mut().zip(rows) {
            // SAFETY: the caller's promise.
            let keys = unsafe { inputs.slot(row) } + 1 - unit.slots.start;
            *seen = keys.saturating_sub(first).min(KEY_TILE);
        }
        Self { of, queries }
    }

    fn all(&self) -> &[usize] {
        &self.of[..self.queries]
    }

    /// Keys that the last query sees.
    fn most(&self) -> usize {
        self.all().last().copied().unwrap_or(0)
    }
}

/// Queries of a unit in tiles: number, first row, and how many.
fn query_tiles(unit: &Unit) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> + use<> {
    let rows = unit.rows.clone();
    let first = rows.start;
    rows.step_by(QUERY_TILE)
        .zip(std::iter::repeat(unit.rows.end))
        .map(move |(row, end)| ((row - first) / QUERY_TILE, row..(row + QUERY_TILE).min(end)))
}

impl<S: Simd, const ROWS: usize, const VECTORS: usize> Vector<S, ROWS, VECTORS> {
    /// Scores of a tile, `[QUERY_TILE, KEY_TILE]`: rows of `a` in panels with the columns of `b`, transposed.
    #[inline(always)]
    fn scores(self, a: &[f32], b: &[f32], seen: &Seen, s: &mut [f32]) {
        let panels = a.len() / (QUERY_TILE * LANES);
        self.0.vectorize(Product::<ROWS, VECTORS> {
            w: a,
            w_steps: [QUERY_TILE * LANES, LANES, 1],
            x: b,
            x_steps: [LANES * LANES, panels * LANES * LANES],
            groups: panels,
            c: s,
            c_steps: [KEY_TILE, LANES],
            rows: seen.queries,
            vectors: seen.most().div_ceil(LANES),
            add: false,
            terms: Terms::Scores { seen: seen.all(), terms: LANES },
        });
    }

    /// Adds to queries in panels the keys in panels, each weighted by `weights` `[QUERY_TILE, KEY_TILE]`.
    #[inline(always)]
    fn add_keys(self, weights: &[f32], keys: &[f32], seen: &Seen, c: &mut [f32]) {
        self.0.vectorize(Product::<ROWS, VECTORS> {
            w: weights,
            w_steps: [0, KEY_TILE, 1],
            x: keys,
            x_steps: [0, KEY_TILE * LANES],
            groups: 1,
            vectors: c.len() / (QUERY_TILE * LANES),
            c,
            c_steps: [LANES, QUERY_TILE * LANES],
            rows: seen.queries,
            add: true,
            terms: Terms::Keys { seen: seen.all() },
        });
    }

    /// Adds to keys in panels the queries in panels, each weighted by `weights` `[QUERY_TILE, KEY_TILE]`.
    #[inline(always)]
    fn add_queries(self, weights: &[f32], queries: &[f32], seen: &Seen, c: &mut [f32]) {
        self.0.vectorize(Product::<ROWS, VECTORS> {
            w: weights,
            w_steps: [0, 1, KEY_TILE],
            x: queries,
            x_steps: [0, QUERY_TILE * LANES],
            groups: 1,
            vectors: c.len() / (KEY_TILE * LANES),
            c,
            c_steps: [LANES, KEY_TILE * LANES],
            rows: seen.most(),
            add: true,
            terms: Terms::Queries { seen: seen.all() },
        });
    }
}

/// Packs the rows of keys that begin at `first` into panels.
///
/// # Safety
/// Nobody writes the operands.
#[inline(always)]
unsafe fn pack_keys<S: Simd>(
    s: S,
    inputs: &Inputs,
    unit: &Unit,
    (view, rotated): (&View, bool),
    (first, keys): (usize, usize),
    x: &mut [f32],
) {
    for at in 0..keys {
        let slot = unit.slots.start + first + at;
        let place = Place { height: KEY_TILE, at, rotated_by: rotated.then_some(slot) };
        // SAFETY: the caller's promise.
        unsafe { panels::pack(s, inputs, view, (slot, unit.head), x, place) };
    }
}

/// Packs the queries `rows` into panels.
///
/// # Safety
/// Nobody writes the operands.
#[inline(always)]
unsafe fn pack_queries<S: Simd>(
    s: S,
    inputs: &Inputs,
    unit: &Unit,
    (view, rotated): (&View, bool),
    rows: std::ops::Range<usize>,
    x: &mut [f32],
) {
    for (at, row) in rows.enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            let rotated_by = rotated.then(|| inputs.slot(row));
            let place = Place { height: QUERY_TILE, at, rotated_by };
            panels::pack(s, inputs, view, (row, unit.head), x, place);
        }
    }
}

impl<S: Simd, const ROWS: usize, const VECTORS: usize> Variant for Vector<S, ROWS, VECTORS> {
    const QUERY_TILE: usize = QUERY_TILE;

    fn forward_scratch(self, call: &Forward, queries: usize) -> usize {
        forward::scratch(call, queries)
    }

    unsafe fn forward(self, call: &Forward, unit: &Unit, scratch: &mut [f32]) {
        // SAFETY: the caller's promises.
        self.0.vectorize(unsafe { forward::Pass::new(self, call, unit, scratch) });
    }

    fn backward_scratch(self, call: &Backward) -> usize {
        backward::scratch(call)
    }

    unsafe fn backward(self, call: &Backward, unit: &Unit, scratch: &mut [f32]) {
        // SAFETY: the caller's promises.
        self.0.vectorize(unsafe { backward::Pass::new(self, call, unit, scratch) });
    }
}
