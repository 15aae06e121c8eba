//! Thin products in vectors.
//!
//! Lower halves and gradients of their results have few columns: vectors run over these, and eight rows share what is
//! loaded of the second operand. Gradients of adapters have many columns: vectors run over the inputs or outputs, and four
//! ranks share what is loaded of x or dy. Elements of x are widened and dropped once for each member and tile, block by
//! block into scratch that stays in the first-level cache.
//!
//! # Numerics
//! Each sum is one chain of fused multiply-adds in ascending order of its index: the same bits for every instruction set.

use super::super::Kernel;
use super::super::elementwise::{leading, load_row};
use super::super::rowwise::{RowKernel, elements, table_range};
use super::super::simd::{LANES, Simd};
use super::{Down, Grad, GradMember, Part, UpGrad};
use gptjc_graphs::shape::Extents;
use std::ops::Range;

/// Rows that are multiplied at one time.
const ROWS: usize = 8;
/// Elements of the summed index of a block.
const DEPTH: usize = 512;

/// Tokens and columns of a block of a gradient's operand, and ranks that are summed at one time.
const TOKENS: usize = 32;
const COLUMNS: usize = 128;
const RANKS: usize = 4;

/// What a thin product reads and writes.
///
/// # Safety
/// Its methods are called under the promises of [`Kernel::run_tile`].
trait Thin {
    /// Elements of the summed index.
    fn depth(&self) -> usize;
    /// Columns of the second operand and the result.
    fn columns(&self) -> usize;
    /// Elements `inner` of row `row` of the first operand.
    unsafe fn load(&self, row: usize, inner: Range<usize>, to: &mut [f32]);
    /// Elements `inner` of columns `columns` of the second operand, each in its lane; other lanes are zero.
    unsafe fn pack(&self, inner: Range<usize>, columns: Range<usize>, to: &mut [[f32; LANES]]);
    /// Takes columns from `column` on of row `row` of the result.
    unsafe fn store(&self, row: usize, column: usize, sums: &[f32]);
}

/// Scratch that [`multiply`] needs for at most `rows` rows.
fn scratch_of(rows: usize) -> usize {
    ROWS * DEPTH + DEPTH * LANES + rows.next_multiple_of(ROWS) * LANES
}

/// The thin product of `rows`.
///
/// # Safety
/// As for [`Kernel::run_tile`].
unsafe fn multiply<S: Simd>(s: S, product: &impl Thin, rows: &Range<usize>, scratch: &mut [f32]) {
    let (left, rest) = scratch.split_at_mut(ROWS * DEPTH);
    let (packed, sums) = rest.split_at_mut(DEPTH * LANES);
    let (packed, sums) = (packed.as_chunks_mut().0, sums.as_chunks_mut().0);
    let sums = &mut sums[..rows.len().next_multiple_of(ROWS)];
    for first in (0..product.columns()).step_by(LANES) {
        let columns = first..(first + LANES).min(product.columns());
        sums.fill([0.0; LANES]);
        for start in (0..product.depth()).step_by(DEPTH) {
            let inner = start..(start + DEPTH).min(product.depth());
            let packed = &mut packed[..inner.len()];
            // SAFETY: the caller's promise.
            unsafe { product.pack(inner.clone(), columns.clone(), packed) };
            for (group, sums) in rows.clone().step_by(ROWS).zip(sums.as_chunks_mut::<ROWS>().0) {
                let group = group..(group + ROWS).min(rows.end);
                for (row, left) in group.zip(left.chunks_exact_mut(DEPTH)) {
                    // SAFETY: the caller's promise.
                    unsafe { product.load(row, inner.clone(), &mut left[..inner.len()]) };
                }
                s.call(
                    #[inline(always)]
                    || multiply_group(s, left, packed, sums),
                );
            }
        }
        for (row, sums) in rows.clone().zip(&*sums) {
            // SAFETY: the caller's promise.
            unsafe { product.store(row, first, &sums[..columns.len()]) };
        }
    }
}

/// `sums += left · packed` for [`ROWS`] rows of `left`, [`DEPTH`] apart; rows that are not there give sums that nobody reads.
#[inline(always)]
fn multiply_group<S: Simd>(s: S, left: &[f32], packed: &[[f32; LANES]], sums: &mut [[f32; LANES]; ROWS]) {
    const FEW: usize = ROWS / 2;
    let (left, _) = left.as_chunks::<DEPTH>();
    // The sums, a vector of the second operand and one of an element must have registers.
    if S::REGISTERS > ROWS + 2 {
        multiply_rows::<S, ROWS>(s, left, packed, sums);
    } else {
        for (left, sums) in left.chunks_exact(FEW).zip(sums.as_chunks_mut::<FEW>().0) {
            multiply_rows::<S, FEW>(s, left, packed, sums);
        }
    }
}

