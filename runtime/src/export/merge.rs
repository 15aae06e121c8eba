//! Merges a LoRA adapter into blocks of rows of its weight, in f32.
//!
//! Does not: round; the caller rounds once, when it stores the result.

use gptjc_graphs::onnx::{Initializer, Source};

use super::error::ExportError;
use super::source::{SourceError, TensorSource};

/// An adapter's part for one weight: `scaling · B·A` for any rows, with A in memory.
pub(super) struct Merge<'a> {
    source: &'a dyn TensorSource,
    b_name: &'a str,
    /// `[rank, columns]`
    a: Vec<f32>,
    rank: usize,
    columns: usize,
    scaling: f32,
    /// One row of `B·A`.
    delta: Vec<f32>,
    b: Vec<f32>,
}

impl<'a> Merge<'a> {
    /// The merge that a recipe asks for, if any; `[rows, columns]` is the shape of the weight in the checkpoint.
    pub(super) fn of(
        initializer: &'a Initializer,
        source: &'a dyn TensorSource,
        [rows, columns]: [usize; 2],
    ) -> Result<Option<Self>, ExportError> {
        let (a_name, b_name, scaling) = match &initializer.recipe.source {
            Source::Tensor(_) => return Ok(None),
            Source::LoraMerged { a, b, scaling, .. } => (a, b, *scaling as f32),
        };
        let failed = |source| ExportError::Source { initializer: initializer.name.clone(), source };
        let refuse = |tensor: &str, expected: String, found: Vec<usize>| ExportError::Shape {
            tensor: tensor.into(),
            initializer: initializer.name.clone(),
            expected,
            found,
        };
        let a_shape = source.shape(a_name).map_err(failed)?;
        let rank = match a_shape.as_slice() {
            [rank, width] if *width == columns && *rank > 0 => *rank,
            _ => return Err(refuse(a_name, format!("[r, {columns}]"), a_shape)),
        };
        let b_shape = source.shape(b_name).map_err(failed)?;
        if b_shape != [rows, rank] {
            return Err(refuse(b_name, format!("[{rows}, {rank}]"), b_shape));
        }
        let mut a = vec![0.0; rank * columns];
        source.read_f32(a_name, 0..rank, &mut a).map_err(failed)?;
        Ok(Some(Merge {
            source,
            b_name,
            a,
            rank,
            columns,
            scaling,
            delta: vec![0.0; columns],
            b: Vec::new(),
        }))
    }

    /// Adds `scaling · B·A` to a block of rows that starts at `first_row`.
    ///
    /// # Numerics
    /// Each product sum in ascending rank, then scaled, then added: three f32 steps, as PEFT does it.
    pub(super) fn apply(&mut self, first_row: usize, block: &mut [f32]) -> Result<(), SourceError> {
        let rows = block.len() / self.columns;
        self.b.resize(rows * self.rank, 0.0);
        self.source.read_f32(self.b_name, first_row..first_row + rows, &mut self.b)?;
        for (weights, factors) in block.chunks_exact_mut(self.columns).zip(self.b.chunks_exact(self.rank)) {
            self.delta.fill(0.0);
            for (factor, direction) in factors.iter().zip(self.a.chunks_exact(self.columns)) {
                for (sum, value) in self.delta.iter_mut().zip(direction) {
                    *sum += factor * value;
                }
            }
            for (weight, sum) in weights.iter_mut().zip(&self.delta) {
                *weight += self.scaling * sum;
            }
        }
        Ok(())
    }
}
