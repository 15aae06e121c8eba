//! The projection to the vocabulary with its loss and gradient, in chunks of rows.
//!
//! `VocabLoss` says what a call is bound to and how its work is cut into chunks, phases and tiles; every variant takes
//! it. A chunk of rows has up to three phases: logits into the workspace, tile by tile; loss and, in place, the gradient
//! of the logits, row by row; the product of that gradient, tile by tile.
//!
//! # Numerics
//! Logits are f32 chains in ascending order, bias last; loss and gradient as in cross entropy. The gradient of the
//! logits is rounded to the attribute's type, and its product is one ascending chain over the vocabulary.

mod portable;
#[cfg(test)]
mod tests;
pub(super) mod vector;

use super::blocks::Blocks;
use super::elementwise::leading;
use super::matmul::with_factors;
use super::{Call, Kernel, KernelError, View, tile_range};
use gptjc_graphs::dtype::DType::{self, F32, I32};
use gptjc_graphs::shape::Extents;
use portable::kernel;
use std::ops::Range;

/// What a call of `vocab_loss` is bound to.
pub(super) struct VocabLoss {
    /// `[rows, width]`.
    pub(super) h: View,
    pub(super) width: usize,
    /// `[vocabulary, width]`.
    pub(super) w: View,
    pub(super) vocabulary: usize,
    /// f32 `[vocabulary]`.
    pub(super) bias: View,
    /// i32 `[rows]`.
    pub(super) labels: View,
    /// f32 `[rows]`.
    pub(super) nll: View,
    /// f32 `[rows, width]`, if there is a gradient.
    pub(super) dh: Option<View>,
    /// What the gradient of the logits is rounded to.
    pub(super) dtype: DType,
    /// f32 `[chunk, vocabulary]`: the logits of a chunk.
    pub(super) logits: View,
    /// Rows of a chunk.
    pub(super) chunk: usize,
    pub(super) blocks: Blocks,
}

/// What a tile does; rows count from the first of the batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Rows and columns of the logits.
    Logits(Range<usize>, Range<usize>),
    /// Loss, and gradient of the logits, of this row.
    Loss(usize),
    /// Rows and columns of `dh`.
    Gradient(Range<usize>, Range<usize>),
}

impl VocabLoss {
    fn new(call: &Call) -> Result<Self, KernelError> {
        let (chunk, gradient) = (call.int("chunk")?, call.flag("gradient")?);
        let dtype = call.float_type("dtype")?;
        let [h, w, bias, labels] = call.operands()?;
        call.check_type("bias", &bias, F32)?;
        call.check_type("labels", &labels, I32)?;
        if call.results.len() != 1 + usize::from(gradient) || call.workspace.len() != 1 || chunk == 0 {
            return Err(call.refuse_count());
        }
        call.results.iter().try_for_each(|result| call.check_type("result", result, F32))?;
        let logits = call.workspace[0].clone();
        call.check_type("workspace", &logits, F32)?;
        let (nll, dh) = (call.results[0].clone(), call.results.get(1).cloned());
        let (width, vocabulary) = (w.row_elements(), leading(&w).bound);
        let chunk = chunk.min(leading(&logits).bound);
        let blocks = Blocks::new(call.partition, chunk);
        Ok(Self { h, width, w, vocabulary, bias, labels, nll, dh, dtype, logits, chunk, blocks })
    }

    /// Phases of a chunk.
    fn of_chunk(&self) -> usize {
        2 + usize::from(self.dh.is_some())
    }

    fn rows(&self, extents: &Extents) -> usize {
        extents.of(leading(&self.h))
    }

    /// Phases of all chunks.
    pub(super) fn phases(&self, extents: &Extents) -> usize {
        self.rows(extents).div_ceil(self.chunk.max(1)) * self.of_chunk()
    }

    /// The rows of a phase's chunk, and which phase of it that is.
    fn phase(&self, phase: usize, extents: &Extents) -> (Range<usize>, usize) {
        let rows = tile_range(phase / self.of_chunk(), self.chunk, self.rows(extents));
        (rows, phase % self.of_chunk())
    }

    /// Number of tiles of a phase.
    pub(super) fn tiles(&self, phase: usize, extents: &Extents) -> usize {
        let (rows, step) = self.phase(phase, extents);
        match step {
            0 => self.blocks.count(rows.len(), self.vocabulary),
            1 => rows.len(),
            _ => self.blocks.count(rows.len(), self.width),
        }
    }

    /// Of the tiles of a phase, those side by side for the same columns; none where there are no columns.
    pub(super) fn row_tiles(&self, phase: usize, extents: &Extents) -> Option<usize> {
        let (rows, step) = self.phase(phase, extents);
        (step != 1).then(|| self.blocks.row_tiles(rows.len()))
    }

    /// What tile `tile` of a phase does.
    pub(super) fn tile(&self, phase: usize, tile: usize, extents: &Extents) -> Part {
        let (rows, step) = self.phase(phase, extents);
        let shifted = |(of_chunk, columns): (Range<usize>, Range<usize>)| {
            (rows.start + of_chunk.start..rows.start + of_chunk.end, columns)
        };
        match step {
            0 => {
                let (rows, columns) = shifted(self.blocks.tile(tile, rows.len(), self.vocabulary));
                Part::Logits(rows, columns)
            }
            1 => Part::Loss(rows.start + tile),
            _ => {
                let (rows, columns) = shifted(self.blocks.tile(tile, rows.len(), self.width));
                Part::Gradient(rows, columns)
            }
        }
    }

    /// First element of a row's logits in the workspace.
    pub(super) fn logits_of(&self, row: usize) -> usize {
        row % self.chunk * self.vocabulary
    }
}

pub(super) fn bind(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let bound = VocabLoss::new(call)?;
    let types = (bound.h.ty().dtype, bound.w.ty().dtype);
    with_factors!(call, types, kernel, bound)
}
