//! The portable projections: the portable product's panels, with what fusion adds done on a panel's sums.

use super::super::Portable as Arithmetic;
use super::super::gelu::{gelu_tanh, gelu_tanh_derivative};
use super::super::matmul::Factor;
use super::super::matmul::portable::{Layout, PACKED, PANEL, accumulate, panels};
use super::super::rowwise::elements;
use super::super::{Kernel, KernelError};
use super::{Projection, ProjectionGrad, Tile};
use gptjc_graphs::shape::Extents;
use std::marker::PhantomData;
use std::ops::Range;

struct Forward<X, W> {
    bound: Projection,
    factors: PhantomData<(X, W)>,
}

pub(super) fn forward<X: Factor, W: Factor>(bound: Projection) -> Result<Box<dyn Kernel>, KernelError> {
    Ok(Box::new(Forward::<X, W> { bound, factors: PhantomData }))
}

impl<X: Factor, W: Factor> Kernel for Forward<X, W> {
    fn tiles(&self, _phase: usize, extents: &Extents) -> usize {
        self.bound.tiles(extents)
    }

    fn row_tiles(&self, _phase: usize, extents: &Extents) -> Option<usize> {
        Some(self.bound.blocks.row_tiles(self.bound.tokens(extents)))
    }

    fn scratch(&self) -> usize {
        let ranks = self.bound.members.iter().filter_map(|member| member.adapter.as_ref()).map(|a| a.rank);
        PACKED + self.bound.blocks.rows * (PANEL + ranks.max().unwrap_or(0))
    }

    unsafe fn run_tile(&self, _phase: usize, tile: usize, extents: &Extents, scratch: &mut [f32]) {
        let bound = &self.bound;
        let tile = bound.tile(tile, extents);
        let (member, rows) = (tile.member, &tile.rows);
        let (packed, scratch) = scratch.split_at_mut(PACKED);
        let (sums, scaled) = scratch.split_at_mut(rows.len() * PANEL);
        // SAFETY: the promises of `run_tile`: rows and columns of the member's results are this tile's own.
        unsafe {
            let x = bound.x.read::<X>(elements(rows, bound.inputs));
            let weight = member.weight.read::<W>(0..member.outputs * bound.inputs);
            let transposed = |inner| Layout { inner, columns: member.outputs, transposed: true };
            let mut upper = None;
            if let Some(adapter) = &member.adapter {
                let scaled = &mut scaled[..rows.len() * adapter.rank];
                let low = adapter.low.read::<f32>(elements(rows, adapter.rank));
                scaled.iter_mut().zip(low).for_each(|(scaled, low)| *scaled = bound.scale * low);
                let halves = adapter.upper.read::<f32>(0..member.outputs * adapter.rank);
                upper = Some((&*scaled, halves, transposed(adapter.rank)));
            }
            for panel in panels(tile.columns.clone()) {
                sums.fill(0.0);
                accumulate(x, weight, transposed(bound.inputs), panel.clone(), sums, packed);
                if let Some((scaled, upper, layout)) = upper {
                    accumulate(scaled, upper, layout, panel.clone(), sums, packed);
                }
                for (row, sums) in rows.clone().zip(sums.chunks_exact_mut(PANEL)) {
                    finish(bound, &tile, row, panel.clone(), sums);
                }
            }
        }
    }
}

/// Bias, residuals and activation of one row's sums, and their places in memory.
///
/// # Safety
/// As for [`Kernel::run_tile`].
unsafe fn finish(bound: &Projection, tile: &Tile<'_>, row: usize, columns: Range<usize>, sums: &mut [f32]) {
    let sums = &mut sums[..columns.len()];
    let (member, first) = (tile.member, row * tile.member.outputs + columns.start);
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(bias) = &member.bias {
            add(sums, bias.read(columns));
        }
        for residual in &bound.residuals {
            add(sums, residual.read(first..first + sums.len()));
        }
        member.y.store(first, sums);
        if let Some(activation) = &member.activation {
            for y in sums.iter_mut() {
                *y = gelu_tanh(*y);
            }
            activation.store(first, sums);
        }
    }
}

fn add(sums: &mut [f32], terms: &[f32]) {
    sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
}

struct Grad<Y, W> {
    bound: ProjectionGrad,
    factors: PhantomData<(Y, W)>,
}

