//! Reads a weight in blocks of rows, in f32, with its adapter merged into them.
//!
//! Does not: round or write; the visitor does.

use gptjc_graphs::onnx::Initializer;

use super::error::ExportError;
use super::merge::Merge;
use super::source::TensorSource;

/// Values read at a time: 1 MiB of f32, so that a block stays in the cache while it is transposed.
const BLOCK_VALUES: usize = 1 << 18;

/// Consecutive rows of a weight, in the layout of the checkpoint.
pub(crate) struct Block<'a> {
    /// Index of the first row.
    pub(crate) first_row: usize,
    /// The rows, merged.
    pub(crate) values: &'a [f32],
    /// The rows as the checkpoint has them, if an adapter was merged into them.
    pub(crate) before: Option<&'a [f32]>,
}

/// A weight that can be read: its shape, and its adapter's if it has one, are those of the recipe.
pub(crate) struct Blocks<'a> {
    initializer: &'a Initializer,
    source: &'a dyn TensorSource,
    shape: [usize; 2],
    merge: Option<Merge<'a>>,
}

impl<'a> Blocks<'a> {
    /// Checks what the recipe of `initializer` names.
    pub(crate) fn of(
        initializer: &'a Initializer,
        source: &'a dyn TensorSource,
    ) -> Result<Self, ExportError> {
        let shape = check_shape(initializer, source)?;
        let merge = Merge::of(initializer, source, shape)?;
        Ok(Blocks { initializer, source, shape, merge })
    }

    /// Rows and columns in the checkpoint; a vector has one column.
    pub(crate) fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Hands all blocks to `visitor`, in ascending rows, and says whether an adapter was merged into them.
    pub(crate) fn visit<E: From<ExportError>>(
        mut self,
        mut visitor: impl FnMut(Block<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        let [rows, columns] = self.shape;
        let name = &self.initializer.name;
        let failed = |source| ExportError::Source { initializer: name.clone(), source };
        let block_rows = (BLOCK_VALUES / columns).max(1);
        let mut values = vec![0.0; block_rows.min(rows) * columns];
        let mut before = Vec::new();
        for first_row in (0..rows).step_by(block_rows) {
            let last_row = rows.min(first_row + block_rows);
            let block = &mut values[..(last_row - first_row) * columns];
            let base = self.initializer.recipe.source.base();
            self.source.read_f32(base, first_row..last_row, block).map_err(failed)?;
            if let Some(merge) = &mut self.merge {
                before.clear();
                before.extend_from_slice(block);
                merge.apply(first_row, block).map_err(failed)?;
            }
            let before = self.merge.is_some().then_some(before.as_slice());
            visitor(Block { first_row, values: block, before })?;
        }
        Ok(self.merge.is_some())
    }
}

/// The rows and columns of a weight in the checkpoint, after a check that it has them; a vector has one column.
fn check_shape(initializer: &Initializer, source: &dyn TensorSource) -> Result<[usize; 2], ExportError> {
    let tensor = initializer.recipe.source.base();
    let failed = |source| ExportError::Source { initializer: initializer.name.clone(), source };
    let found = source.shape(tensor).map_err(failed)?;
    let expected = initializer.source_shape();
    if found != expected {
        return Err(ExportError::Shape {
            tensor: tensor.into(),
            initializer: initializer.name.clone(),
            expected: format!("{expected:?}"),
            found,
        });
    }
    let rows = expected.first().copied().unwrap_or(1);
    Ok([rows, expected.iter().skip(1).product::<usize>().max(1)])
}
