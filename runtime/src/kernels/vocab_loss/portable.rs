//! The portable loss: the portable product's panels, and cross entropy row by row.

use super::super::cross_entropy::CrossEntropy;
use super::super::elementwise::add_assign;
use super::super::matmul::Factor;
use super::super::matmul::portable::{Layout, PACKED, PANEL, accumulate, panels};
use super::super::rowwise::elements;
use super::super::{Kernel, KernelError};
use super::{Part, VocabLoss};
use gptjc_graphs::dtype::DType;
use gptjc_graphs::shape::Extents;
use half::bf16;
use std::marker::PhantomData;
use std::ops::Range;

struct Portable<H, W> {
    bound: VocabLoss,
    factors: PhantomData<(H, W)>,
}

pub(super) fn kernel<H: Factor, W: Factor>(bound: VocabLoss) -> Result<Box<dyn Kernel>, KernelError> {
    Ok(Box::new(Portable::<H, W> { bound, factors: PhantomData }))
}

impl<H: Factor, W: Factor> Kernel for Portable<H, W> {
    fn phases(&self, extents: &Extents) -> usize {
        self.bound.phases(extents)
    }

    fn tiles(&self, phase: usize, extents: &Extents) -> usize {
        self.bound.tiles(phase, extents)
    }

    fn row_tiles(&self, phase: usize, extents: &Extents) -> Option<usize> {
        self.bound.row_tiles(phase, extents)
    }

    fn scratch(&self) -> usize {
        PACKED + self.bound.blocks.rows * PANEL
    }

    unsafe fn run_tile(&self, phase: usize, tile: usize, extents: &Extents, scratch: &mut [f32]) {
        // SAFETY: the promises of `run_tile`, which are those of each part.
        unsafe {
            match self.bound.tile(phase, tile, extents) {
                Part::Logits(rows, columns) => self.logits(&rows, columns, scratch),
                Part::Loss(row) => self.loss(row),
                Part::Gradient(rows, columns) => self.gradient(&rows, columns, scratch),
            }
        }
    }
}

impl<H: Factor, W: Factor> Portable<H, W> {
    /// # Safety
    /// As for [`Kernel::run_tile`]; rows and columns of the workspace are the tile's own.
    unsafe fn logits(&self, rows: &Range<usize>, columns: Range<usize>, scratch: &mut [f32]) {
        let bound = &self.bound;
        let (packed, sums) = scratch.split_at_mut(PACKED);
        let sums = &mut sums[..rows.len() * PANEL];
        let layout = Layout { inner: bound.width, columns: bound.vocabulary, transposed: true };
        // SAFETY: the caller's promise.
        unsafe {
            let h = bound.h.read::<H>(elements(rows, bound.width));
            let w = bound.w.read::<W>(0..bound.vocabulary * bound.width);
            for panel in panels(columns) {
                sums.fill(0.0);
                accumulate(h, w, layout, panel.clone(), sums, packed);
                let bias = bound.bias.read::<f32>(panel.clone());
                for (row, sums) in rows.clone().zip(sums.chunks_exact_mut(PANEL)) {
                    add_assign(&mut sums[..panel.len()], bias);
                    bound.logits.store(bound.logits_of(row) + panel.start, &sums[..panel.len()]);
                }
            }
        }
    }

    /// # Safety
    /// As for [`Kernel::run_tile`]; the row of the workspace and of the loss is the tile's own.
    unsafe fn loss(&self, row: usize) {
        let bound = &self.bound;
        let first = bound.logits_of(row);
        // SAFETY: the caller's promise.
        unsafe {
            let logits = bound.logits.write::<f32>(first..first + bound.vocabulary);
            let label = bound.labels.read::<i32>(row..row + 1)[0] as usize;
            let (nll, lse) = super::super::Portable.loss(logits, label);
            bound.nll.store(row, &[nll]);
            if bound.dh.is_some() {
                super::super::Portable.gradient(logits, label, lse, 1.0);
                if bound.dtype == DType::Bf16 {
                    logits.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32());
                }
            }
        }
    }

    /// # Safety
    /// As for [`Kernel::run_tile`]; rows and columns of `dh` are the tile's own.
    unsafe fn gradient(&self, rows: &Range<usize>, columns: Range<usize>, scratch: &mut [f32]) {
        let bound = &self.bound;
        let Some(dh) = &bound.dh else { return };
        let (packed, sums) = scratch.split_at_mut(PACKED);
        let sums = &mut sums[..rows.len() * PANEL];
        let layout = Layout { inner: bound.vocabulary, columns: bound.width, transposed: false };
        let first = bound.logits_of(rows.start);
        // SAFETY: the caller's promise; nobody writes the workspace in this phase.
        unsafe {
            let dlogits = bound.logits.read::<f32>(first..first + rows.len() * bound.vocabulary);
            let w = bound.w.read::<W>(0..bound.vocabulary * bound.width);
            for panel in panels(columns) {
                sums.fill(0.0);
                accumulate(dlogits, w, layout, panel.clone(), sums, packed);
                for (row, sums) in rows.clone().zip(sums.chunks_exact(PANEL)) {
                    dh.store(row * bound.width + panel.start, &sums[..panel.len()]);
                }
            }
        }
    }
}
