//! The shape that most kernels have: rows of a dimension, each computed by itself.

use super::{Kernel, tile_range};
use gptjc_graphs::shape::{Dim, Extents};
use std::ops::Range;

/// A kernel whose tiles are ranges of rows of one dimension.
///
/// The body is called with the rows of a tile, the extents and scratch. It is called under the promises of
/// [`Kernel::run_tile`]: its rows of the results are its own, its operands are not written.
pub(crate) struct RowKernel<F> {
    dim: Dim,
    rows: usize,
    scratch: usize,
    body: F,
}

impl<F: Fn(Range<usize>, &Extents, &mut [f32]) + Send + Sync + 'static> RowKernel<F> {
    /// A kernel over `dim` in tiles of `rows` rows.
    pub(crate) fn boxed(dim: Dim, rows: u32, body: F) -> Box<dyn Kernel> {
        Self::with_scratch(dim, rows, 0, body)
    }

    /// The same with `scratch` f32 elements for each thread.
    pub(crate) fn with_scratch(dim: Dim, rows: u32, scratch: usize, body: F) -> Box<dyn Kernel> {
        Box::new(Self { dim, rows: rows.max(1) as usize, scratch, body })
    }
}

impl<F: Fn(Range<usize>, &Extents, &mut [f32]) + Send + Sync> Kernel for RowKernel<F> {
    fn tiles(&self, _phase: usize, extents: &Extents) -> usize {
        extents.of(self.dim).div_ceil(self.rows)
    }

    fn scratch(&self) -> usize {
        self.scratch
    }

    unsafe fn run_tile(&self, _phase: usize, tile: usize, extents: &Extents, scratch: &mut [f32]) {
        (self.body)(tile_range(tile, self.rows, extents.of(self.dim)), extents, scratch);
    }
}

/// Elements of `rows` rows of `width` elements.
pub(crate) fn elements(rows: &Range<usize>, width: usize) -> Range<usize> {
    rows.start * width..rows.end * width
}

/// `range` in portions that stay in the first-level cache between two passes over them.
pub(crate) fn portions(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    const ELEMENTS: usize = 2048;
    range.clone().step_by(ELEMENTS).map(move |start| start..(start + ELEMENTS).min(range.end))
}

/// The rows that entry `index` of a table of (first, count) pairs names.
pub(crate) fn table_range(table: &[i32], index: usize) -> Range<usize> {
    let (first, count) = (table[2 * index] as usize, table[2 * index + 1] as usize);
    first..first + count
}