#[inline(always)]
fn multiply_rows<S: Simd, const R: usize>(
    s: S,
    left: &[[f32; DEPTH]],
    packed: &[[f32; LANES]],
    sums: &mut [[f32; LANES]; R],
) {
    let Some(left) = left.first_chunk::<R>() else { return };
    let mut state = [s.splat(0.0); R];
    for row in 0..R {
        state[row] = s.load(&sums[row]);
    }
    for (index, right) in packed[..packed.len().min(DEPTH)].iter().enumerate() {
        let right = s.load(right);
        for row in 0..R {
            state[row] = s.fma(s.splat(left[row][index]), right, state[row]);
        }
    }
    for row in 0..R {
        s.store(state[row], &mut sums[row]);
    }
}

/// One member's `low = drop(x) · lowerᵀ`.
struct Low<'a, S> {
    s: S,
    bound: &'a Down,
    member: usize,
    extents: &'a Extents,
}

impl<S: Simd> Thin for Low<'_, S> {
    fn depth(&self) -> usize {
        self.bound.inputs
    }

    fn columns(&self) -> usize {
        self.bound.members[self.member].rank
    }

    unsafe fn load(&self, row: usize, inner: Range<usize>, to: &mut [f32]) {
        let Down { x, inputs, masks, .. } = self.bound;
        // SAFETY: the caller's promise.
        unsafe {
            load_row(self.s, x, row * inputs + inner.start, to);
            if let (Some(masks), Some(site)) = (masks, self.bound.members[self.member].site) {
                let masks = masks.of_batch(self.extents);
                masks.drop_row(self.s, to, inner.start, site, masks.place(row));
            }
        }
    }

    unsafe fn pack(&self, inner: Range<usize>, columns: Range<usize>, to: &mut [[f32; LANES]]) {
        let member = &self.bound.members[self.member];
        to.fill([0.0; LANES]);
        for (lane, row) in columns.enumerate() {
            let start = row * self.bound.inputs;
            // SAFETY: the caller's promise.
            let row = unsafe { member.lower.read::<f32>(start + inner.start..start + inner.end) };
            for (lanes, &x) in to.iter_mut().zip(row) {
                lanes[lane] = x;
            }
        }
    }

    unsafe fn store(&self, row: usize, column: usize, sums: &[f32]) {
        let member = &self.bound.members[self.member];
        // SAFETY: the caller's promise.
        unsafe { member.low.store(row * member.rank + column, sums) }
    }
}

pub(super) fn down<S: Simd>(bound: Down, s: S) -> Box<dyn Kernel> {
    let tokens = leading(&bound.x);
    let most = (bound.rows.max(1) as usize).min(tokens.bound.max(1));
    RowKernel::with_scratch(tokens, bound.rows, scratch_of(most), move |rows, extents, scratch| {
        for member in 0..bound.members.len() {
            let product = Low { s, bound: &bound, member, extents };
            // SAFETY: the promises of `run_tile`: rows of the results are this tile's own.
            unsafe { multiply(s, &product, &rows, scratch) };
        }
    })
}

/// One member's `dlow = scale · (dy · upper)`.
struct DLow<'a, S> {
    s: S,
    bound: &'a UpGrad,
    member: usize,
}

impl<S: Simd> Thin for DLow<'_, S> {
    fn depth(&self) -> usize {
        self.bound.members[self.member].outputs
    }

    fn columns(&self) -> usize {
        self.bound.members[self.member].rank
    }

    unsafe fn load(&self, row: usize, inner: Range<usize>, to: &mut [f32]) {
        let member = &self.bound.members[self.member];
        // SAFETY: the caller's promise.
        unsafe { load_row(self.s, &member.dy, row * member.outputs + inner.start, to) }
    }

    unsafe fn pack(&self, inner: Range<usize>, columns: Range<usize>, to: &mut [[f32; LANES]]) {
        let member = &self.bound.members[self.member];
        to.fill([0.0; LANES]);
        for (lanes, output) in to.iter_mut().zip(inner) {
            let start = output * member.rank;
            // SAFETY: the caller's promise.
            let row = unsafe { member.upper.read::<f32>(start + columns.start..start + columns.end) };
            lanes[..row.len()].copy_from_slice(row);
        }
    }

    unsafe fn store(&self, row: usize, column: usize, sums: &[f32]) {
        let member = &self.bound.members[self.member];
        let mut scaled = [0.0; LANES];
        scaled.iter_mut().zip(sums).for_each(|(scaled, sum)| *scaled = sum * self.bound.scale);
        // SAFETY: the caller's promise.
        unsafe { member.dlow.store(row * member.rank + column, &scaled[..sums.len()]) }
    }
}

