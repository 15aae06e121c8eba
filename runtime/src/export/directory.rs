//! A directory that is written beside its place and appears by rename.
//!
//! Does not: replace anything but an earlier export; a directory with other files in it is left alone.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use gptjc_graphs::onnx::{DATA_FILE, MODEL_FILE};
use tempfile::TempDir;

use super::error::ExportError;
use super::report::REPORT_FILE;
use super::sidecars;

/// The directory under construction; it is removed if it is dropped before [`Staging::commit`].
#[derive(Debug)]
pub(super) struct Staging {
    directory: TempDir,
    target: PathBuf,
}

impl Staging {
    /// Makes a directory beside `target`, after a check that `target` may be made or replaced.
    pub(super) fn begin(target: &Path, overwrite: bool) -> Result<Self, ExportError> {
        let target = resolve(target)?;
        check_target(&target, overwrite)?;
        let parent = parent_of(&target);
        fs::create_dir_all(parent).map_err(ExportError::io("create", parent))?;
        let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let directory = tempfile::Builder::new()
            .prefix(&format!(".{name}.partial-"))
            // The default would lock out everybody else; the process's mask still applies.
            .permissions(Permissions::from_mode(0o777))
            .tempdir_in(parent)
            .map_err(ExportError::io("create a directory in", parent))?;
        Ok(Staging { directory, target })
    }

    /// The directory to write into.
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Puts the directory into its place and says where that is.
    pub(super) fn commit(self) -> Result<PathBuf, ExportError> {
        let Staging { directory, target } = self;
        let parent = parent_of(&target).to_path_buf();
        sync(directory.path())?;
        let old = set_aside(&target, &parent)?;
        if let Err(error) = fs::rename(directory.path(), &target) {
            if let Some(old) = old {
                // Whatever was there comes back; a failure of this leaves it where the message below points.
                let kept = old.keep();
                fs::rename(kept.join(OLD), &target).map_err(ExportError::io("put back", &kept.join(OLD)))?;
                let _ = fs::remove_dir(kept);
            }
            return Err(ExportError::io("rename the finished export to", &target)(error));
        }
        // The directory has left its old name: there is nothing for its guard to remove.
        let _ = directory.keep();
        sync(&parent)?;
        Ok(target)
    }
}

/// Name of the earlier export inside the directory that it is moved to.
const OLD: &str = "replaced";

/// Moves an earlier export out of the way; it is removed when the guard is dropped.
fn set_aside(target: &Path, parent: &Path) -> Result<Option<TempDir>, ExportError> {
    if !target.exists() {
        return Ok(None);
    }
    let old = tempfile::Builder::new()
        .prefix(".replaced-")
        .tempdir_in(parent)
        .map_err(ExportError::io("create a directory in", parent))?;
    fs::rename(target, old.path().join(OLD)).map_err(ExportError::io("set aside", target))?;
    Ok(Some(old))
}

fn resolve(target: &Path) -> Result<PathBuf, ExportError> {
    if target.exists() {
        return target.canonicalize().map_err(ExportError::io("find", target));
    }
    std::path::absolute(target).map_err(ExportError::io("find", target))
}

fn parent_of(target: &Path) -> &Path {
    target.parent().unwrap_or(Path::new("/"))
}

fn check_target(target: &Path, overwrite: bool) -> Result<(), ExportError> {
    if !target.exists() {
        return Ok(());
    }
    if !target.is_dir() {
        return Err(ExportError::NotADirectory(target.into()));
    }
    let entries = fs::read_dir(target).map_err(ExportError::io("read", target))?;
    for entry in entries {
        let entry = entry.map_err(ExportError::io("read", target))?;
        if !overwrite {
            return Err(ExportError::NotEmpty(target.into()));
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !is_file || !is_export_file(&name) {
            return Err(ExportError::ForeignFile { directory: target.into(), found: name });
        }
    }
    Ok(())
}

fn is_export_file(name: &str) -> bool {
    name == MODEL_FILE || name == DATA_FILE || name == REPORT_FILE || sidecars::NAMES.contains(&name)
}

/// Writes and syncs a new file.
pub(super) fn write_file(path: &Path, contents: &[u8]) -> Result<(), ExportError> {
    let mut file = File::create_new(path).map_err(ExportError::io("create", path))?;
    file.write_all(contents).map_err(ExportError::io("write", path))?;
    file.sync_all().map_err(ExportError::io("sync", path))
}

/// Makes a file or directory outlive a power failure.
pub(super) fn sync(path: &Path) -> Result<(), ExportError> {
    let file = File::open(path).map_err(ExportError::io("open", path))?;
    file.sync_all().map_err(ExportError::io("sync", path))
}
