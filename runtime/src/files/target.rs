//! Whether a directory may be made, or replaced.
//!
//! Does not: change anything, but put back what an interrupted replacement left aside.

use std::fs;
use std::path::{Path, PathBuf};

use super::FileError;
use super::atomic::recover_directory;

/// Why a directory is not made.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It holds something and may not be replaced.
    #[error("`{}` is not empty; choose another directory, or allow to replace it with `--overwrite-output-dir`", .0.display())]
    NotEmpty(PathBuf),
    /// It holds something that this command does not write.
    #[error(
        "`{}` holds `{found}`, which is no file of a model; nothing was replaced. Choose another directory, or remove it \
         yourself",
        directory.display()
    )]
    ForeignFile {
        /// The directory.
        directory: PathBuf,
        /// What is in it.
        found: String,
    },
    /// The place is taken by something that is no directory.
    #[error("`{}` is not a directory; choose another place", .0.display())]
    NotADirectory(PathBuf),
    /// The directory is one that is read.
    #[error("`{}` is the directory of the {what}; it would be lost: choose another directory", directory.display())]
    Input {
        /// The directory.
        directory: PathBuf,
        /// Model, adapter or tokenizer.
        what: &'static str,
    },
    /// It cannot be looked into.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Refuses `target` if it is one of `inputs`, if it is not empty and not to be replaced, or if it holds anything but
/// files whose names `is_own` knows.
///
/// # Errors
/// [`TargetError`].
pub(crate) fn check_directory(
    target: &Path,
    overwrite: bool,
    inputs: &[(&'static str, Option<&Path>)],
    is_own: impl Fn(&str) -> bool,
) -> Result<(), TargetError> {
    recover_directory(target)?;
    if !target.exists() {
        return Ok(());
    }
    if !target.is_dir() {
        return Err(TargetError::NotADirectory(target.to_owned()));
    }
    for &(what, input) in inputs {
        if input.is_some_and(|input| is_same(target, input)) {
            return Err(TargetError::Input { directory: target.to_owned(), what });
        }
    }
    let failed = |source| FileError::new("read the directory", target, source);
    for entry in fs::read_dir(target).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !overwrite {
            return Err(TargetError::NotEmpty(target.to_owned()));
        }
        let found = entry.file_name().to_string_lossy().into_owned();
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !is_file || !is_own(&found) {
            return Err(TargetError::ForeignFile { directory: target.to_owned(), found });
        }
    }
    Ok(())
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false, // what is not there cannot be lost
    }
}