pub(super) fn up_grad<S: Simd>(bound: UpGrad, s: S) -> Box<dyn Kernel> {
    let tokens = leading(&bound.members[0].dy);
    let most = (bound.rows.max(1) as usize).min(tokens.bound.max(1));
    RowKernel::with_scratch(tokens, bound.rows, scratch_of(most), move |rows, _, scratch| {
        for member in 0..bound.members.len() {
            let product = DLow { s, bound: &bound, member };
            // SAFETY: the promises of `run_tile`: rows of the results are this tile's own.
            unsafe { multiply(s, &product, &rows, scratch) };
        }
    })
}

struct VectorGrad<S> {
    bound: Grad,
    s: S,
}

pub(super) fn grad<S: Simd>(bound: Grad, s: S) -> Box<dyn Kernel> {
    Box::new(VectorGrad { bound, s })
}

impl<S: Simd> Kernel for VectorGrad<S> {
    fn tiles(&self, _phase: usize, extents: &Extents) -> usize {
        self.bound.tiles(extents)
    }

    fn scratch(&self) -> usize {
        let rank = self.bound.members.iter().map(|member| member.rank).max().unwrap_or(0);
        TOKENS * COLUMNS + (TOKENS + COLUMNS) * rank
    }

    unsafe fn run_tile(&self, _phase: usize, tile: usize, extents: &Extents, scratch: &mut [f32]) {
        let (window, member, part) = self.bound.tile(tile);
        let (Part::Lower(columns) | Part::Upper(columns)) = &part;
        // SAFETY: the promises of `run_tile`: the tile's inputs or outputs of a window are its own.
        unsafe {
            let tokens = table_range(self.bound.table.read_to(2 * window + 2), window);
            for start in columns.clone().step_by(COLUMNS) {
                let block = start..(start + COLUMNS).min(columns.end);
                let part = match part {
                    Part::Lower(_) => Part::Lower(block),
                    Part::Upper(_) => Part::Upper(block),
                };
                self.block(member, (window, &tokens), &part, extents, scratch);
            }
        }
    }
}

impl<S: Simd> VectorGrad<S> {
    /// At most [`COLUMNS`] inputs or outputs.
    ///
    /// # Safety
    /// As for [`Kernel::run_tile`].
    unsafe fn block(
        &self,
        member: &GradMember,
        (window, tokens): (usize, &Range<usize>),
        part: &Part,
        extents: &Extents,
        scratch: &mut [f32],
    ) {
        let (s, rank) = (self.s, member.rank);
        let (operand, rest) = scratch.split_at_mut(TOKENS * COLUMNS);
        let (factors, rest) = rest.split_at_mut(TOKENS * rank);
        let sums = rest[..COLUMNS * rank].as_chunks_mut::<COLUMNS>().0;
        sums.fill([0.0; COLUMNS]);
        for start in tokens.clone().step_by(TOKENS) {
            let some = start..(start + TOKENS).min(tokens.end);
            let factors = &mut factors[..some.len() * rank];
            // SAFETY: the caller's promise.
            unsafe {
                self.load_factors(member, some.clone(), part, factors);
                self.load_operand(member, some, part, extents, operand);
            }
            s.call(
                #[inline(always)]
                || add_products(s, operand.as_chunks().0, factors, sums),
            );
        }
        // SAFETY: the caller's promise.
        unsafe { self.store(member, window, part, sums) }
    }

    /// What each token's row is multiplied by, rank by rank.
    ///
    /// # Safety
    /// As for [`Kernel::run_tile`].
    unsafe fn load_factors(&self, member: &GradMember, tokens: Range<usize>, part: &Part, to: &mut [f32]) {
        let range = elements(&tokens, member.rank);
        // SAFETY: the caller's promise.
        unsafe {
            match part {
                Part::Lower(_) => to.copy_from_slice(member.dlow.read(range)),
                Part::Upper(_) => {
                    let low = member.low.read::<f32>(range);
                    to.iter_mut().zip(low).for_each(|(to, low)| *to = self.bound.scale * low);
                }
            }
        }
    }

