//! A model directory in another type: safetensors in the kernels' own layout, whatever the source's format and type.
//!
//! Each weight is read in blocks of rows, rounded once and written, so that memory does not grow with the model; what
//! rounding cost is counted on the way. The directory appears by rename, whole or not at all, and holds a [`Record`] of
//! what it was made of, by which a second conversion of the same files is known to be none.
//!
//! Does not: merge adapters (see [`crate::merge`]), quantise, or know what a GPT-J is: the caller lists the tensors.

mod error;
pub mod place;
mod record;
mod report;
mod rounding;
mod write;

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::diagnosis::free_disk_bytes;
use crate::export::model_dtype::with_dtype;
use crate::export::{ExportProgress, Sidecar, sidecars, sidecars_of_model};
use crate::files::atomic::write_directory;
use crate::files::target::check_directory;
use crate::weights::layout::is_weights_file;
use crate::weights::{Checkpoint, TensorSpec, WeightDtype};

pub use error::ConvertError;
pub use record::{RECORD_FILE, Record};
pub use report::ConvertReport;
pub use rounding::{Rounding, TensorRounding};

/// What to convert, and where to.
#[derive(Clone, Copy, Debug)]
pub struct ConvertRequest<'a> {
    /// The model.
    pub checkpoint: &'a Checkpoint,
    /// Its tensors, in the order in which they are written; the checkpoint was checked to have them.
    pub tensors: &'a [TensorSpec],
    /// Type to store weights in.
    pub dtype: WeightDtype,
    /// Where the files of the tokenizer are, if not beside the model.
    pub tokenizer_dir: Option<&'a Path>,
    /// The directory to make.
    pub directory: &'a Path,
    /// Whether a directory with an earlier conversion may be replaced.
    pub overwrite: bool,
    /// Bytes of a file of weights at most; a larger tensor has a file of its own.
    pub max_shard_bytes: u64,
}

impl ConvertRequest<'_> {
    /// Bytes of all tensors as they are written.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(|spec| spec.len() as u64 * self.dtype.size() as u64).sum()
    }

    /// What the directory is made of beside the weights.
    fn sidecars(&self) -> Result<Vec<Sidecar>, ConvertError> {
        Ok(sidecars_of_model(self.checkpoint.dir(), self.tokenizer_dir)?)
    }
}

/// True if the directory of `request` holds the conversion that is asked for, of the files that the model has now.
pub fn is_up_to_date(request: &ConvertRequest<'_>) -> bool {
    let Ok(sidecars) = request.sidecars() else { return false };
    Record::read(request.directory).is_some_and(|record| record.holds(request, &sidecars))
}

/// Writes the model.
///
/// # Cost
/// Memory: a few MB. Time: the model is read and written once. Disk: [`ConvertRequest::bytes`].
///
/// # Errors
/// [`ConvertError`]; the directory is then as it was before.
pub fn convert(
    request: &ConvertRequest<'_>,
    progress: &mut dyn FnMut(ExportProgress<'_>),
) -> Result<ConvertReport, ConvertError> {
    let begun = Instant::now();
    check(request)?;
    let files = write::plan(request);
    let sidecars = request.sidecars()?;
    let beside = with_dtype(sidecars.clone(), request.dtype)?;
    let mut tensors = Vec::with_capacity(request.tensors.len());
    write_directory::<ConvertError>(request.directory, |inside| {
        for sidecar in &beside {
            sidecar.write_into(inside)?;
        }
        tensors = write::write_weights(request, &files, inside, progress)?;
        let rounding = tensors.iter().map(|tensor: &TensorRounding| &tensor.rounding).sum();
        Record::of(request, &sidecars, &files, rounding)?.write(inside, request.directory)
    })?;
    Ok(ConvertReport {
        directory: PathBuf::from(request.directory),
        files: files.into_iter().map(|file| file.name).collect(),
        bytes: request.bytes(),
        dtype: request.dtype.hugging_face_name(),
        tensors,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

/// Checks what can be checked before anything is read or written: that the directory may be made, and fits the disk.
///
/// # Errors
/// [`ConvertError`], as [`convert`] would give it.
pub fn check(request: &ConvertRequest<'_>) -> Result<(), ConvertError> {
    let inputs = [("model", Some(request.checkpoint.dir())), ("tokenizer", request.tokenizer_dir)];
    let is_own = |name: &str| sidecars::NAMES.contains(&name) || is_weights_file(name) || name == RECORD_FILE;
    check_directory(request.directory, request.overwrite, &inputs, is_own)?;
    check_disk(request.directory, request.bytes(), free_disk_bytes(request.directory))
}

/// Refuses what does not fit; `free` is not known everywhere, and then writing finds out.
fn check_disk(directory: &Path, needed: u64, free: Option<u64>) -> Result<(), ConvertError> {
    match free {
        Some(free) if free < needed => {
            Err(ConvertError::Disk { directory: PathBuf::from(directory), needed, free })
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
