//! Where tensors come from: a trait that checkpoints and adapters implement, and tensors in memory.
//!
//! Does not: know file formats.

use std::collections::BTreeMap;
use std::ops::Range;

/// Why a tensor cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no tensor of this name.
    #[error("there is no tensor `{tensor}`; is this the checkpoint, or the adapter, of this model?")]
    Missing {
        /// The name.
        tensor: String,
    },
    /// Rows outside of the tensor, or a buffer that does not hold them.
    #[error("rows {}..{} of tensor `{tensor}` do not fit its {found} rows, or a buffer of {buffer} values", rows.start, rows.end)]
    Rows {
        /// The name.
        tensor: String,
        /// Rows asked for.
        rows: Range<usize>,
        /// Rows there are.
        found: usize,
        /// Length of the buffer.
        buffer: usize,
    },
    /// The file under the tensor failed.
    #[error("cannot read tensor `{tensor}`")]
    Failed {
        /// The name.
        tensor: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Tensors by name, read as f32 in blocks of rows.
///
/// Names are those of the files: `transformer.h.0.attn.q_proj.weight` in a checkpoint,
/// `base_model.model.transformer.h.0.attn.q_proj.lora_A.weight` in an adapter.
pub trait TensorSource {
    /// The shape of a tensor.
    ///
    /// # Errors
    /// [`SourceError::Missing`] if there is none of this name.
    fn shape(&self, name: &str) -> Result<Vec<usize>, SourceError>;

    /// Reads rows (slices of the first dimension; elements of a vector), widened to f32, into `out`.
    ///
    /// An implementation over a memory map should release the pages behind it: a tensor is read once, in ascending rows.
    ///
    /// # Errors
    /// [`SourceError`]; `out` is then undefined.
    fn read_f32(&self, name: &str, rows: Range<usize>, out: &mut [f32]) -> Result<(), SourceError>;
}

/// Tensors held in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryTensors {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl MemoryTensors {
    /// No tensors.
    pub fn new() -> Self {
        MemoryTensors::default()
    }

    /// Adds a tensor, or replaces the one of this name. `values` are row-major.
    pub fn insert(&mut self, name: impl Into<String>, shape: Vec<usize>, values: Vec<f32>) {
        self.tensors.insert(name.into(), (shape, values));
    }

    /// Removes a tensor.
    pub fn remove(&mut self, name: &str) {
        self.tensors.remove(name);
    }

    fn get(&self, name: &str) -> Result<&(Vec<usize>, Vec<f32>), SourceError> {
        self.tensors.get(name).ok_or_else(|| SourceError::Missing { tensor: name.into() })
    }
}

impl TensorSource for MemoryTensors {
    fn shape(&self, name: &str) -> Result<Vec<usize>, SourceError> {
        self.get(name).map(|(shape, _)| shape.clone())
    }

    fn read_f32(&self, name: &str, rows: Range<usize>, out: &mut [f32]) -> Result<(), SourceError> {
        let (shape, values) = self.get(name)?;
        let row: usize = shape.iter().skip(1).product();
        let wanted = values.get(rows.start * row..rows.end * row).filter(|wanted| wanted.len() == out.len());
        let Some(wanted) = wanted else {
            let found = shape.first().copied().unwrap_or(1);
            return Err(SourceError::Rows { tensor: name.into(), rows, found, buffer: out.len() });
        };
        out.copy_from_slice(wanted);
        Ok(())
    }
}