    /// The tokens' rows of x, after dropout, or of dy; [`COLUMNS`] apart.
    ///
    /// # Safety
    /// As for [`Kernel::run_tile`].
    unsafe fn load_operand(
        &self,
        member: &GradMember,
        tokens: Range<usize>,
        part: &Part,
        extents: &Extents,
        to: &mut [f32],
    ) {
        let bound = &self.bound;
        // SAFETY: the caller's promise.
        let masks = unsafe { bound.masks.as_ref().map(|masks| masks.of_batch(extents)) };
        for (token, to) in tokens.zip(to.chunks_exact_mut(COLUMNS)) {
            // SAFETY: the caller's promise.
            unsafe {
                match part {
                    Part::Lower(inputs) => {
                        let to = &mut to[..inputs.len()];
                        load_row(self.s, &bound.x, token * bound.inputs + inputs.start, to);
                        if let (Some(masks), Some(site)) = (&masks, member.site) {
                            masks.drop_row(self.s, to, inputs.start, site, masks.place(token));
                        }
                    }
                    Part::Upper(outputs) => {
                        let start = token * member.outputs + outputs.start;
                        load_row(self.s, &member.dy, start, &mut to[..outputs.len()]);
                    }
                }
            }
        }
    }

    /// Writes the sums, rank by rank for the lower half and output by output for the upper.
    ///
    /// # Safety
    /// As for [`Kernel::run_tile`].
    unsafe fn store(&self, member: &GradMember, window: usize, part: &Part, sums: &[[f32; COLUMNS]]) {
        // SAFETY: the caller's promise; one row of `da` is written at a time.
        unsafe {
            match part {
                Part::Lower(inputs) => {
                    for (i, sums) in sums.iter().enumerate() {
                        let start = (window * member.rank + i) * self.bound.inputs + inputs.start;
                        member.da.store(start, &sums[..inputs.len()]);
                    }
                }
                Part::Upper(outputs) => {
                    let first = window * member.outputs + outputs.start;
                    let range = elements(&(first..first + outputs.len()), member.rank);
                    let db = member.db.write::<f32>(range).chunks_exact_mut(member.rank.max(1));
                    for (output, db) in db.enumerate() {
                        db.iter_mut().zip(sums).for_each(|(db, sums)| *db = sums[output]);
                    }
                }
            }
        }
    }
}

/// `sums[i] += Σ factors[token][i] · operand[token]`, in ascending order of the tokens.
#[inline(always)]
fn add_products<S: Simd>(s: S, operand: &[[f32; COLUMNS]], factors: &[f32], sums: &mut [[f32; COLUMNS]]) {
    let rank = sums.len();
    let (groups, rest) = sums.as_chunks_mut::<RANKS>();
    let first = rank - rest.len();
    for (group, sums) in groups.iter_mut().enumerate() {
        add_to_ranks(s, operand, factors, group * RANKS, rank, sums);
    }
    for (index, sums) in rest.as_chunks_mut::<1>().0.iter_mut().enumerate() {
        add_to_ranks(s, operand, factors, first + index, rank, sums);
    }
}

/// The same for `R` ranks from `first` on of `rank`.
#[inline(always)]
fn add_to_ranks<S: Simd, const R: usize>(
    s: S,
    operand: &[[f32; COLUMNS]],
    factors: &[f32],
    first: usize,
    rank: usize,
    sums: &mut [[f32; COLUMNS]; R],
) {
    for vector in 0..COLUMNS / LANES {
        let mut state = [s.splat(0.0); R];
        for i in 0..R {
            state[i] = s.load(&sums[i].as_chunks().0[vector]);
        }
        for (x, factors) in operand.iter().zip(factors.chunks_exact(rank.max(1))) {
            let x = s.load(&x.as_chunks().0[vector]);
            let Some(factors) = factors[first..].first_chunk::<R>() else { return };
            for i in 0..R {
                state[i] = s.fma(s.splat(factors[i]), x, state[i]);
            }
        }
        for i in 0..R {
            s.store(state[i], &mut sums[i].as_chunks_mut().0[vector]);
        }
    }
}
