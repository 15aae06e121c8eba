//! Random checkpoints of any size, in the layouts that real ones have.
//!
//! An element depends on the seed, its tensor's name and its index, and on nothing else: not on the layout, on threads
//! or on other tensors. Values are made in f32 and rounded once to the stored type, so that checkpoints of one seed
//! agree up to that rounding. Matrices and biases have mean 0; the weight of a layer norm has mean 1.
//!
//! The place of every tensor in its file is known before a value is made, so threads make blocks of tensors and write
//! them where they belong, in any order. Memory: a block a thread. The directory appears by rename, whole or not at all.
//!
//! Does not: know what a GPT-J is; the caller lists the tensors.

mod error;
mod file;
mod pickle;
mod random;
mod safetensors_files;
mod torch_file;
mod write;
mod zip_file;

use crate::diagnosis::free_disk_bytes;
use crate::files::FileError;
use crate::files::atomic::write_directory;
use crate::weights::{TensorSpec, WeightDtype};
use file::PlannedFile;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub use error::SynthError;

/// How a checkpoint lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `model.safetensors`, bf16.
    Safetensors,
    /// `model-00001-of-0000N.safetensors` and their index, bf16.
    Sharded,
    /// `pytorch_model.bin` as `torch.save` writes it, f16.
    BinF16,
    /// The same in f32.
    BinF32,
}

impl Layout {
    /// Element type of the weights.
    pub const fn dtype(self) -> WeightDtype {
        match self {
            Layout::Safetensors | Layout::Sharded => WeightDtype::Bf16,
            Layout::BinF16 => WeightDtype::F16,
            Layout::BinF32 => WeightDtype::F32,
        }
    }
}

/// The causal masks that old versions of transformers saved with the weights: `attn.bias` and `attn.masked_bias` of
/// every layer. A pickle gets them, as the published checkpoints have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldBuffers {
    /// Number of layers.
    pub layers: usize,
    /// Positions of the mask.
    pub positions: usize,
}

/// What to make, and where.
#[derive(Clone, Copy, Debug)]
pub struct SynthRequest<'a> {
    /// The tensors, in the order in which they are written.
    pub tensors: &'a [TensorSpec],
    /// Buffers beside them in a pickle.
    pub old_buffers: OldBuffers,
    /// The config, copied to `config.json` as it is.
    pub config: &'a [u8],
    /// What the values depend on, besides the tensors' names.
    pub seed: u64,
    /// Standard deviation of every element.
    pub std: f64,
    /// How it lies on disk.
    pub layout: Layout,
    /// Bytes of a file of [`Layout::Sharded`] at most; a larger tensor has a file of its own.
    pub max_shard_bytes: u64,
    /// Threads that make values.
    pub threads: usize,
    /// The directory to make.
    pub directory: &'a Path,
}

/// What was made.
#[derive(Clone, Debug, PartialEq)]
pub struct SynthReport {
    /// Names of the files with weights.
    pub files: Vec<String>,
    /// Bytes of all files with weights.
    pub bytes: u64,
    /// Elements of all tensors, buffers not counted.
    pub parameters: u64,
    /// Wall time.
    pub seconds: f64,
}

/// How far it is: bytes written, and bytes in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynthProgress {
    /// Bytes of values written.
    pub bytes: u64,
    /// Bytes of values in all.
    pub total_bytes: u64,
}

/// Makes a checkpoint.
///
/// # Cost
/// Memory: some MB a thread, whatever the model. Time: writing, and about two nanoseconds an element and thread.
///
/// # Errors
/// [`SynthError`]; the directory is then as it was before.
pub fn synth(
    request: &SynthRequest<'_>,
    progress: &(dyn Fn(SynthProgress) + Sync),
) -> Result<SynthReport, SynthError> {
    let begun = Instant::now();
    check_directory(request.directory)?;
    let files = plan(request)?;
    let bytes = files.iter().map(|file| file.bytes).sum();
    check_disk(request.directory, bytes, free_disk_bytes(request.directory))?;
    write_directory::<SynthError>(request.directory, |inside| {
        let shown = request.directory.join("config.json");
        let failed = |source| FileError::new("write", &shown, source);
        fs::write(inside.join("config.json"), request.config).map_err(failed)?;
        write::write_files(request, &files, inside, progress)
    })?;
    Ok(SynthReport {
        files: files.iter().filter(|file| file.has_weights()).map(|file| file.name.clone()).collect(),
        bytes,
        parameters: request.tensors.iter().map(|spec| spec.len() as u64).sum(),
        seconds: begun.elapsed().as_secs_f64(),
    })
}

/// The files of the weights, with the place of every tensor.
fn plan(request: &SynthRequest<'_>) -> Result<Vec<PlannedFile>, SynthError> {
    match request.layout {
        Layout::Safetensors => Ok(safetensors_files::plan(request.tensors, request.layout.dtype(), u64::MAX)),
        Layout::Sharded => {
            Ok(safetensors_files::plan(request.tensors, request.layout.dtype(), request.max_shard_bytes))
        }
        Layout::BinF16 | Layout::BinF32 => {
            Ok(vec![torch_file::plan(request.tensors, request.old_buffers, request.layout.dtype())?])
        }
    }
}

fn check_directory(directory: &Path) -> Result<(), SynthError> {
    if !directory.exists() {
        return Ok(());
    }
    if !directory.is_dir() {
        return Err(SynthError::NotADirectory(PathBuf::from(directory)));
    }
    let read = |source| FileError::new("read the directory", directory, source);
    if fs::read_dir(directory).map_err(read)?.next().is_some() {
        return Err(SynthError::NotEmpty(PathBuf::from(directory)));
    }
    Ok(())
}

/// Refuses what does not fit; `free` is not known everywhere, and then writing finds out.
fn check_disk(directory: &Path, needed: u64, free: Option<u64>) -> Result<(), SynthError> {
    match free {
        Some(free) if free < needed => {
            Err(SynthError::Disk { directory: PathBuf::from(directory), needed, free })
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
