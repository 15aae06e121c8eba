//! The portable thin products.

use super::super::elementwise::leading;
use super::super::matmul::Factor;
use super::super::matmul::portable::{Layout, PACKED, PANEL, accumulate, panels};
use super::super::rowwise::{RowKernel, elements, table_range};
use super::super::{Kernel, Portable};
use super::{Down, DownMember, Grad, GradMember, Part, UpGrad};
use gptjc_graphs::shape::Extents;
use std::marker::PhantomData;
use std::ops::Range;

/// Rows whose dropped elements are in scratch at one time.
const DROPPED_ROWS: usize = 8;

pub(super) fn down(bound: Down) -> Box<dyn Kernel> {
    let scratch = PACKED + DROPPED_ROWS * (bound.inputs + PANEL);
    RowKernel::with_scratch(leading(&bound.x), bound.rows, scratch, move |rows, extents, scratch| {
        for start in rows.clone().step_by(DROPPED_ROWS) {
            let group = start..(start + DROPPED_ROWS).min(rows.end);
            for member in &bound.members {
                // SAFETY: the promises of `run_tile`: rows of the results are this tile's own.
                unsafe { down_rows(&bound, member, &group, extents, scratch) };
            }
        }
    })
}

/// Some rows of one member's `low`.
///
/// # Safety
/// As for [`Kernel::run_tile`].
unsafe fn down_rows(
    bound: &Down,
    member: &DownMember,
    rows: &Range<usize>,
    extents: &Extents,
    scratch: &mut [f32],
) {
    let (packed, scratch) = scratch.split_at_mut(PACKED);
    let (sums, x) = scratch.split_at_mut(rows.len() * PANEL);
    let x = &mut x[..rows.len() * bound.inputs];
    // SAFETY: the caller's promise.
    unsafe {
        bound.x.load(rows.start * bound.inputs, x);
        if let (Some(masks), Some(site)) = (&bound.masks, member.site) {
            let masks = masks.of_batch(extents);
            for (index, row) in rows.clone().enumerate() {
                let x = &mut x[index * bound.inputs..(index + 1) * bound.inputs];
                masks.drop_row(Portable, x, 0, site, masks.place(row));
            }
        }
        let lower = member.lower.read::<f32>(0..member.rank * bound.inputs);
        let layout = Layout { inner: bound.inputs, columns: member.rank, transposed: true };
        for panel in panels(0..member.rank) {
            sums.fill(0.0);
            accumulate(x, lower, layout, panel.clone(), sums, packed);
            for (row, sums) in rows.clone().zip(sums.chunks_exact(PANEL)) {
                member.low.store(row * member.rank + panel.start, &sums[..panel.len()]);
            }
        }
    }
}

pub(super) fn up_grad<Y: Factor>(bound: UpGrad) -> Box<dyn Kernel> {
    let tokens = leading(&bound.members[0].dy);
    let most = (bound.rows.max(1) as usize).min(tokens.bound.max(1));
    let scratch = PACKED + most * PANEL;
    RowKernel::with_scratch(tokens, bound.rows, scratch, move |rows, _, scratch| {
        let (packed, sums) = scratch.split_at_mut(PACKED);
        let sums = &mut sums[..rows.len() * PANEL];
        for member in &bound.members {
            let layout = Layout { inner: member.outputs, columns: member.rank, transposed: false };
            // SAFETY: the promises of `run_tile`: rows of the results are this tile's own.
            unsafe {
                let dy = member.dy.read::<Y>(elements(&rows, member.outputs));
                let upper = member.upper.read::<f32>(0..member.outputs * member.rank);
                for panel in panels(0..member.rank) {
                    sums.fill(0.0);
                    accumulate(dy, upper, layout, panel.clone(), sums, packed);
                    sums.iter_mut().for_each(|sum| *sum *= bound.scale);
                    for (row, sums) in rows.clone().zip(sums.chunks_exact(PANEL)) {
                        member.dlow.store(row * member.rank + panel.start, &sums[..panel.len()]);
                    }
                }
            }
        }
    })
}

