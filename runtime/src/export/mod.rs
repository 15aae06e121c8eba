//! Streams a model into an export directory: `model.onnx`, one file of weights beside it, the configuration and the
//! tokenizer.
//!
//! Weights are read, merged with their adapter in f32, rounded once (or quantised in blocks) and written tensor by tensor; a
//! matrix that is stored transposed is held once in its stored type, anything else in blocks of rows. What rounding lost
//! is counted on the way and written beside the model (`export_report.json`). The directory is written beside
//! its place and appears by rename, whole or not at all.
//!
//! Does not: build the graph (the recipes come with the model), nor read checkpoints (a [`TensorSource`] does: [`CheckpointSource`]).

pub(crate) mod blocks;
mod checkpoint_source;
mod directory;
pub(crate) mod encode;
mod error;
mod merge;
pub(crate) mod model_dtype;
mod quantize;
mod report;
mod rounding;
pub(crate) mod sidecars;
mod source;
mod stream;

use std::path::Path;

use gptjc_graphs::onnx::{DATA_FILE, MODEL_FILE, OnnxModel};

use crate::files::FileError;
use crate::files::atomic::write_bytes;

pub use checkpoint_source::CheckpointSource;
pub use error::ExportError;
pub use report::{ExportReport, Loss, REPORT_FILE, StorageReport, WeightReport, WorstWeight};
pub use sidecars::{Sidecar, sidecars_of_model};
pub use source::{MemoryTensors, SourceError, TensorSource};

/// What to export, and where to.
#[derive(Debug)]
pub struct ExportRequest<'a> {
    /// The graph and the recipes of its weights.
    pub model: &'a OnnxModel,
    /// Files that go beside the model: configuration and tokenizer.
    pub sidecars: &'a [Sidecar],
    /// The directory to make.
    pub directory: &'a Path,
    /// Whether a directory with an earlier export may be replaced.
    pub overwrite: bool,
}

/// How far an export is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportProgress<'a> {
    /// The tensor that was written last.
    pub tensor: &'a str,
    /// Bytes of weights written.
    pub bytes: u64,
    /// Bytes of weights in all.
    pub total_bytes: u64,
}

/// Writes an export directory.
///
/// # Cost
/// Memory beside what `source` needs: one tensor in its stored type and some MB.
///
/// # Errors
/// [`ExportError`]; the directory is then as it was before.
pub fn export(
    request: &ExportRequest<'_>,
    source: &dyn TensorSource,
    progress: &mut dyn FnMut(ExportProgress<'_>),
) -> Result<ExportReport, ExportError> {
    let staging = directory::Staging::begin(request.directory, request.overwrite)?;
    for sidecar in request.sidecars {
        sidecar.write_into(staging.path())?;
    }
    let weights = stream::write_weights(request.model, source, &staging.path().join(DATA_FILE), progress)?;
    directory::write_file(&staging.path().join(MODEL_FILE), &request.model.bytes)?;
    let model_bytes = request.model.bytes.len() as u64;
    let mut report =
        ExportReport::new(request.directory.into(), model_bytes, request.model.data_length, weights);
    directory::write_file(&staging.path().join(REPORT_FILE), &json(&report))?;
    report.directory = staging.commit()?;
    Ok(report)
}

/// Writes the report of a finished export again, when it says more than before.
///
/// # Errors
/// [`FileError`] if the file cannot be written.
pub fn write_report(report: &ExportReport) -> Result<(), FileError> {
    write_bytes(&report.directory.join(REPORT_FILE), &json(report))
}

fn json(report: &ExportReport) -> Vec<u8> {
    // Texts and numbers: there is nothing that cannot be written.
    let mut text = serde_json::to_vec_pretty(report).unwrap_or_default();
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests;
