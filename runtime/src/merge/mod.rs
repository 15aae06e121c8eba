//! Merges an adapter into its model: a Hugging Face directory that needs no adapter, and a report of what merging and
//! rounding changed.
//!
//! Each weight is read in blocks of rows, merged in f32, rounded once to its stored type and written, so that memory
//! does not grow with the model. The directory appears by rename, whole or not at all.
//!
//! Does not: run the models ([`compare`] counts what two engines answered), or know what a GPT-J is: the caller lists the
//! tensors.

mod check;
pub mod compare;
mod error;
mod report;
pub mod rows;
mod shards;
mod write;

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::adapter::Adapter;
use crate::export::model_dtype::with_dtype;
use crate::export::{ExportProgress, sidecars, sidecars_of_model};
use crate::files::atomic::write_directory;
use crate::files::target::check_directory;
use crate::weights::layout::is_weights_file;
use crate::weights::{Checkpoint, TensorSpec, WeightDtype};

pub use check::{AdapterFit, AdapterMismatch, check_adapter};
pub use error::MergeError;
pub use report::{MergeReport, TensorChange};

/// Bytes of a file of weights at most, where no other limit is asked for: what transformers takes.
pub const MAX_SHARD_BYTES: u64 = 5_000_000_000;

/// What to merge, and where to.
#[derive(Clone, Copy, Debug)]
pub struct MergeRequest<'a> {
    /// The model.
    pub checkpoint: &'a Checkpoint,
    /// Its tensors, in the order in which they are written; the checkpoint was checked to have them.
    pub tensors: &'a [TensorSpec],
    /// The adapter.
    pub adapter: &'a Adapter,
    /// Where the adapter came from.
    pub adapter_dir: &'a Path,
    /// Type to store weights in; without one each tensor keeps its type.
    pub dtype: Option<WeightDtype>,
    /// Where the files of the tokenizer are, if not beside the model.
    pub tokenizer_dir: Option<&'a Path>,
    /// The directory to make.
    pub directory: &'a Path,
    /// Whether a directory with an earlier merge may be replaced.
    pub overwrite: bool,
    /// Bytes of a file of weights at most; a larger tensor has a file of its own.
    pub max_shard_bytes: u64,
}

/// Checks all of `request` that can be checked before anything is computed or written: that the adapter fits the model,
/// and that the directory may be made.
///
/// # Errors
/// [`MergeError`], as [`merge`] would give it.
pub fn check(request: &MergeRequest<'_>) -> Result<AdapterFit, MergeError> {
    let inputs = [
        ("model", Some(request.checkpoint.dir())),
        ("adapter", Some(request.adapter_dir)),
        ("tokenizer", request.tokenizer_dir),
    ];
    let is_own = |name: &str| sidecars::NAMES.contains(&name) || is_weights_file(name);
    check_directory(request.directory, request.overwrite, &inputs, is_own)?;
    let label = request.adapter_dir.display().to_string();
    Ok(check_adapter(request.checkpoint, request.adapter, &label)?)
}

/// Writes the merged model.
///
/// # Cost
/// Memory: the adapter and a few MB. Time: the model is read and written once.
///
/// # Errors
/// [`MergeError`]; the directory is then as it was before.
pub fn merge(
    request: &MergeRequest<'_>,
    progress: &mut dyn FnMut(ExportProgress<'_>),
) -> Result<MergeReport, MergeError> {
    let begun = Instant::now();
    let fit = check(request)?;
    let plan = shards::plan(request, &fit)?;
    let sidecars = sidecars_of_model(request.checkpoint.dir(), request.tokenizer_dir)?;
    let sidecars = with_dtype(sidecars, plan.main_dtype)?;
    let mut tensors = Vec::with_capacity(request.tensors.len());
    write_directory::<MergeError>(request.directory, |inside| {
        for sidecar in &sidecars {
            sidecar.write_into(inside)?;
        }
        tensors = write::write_weights(request, &plan, inside, progress)?;
        Ok(())
    })?;
    Ok(MergeReport {
        directory: PathBuf::from(request.directory),
        files: plan.shards.iter().map(|shard| shard.name.clone()).collect(),
        bytes: plan.bytes,
        dtype: plan.main_dtype.hugging_face_name(),
        merged: fit.modules.len(),
        tensors,
        seconds: begun.elapsed().as_secs_f64(),
        comparison: None,
    })
}

#[cfg(test)]
mod tests;