struct PortableGrad<Y> {
    bound: Grad,
    factor: PhantomData<Y>,
}

pub(super) fn grad<Y: Factor>(bound: Grad) -> Box<dyn Kernel> {
    Box::new(PortableGrad::<Y> { bound, factor: PhantomData })
}

impl<Y: Factor> Kernel for PortableGrad<Y> {
    fn tiles(&self, _phase: usize, extents: &Extents) -> usize {
        self.bound.tiles(extents)
    }

    fn scratch(&self) -> usize {
        self.bound.inputs
    }

    unsafe fn run_tile(&self, _phase: usize, tile: usize, extents: &Extents, scratch: &mut [f32]) {
        let (window, member, part) = self.bound.tile(tile);
        // SAFETY: the promises of `run_tile`: the tile's inputs or outputs of a window are its own.
        unsafe {
            let tokens = table_range(self.bound.table.read_to(2 * window + 2), window);
            match part {
                Part::Lower(inputs) => {
                    let x = &mut scratch[..inputs.len()];
                    lower_grad(&self.bound, member, (window, tokens), inputs, extents, x);
                }
                Part::Upper(outputs) => upper_grad::<Y>(&self.bound, member, (window, tokens), outputs),
            }
        }
    }
}

/// `da[rank, inputs] = Σ dlow · drop(x)` over the tokens of a window; `x` is scratch of as many elements as `inputs`.
///
/// # Safety
/// As for [`Kernel::run_tile`].
unsafe fn lower_grad(
    bound: &Grad,
    member: &GradMember,
    (window, tokens): (usize, Range<usize>),
    inputs: Range<usize>,
    extents: &Extents,
    x: &mut [f32],
) {
    let row = |i: usize| {
        let start = (window * member.rank + i) * bound.inputs;
        start + inputs.start..start + inputs.end
    };
    // SAFETY: the caller's promise; one row of `da` is written at a time.
    unsafe {
        (0..member.rank).for_each(|i| member.da.write::<f32>(row(i)).fill(0.0));
        let masks = bound.masks.as_ref().map(|masks| masks.of_batch(extents));
        for token in tokens {
            bound.x.load(token * bound.inputs + inputs.start, x);
            if let (Some(masks), Some(site)) = (&masks, member.site) {
                masks.drop_row(Portable, x, inputs.start, site, masks.place(token));
            }
            let dlow = member.dlow.read::<f32>(elements(&(token..token + 1), member.rank));
            for (i, dlow) in dlow.iter().enumerate() {
                for (sum, x) in member.da.write::<f32>(row(i)).iter_mut().zip(&*x) {
                    *sum += dlow * x;
                }
            }
        }
    }
}

/// `db[outputs, rank] = Σ dy · (scale · low)` over the tokens of a window.
///
/// # Safety
/// As for [`Kernel::run_tile`].
unsafe fn upper_grad<Y: Factor>(
    bound: &Grad,
    member: &GradMember,
    (window, tokens): (usize, Range<usize>),
    outputs: Range<usize>,
) {
    let (rank, start) = (member.rank, window * member.outputs);
    // SAFETY: the caller's promise.
    unsafe {
        let db = member.db.write::<f32>((start + outputs.start) * rank..(start + outputs.end) * rank);
        db.fill(0.0);
        for token in tokens {
            let low = member.low.read::<f32>(elements(&(token..token + 1), rank));
            let of_token = token * member.outputs;
            let dy = member.dy.read::<Y>(of_token + outputs.start..of_token + outputs.end);
            for (dy, sums) in dy.iter().zip(db.chunks_exact_mut(rank.max(1))) {
                let dy = dy.widen();
                for (sum, low) in sums.iter_mut().zip(low) {
                    *sum += dy * (bound.scale * low);
                }
            }
        }
    }
}
