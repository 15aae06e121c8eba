//! Whether a directory may be made, or replaced.
//!
//! Does not: change anything.

use std::fs;
use std::path::Path;

use super::shards::is_weights_file;
use super::{MergeError, MergeRequest};
use crate::export::sidecars;
use crate::files::FileError;
use crate::files::atomic::recover_directory;

/// Refuses a directory that is read, that is not empty, or that holds what no merge writes.
pub(super) fn check(request: &MergeRequest<'_>) -> Result<(), MergeError> {
    let target = request.directory;
    recover_directory(target)?;
    if !target.exists() {
        return Ok(());
    }
    if !target.is_dir() {
        return Err(MergeError::NotADirectory(target.to_owned()));
    }
    let inputs = [
        ("model", Some(request.checkpoint.dir())),
        ("adapter", Some(request.adapter_dir)),
        ("tokenizer", request.tokenizer_dir),
    ];
    for (what, input) in inputs {
        if input.is_some_and(|input| is_same(target, input)) {
            return Err(MergeError::Input { directory: target.to_owned(), what });
        }
    }
    let failed = |source| FileError::new("read the directory", target, source);
    for entry in fs::read_dir(target).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !request.overwrite {
            return Err(MergeError::NotEmpty(target.to_owned()));
        }
        let found = entry.file_name().to_string_lossy().into_owned();
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !is_file || !(sidecars::NAMES.contains(&found.as_str()) || is_weights_file(&found)) {
            return Err(MergeError::ForeignFile { directory: target.to_owned(), found });
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
