//! A mapped checkpoint, and an adapter if there is one, as the source of an export.
//!
//! Pages of the checkpoint are given back as soon as they were read, so that an export of any size needs little memory.
//!
//! Does not: check that checkpoint, adapter and model belong together; see [`crate::merge::check_adapter`].

use std::ops::Range;

use super::source::{SourceError, TensorSource};
use crate::adapter::Adapter;
use crate::weights::convert::read_f32_into;
use crate::weights::{Checkpoint, TensorView};

/// The tensors of a checkpoint, and of an adapter, by their names in the files.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointSource<'a> {
    checkpoint: &'a Checkpoint,
    adapter: Option<&'a Adapter>,
}

impl<'a> CheckpointSource<'a> {
    /// The tensors of both.
    pub fn new(checkpoint: &'a Checkpoint, adapter: Option<&'a Adapter>) -> Self {
        CheckpointSource { checkpoint, adapter }
    }

    fn view(&self, name: &str) -> Result<TensorView<'a>, SourceError> {
        self.checkpoint.tensor(name).ok_or_else(|| SourceError::Missing { tensor: name.into() })
    }
}

impl TensorSource for CheckpointSource<'_> {
    fn shape(&self, name: &str) -> Result<Vec<usize>, SourceError> {
        match self.adapter.and_then(|adapter| adapter.tensors.get(name)) {
            Some(tensor) => Ok(tensor.shape.clone()),
            None => Ok(self.view(name)?.shape.to_vec()),
        }
    }

    fn read_f32(&self, name: &str, rows: Range<usize>, out: &mut [f32]) -> Result<(), SourceError> {
        let shape = self.shape(name)?;
        let row: usize = shape.iter().skip(1).product();
        let wrong_rows = |buffer: usize| SourceError::Rows {
            tensor: name.into(),
            rows: rows.clone(),
            found: shape.first().copied().unwrap_or(1),
            buffer,
        };
        if let Some(tensor) = self.adapter.and_then(|adapter| adapter.tensors.get(name)) {
            let wanted = tensor.values.get(rows.start * row..rows.end * row);
            let wanted = wanted.filter(|wanted| wanted.len() == out.len());
            out.copy_from_slice(wanted.ok_or_else(|| wrong_rows(out.len()))?);
            return Ok(());
        }
        let view = self.view(name)?;
        let size = view.dtype.size();
        let range = rows.start * row * size..rows.end * row * size;
        let bytes = view.bytes.get(range.clone()).ok_or_else(|| wrong_rows(out.len()))?;
        read_f32_into(&TensorView { bytes, ..view }, out).map_err(|_| wrong_rows(out.len()))?;
        self.checkpoint.release(name, range);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use safetensors::Dtype;

    use super::*;
    use crate::weights::test_files::{golden, write};

    #[test]
    fn rows_are_those_of_the_files_in_any_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let values: Vec<f32> = (0..15_000).map(|index| (index % 256) as f32).collect();
        let bytes = values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect();
        write(&dir.path().join("model.safetensors"), &[("w", Dtype::BF16, vec![5000, 3], bytes)]);
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let source = CheckpointSource::new(&checkpoint, None);
        for block in [1, 7, 1000, 5000] {
            let mut found = vec![0.0; values.len()];
            for (index, out) in found.chunks_mut(block * 3).enumerate() {
                let first = index * block;
                source.read_f32("w", first..first + out.len() / 3, out).unwrap();
            }
            assert_eq!(found, values, "blocks of {block} rows");
        }
        let message =
            |rows, length| source.read_f32("w", rows, &mut vec![0.0; length]).unwrap_err().to_string();
        let expected = "rows 4999..5001 of tensor `w` do not fit its 5000 rows, or a buffer of 6 values";
        assert_eq!(message(4999..5001, 6), expected);
        assert!(message(0..2, 3).contains("a buffer of 3 values"));
        let missing = source.shape("v").unwrap_err().to_string();
        assert!(missing.starts_with("there is no tensor `v`"), "{missing}");
    }

    #[test]
    fn an_adapter_has_its_own_names() {
        let checkpoint = Checkpoint::open(&golden("plain/model")).unwrap();
        let adapter = Adapter::load(&golden("plain/adapter_final")).unwrap();
        let (name, tensor) = adapter.tensors.iter().next().unwrap();
        let source = CheckpointSource::new(&checkpoint, Some(&adapter));
        assert_eq!(source.shape(name).unwrap(), tensor.shape);
        let columns = tensor.shape[1];
        let mut row = vec![0.0; columns];
        source.read_f32(name, 1..2, &mut row).unwrap();
        assert_eq!(row, tensor.values[columns..2 * columns]);
        assert!(source.read_f32(name, 1..2, &mut row[1..]).is_err());
        assert!(CheckpointSource::new(&checkpoint, None).shape(name).is_err());
    }
}
