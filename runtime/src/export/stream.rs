//! Writes the file of the weights, tensor by tensor, each at its offset.
//!
//! Memory: a block of rows in f32 and its encoded bytes; a transposed matrix also once in its stored type.
//!
//! Does not: decide where anything lies; the model does.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use gptjc_graphs::onnx::{Initializer, OnnxModel};

use super::blocks::{Block, Blocks};
use super::encode::Encoder;
use super::error::ExportError;
use super::source::TensorSource;
use super::{ExportProgress, directory};

/// Writes all weights of `model` into a new file, and says how many of them were merged with an adapter.
pub(super) fn write_weights(
    model: &OnnxModel,
    source: &dyn TensorSource,
    path: &Path,
    progress: &mut dyn FnMut(ExportProgress<'_>),
) -> Result<usize, ExportError> {
    let file = File::create_new(path).map_err(ExportError::io("create", path))?;
    let merged = write_to(file, model, source, path, progress)?;
    directory::sync(path)?;
    Ok(merged)
}

/// As [`write_weights`], to any writer; `path` is for messages.
pub(super) fn write_to(
    writer: impl Write,
    model: &OnnxModel,
    source: &dyn TensorSource,
    path: &Path,
    progress: &mut dyn FnMut(ExportProgress<'_>),
) -> Result<usize, ExportError> {
    let mut out = Output { writer, path, position: 0, total: model.data_length };
    let mut merged = 0;
    for placed in &model.initializers {
        let initializer = &placed.initializer;
        out.pad_to(placed.offset)?;
        merged += usize::from(write_initializer(initializer, source, &mut out)?);
        progress(ExportProgress {
            tensor: &initializer.name,
            bytes: out.position,
            total_bytes: model.data_length,
        });
    }
    out.writer.flush().map_err(|error| out.failed(error))?;
    Ok(merged)
}

/// The data file, with the position in it.
struct Output<'a, W> {
    writer: W,
    path: &'a Path,
    position: u64,
    total: u64,
}

impl<W: Write> Output<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.writer.write_all(bytes).map_err(|error| self.failed(error))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn pad_to(&mut self, offset: u64) -> Result<(), ExportError> {
        let zeros = vec![0; offset.saturating_sub(self.position) as usize];
        self.write(&zeros)
    }

    fn failed(&self, source: io::Error) -> ExportError {
        let path = self.path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                ExportError::DiskFull { path, needed: self.total }
            }
            _ => ExportError::Io { action: "write", path, source },
        }
    }
}

/// Writes one weight, and says whether an adapter was merged into it.
fn write_initializer<W: Write>(
    initializer: &Initializer,
    source: &dyn TensorSource,
    out: &mut Output<'_, W>,
) -> Result<bool, ExportError> {
    let blocks = Blocks::of(initializer, source)?;
    let [rows, columns] = blocks.shape();
    let encoder = Encoder { initializer: &initializer.name, element: initializer.element };
    let transposed_bytes = if initializer.recipe.transposed { initializer.byte_length() as usize } else { 0 };
    let mut transposed = vec![0; transposed_bytes];
    let mut encoded = Vec::new();
    let merged = blocks.visit(|block: Block<'_>| -> Result<(), ExportError> {
        if initializer.recipe.transposed {
            return encoder.scatter(block.values, columns, block.first_row, rows, &mut transposed);
        }
        encoded.clear();
        encoder.append(block.values, &mut encoded)?;
        out.write(&encoded)
    })?;
    out.write(&transposed)?;
    Ok(merged)
}
