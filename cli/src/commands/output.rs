//! The output directory.

use crate::error::CliError;
use crate::flags::OutputFlags;
use crate::flags::checkpoint::ResumeFrom;
use gptjc_runtime::files::FileError;
use gptjc_runtime::files::atomic;
use gptjc_runtime::files::lock::{DirectoryLock, LOCK_FILE};
use gptjc_runtime::train::checkpoint::CheckpointError;
use std::fs;
use std::path::Path;

/// Makes the directory, and takes the right to write into it; what cannot be written to is known before hours are spent.
/// Refuses a directory that holds something, unless the run goes on from a checkpoint or was asked to write into it.
/// What runs that were killed have left there is removed.
pub(crate) fn prepare(flags: &OutputFlags, resume: Option<&ResumeFrom>) -> Result<DirectoryLock, CliError> {
    let path = &flags.output_dir;
    if path.exists() && !path.is_dir() {
        return Err(CliError::OutputNotDirectory { path: path.clone() });
    }
    if resume == Some(&ResumeFrom::Newest) && !path.exists() {
        return Err(CliError::Resume(CheckpointError::None { directory: path.clone() }.into()));
    }
    fs::create_dir_all(path).map_err(|source| FileError::new("create the directory", path, source))?;
    let lock = DirectoryLock::take(path).map_err(|source| CliError::Lock(source.into()))?;
    atomic::clean(path)?;
    if resume.is_none() && !flags.overwrite_output_dir && !is_empty(path)? {
        return Err(CliError::OutputNotEmpty { path: path.clone() });
    }
    Ok(lock)
}

/// True if the directory holds nothing but the lock.
fn is_empty(path: &Path) -> Result<bool, CliError> {
    let read = |source| CliError::Read { path: path.to_owned(), source };
    for entry in fs::read_dir(path).map_err(read)? {
        if entry.map_err(read)?.file_name() != LOCK_FILE {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Refuses a directory that no file can be made in.
pub(crate) fn check_writable(directory: &Path) -> Result<(), CliError> {
    let probe = |source| FileError::new("write into the directory", directory, source);
    let name = directory.join(format!(".gptjc-probe-{}", std::process::id()));
    fs::write(&name, b"").and_then(|()| fs::remove_file(&name)).map_err(probe)?;
    Ok(())
}