pub(super) fn grad<Y: Factor, W: Factor>(bound: ProjectionGrad) -> Result<Box<dyn Kernel>, KernelError> {
    Ok(Box::new(Grad::<Y, W> { bound, factors: PhantomData }))
}

impl<Y: Factor, W: Factor> Kernel for Grad<Y, W> {
    fn tiles(&self, _phase: usize, extents: &Extents) -> usize {
        self.bound.blocks.count(extents.of(self.bound.tokens()), self.bound.inputs)
    }

    fn row_tiles(&self, _phase: usize, extents: &Extents) -> Option<usize> {
        Some(self.bound.blocks.row_tiles(extents.of(self.bound.tokens())))
    }

    fn scratch(&self) -> usize {
        PACKED + 2 * self.bound.blocks.rows * PANEL
    }

    unsafe fn run_tile(&self, _phase: usize, tile: usize, extents: &Extents, scratch: &mut [f32]) {
        let bound = &self.bound;
        let (rows, columns) = bound.blocks.tile(tile, extents.of(bound.tokens()), bound.inputs);
        let (packed, scratch) = scratch.split_at_mut(PACKED);
        let (sums, products) = scratch.split_at_mut(rows.len() * PANEL);
        let products = &mut products[..rows.len() * PANEL];
        let as_it_lies = |inner| Layout { inner, columns: bound.inputs, transposed: false };
        for panel in panels(columns) {
            sums.fill(0.0);
            for member in &bound.members {
                // SAFETY: the promises of `run_tile`.
                unsafe {
                    let dy = member.dy.read::<Y>(elements(&rows, member.outputs));
                    let weight = member.weight.read::<W>(0..member.outputs * bound.inputs);
                    accumulate(dy, weight, as_it_lies(member.outputs), panel.clone(), sums, packed);
                }
            }
            for adapter in bound.members.iter().filter_map(|member| member.adapter.as_ref()) {
                products.fill(0.0);
                // SAFETY: the promises of `run_tile`.
                unsafe {
                    let dlow = adapter.dlow.read::<f32>(elements(&rows, adapter.rank));
                    let lower = adapter.lower.read::<f32>(0..adapter.rank * bound.inputs);
                    accumulate(dlow, lower, as_it_lies(adapter.rank), panel.clone(), products, packed);
                    add_masked(
                        bound,
                        adapter.site,
                        &rows,
                        panel.clone(),
                        (&mut *products, &mut *sums),
                        extents,
                    );
                }
            }
            for (row, sums) in rows.clone().zip(sums.chunks_exact_mut(PANEL)) {
                // SAFETY: the promises of `run_tile`: rows and columns of `dx` are this tile's own.
                unsafe { finish_grad(bound, row, panel.clone(), sums) };
            }
        }
    }
}

/// Adds to `sums` what the dropout `site` leaves of an adapter's `products`.
///
/// # Safety
/// As for [`Kernel::run_tile`].
unsafe fn add_masked(
    bound: &ProjectionGrad,
    site: Option<u16>,
    rows: &Range<usize>,
    columns: Range<usize>,
    (products, sums): (&mut [f32], &mut [f32]),
    extents: &Extents,
) {
    if let (Some(masks), Some(site)) = (&bound.masks, site) {
        // SAFETY: the caller's promise.
        let masks = unsafe { masks.of_batch(extents) };
        for (row, products) in rows.clone().zip(products.chunks_exact_mut(PANEL)) {
            masks.drop_row(Arithmetic, &mut products[..columns.len()], columns.start, site, masks.place(row));
        }
    }
    add(sums, products);
}

/// Derivative and residuals of one row's sums, and their place in memory.
///
/// # Safety
/// As for [`Kernel::run_tile`].
unsafe fn finish_grad(bound: &ProjectionGrad, row: usize, columns: Range<usize>, sums: &mut [f32]) {
    let sums = &mut sums[..columns.len()];
    let first = row * bound.inputs + columns.start;
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(of_u) = &bound.u {
            let mut u = [0.0; PANEL];
            of_u.load(first, &mut u[..sums.len()]);
            sums.iter_mut().zip(u).for_each(|(sum, u)| *sum *= gelu_tanh_derivative(u));
        }
        for residual in &bound.residuals {
            add(sums, residual.read(first..first + sums.len()));
        }
        bound.dx.store(first, sums);
    }
}
