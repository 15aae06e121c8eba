//! Writing a file or a directory so that a reader never sees half of it.
//!
//! Everything is written under a temporary name beside its target (same file system), flushed to disk
//! (`fsync`, files first, then their directories), renamed into place, and the renaming is flushed too.
//!
//! Guarantees
//! - An error, from the system or from the caller's own code, removes the temporary and leaves the target as it was.
//! - A file: at every moment, also after a crash, the target is the old file or the new one, whole.
//! - A directory that did not exist: at every moment it is absent or whole.
//! - A directory that is replaced: the old one is renamed aside to `.NAME.gptjc-old`, the new one takes its name, then the
//!   old one is removed. Linux has no portable rename that swaps two directories, so between two renames the
//!   target is absent; a crash just there leaves the whole old directory as `.NAME.gptjc-old`.
//!   [`recover_directory`] puts it back, and [`write_directory`] does so before it starts.
//! - A process that is killed leaves its temporary (`.NAME.gptjc-partial-*`) behind: it is never read, and may be deleted; [`clean`] does.
//!
//! Does not: lock. Two processes that write the same target at once leave one of the two results, whole.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::Builder;

use super::FileError;

/// Bytes gathered before they are handed to the system.
const BUFFER: usize = 1 << 20;
/// In the names of what is being written.
const PARTIAL: &str = ".gptjc-partial-";
/// At the end of the name of a directory that was moved aside.
const ASIDE: &str = ".gptjc-old";

/// Writes the file `target` with what `fill` writes, atomically. The directory must exist.
///
/// A symbolic link is followed: the file that it names is replaced, the link stays.
///
/// # Errors
/// [`FileError`] naming `target`; the temporary is removed and `target` is as it was.
pub fn write_file(
    target: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), FileError> {
    let error = |source| FileError::new("write", target, source);
    let place = Place::of(target).map_err(error)?;
    let temporary = Builder::new()
        .prefix(&place.partial_prefix())
        .permissions(Permissions::from_mode(0o666)) // the umask takes away what it should
        .tempfile_in(&place.parent)
        .map_err(error)?;
    let mut writer = BufWriter::with_capacity(BUFFER, temporary.as_file());
    fill(&mut writer).map_err(error)?;
    writer.flush().map_err(error)?;
    drop(writer);
    temporary.as_file().sync_all().map_err(error)?;
    temporary.persist(&place.path).map_err(|failed| error(failed.error))?;
    sync_directory(&place.parent).map_err(error)
}

/// Writes the file `target` with `bytes`, as [`write_file`] does.
///
/// # Errors
/// As [`write_file`].
pub fn write_bytes(target: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_file(target, |out| out.write_all(bytes))
}

/// Creates or replaces the directory `target` with what `fill` puts into the directory that it is given.
///
/// Missing parents are created. All that was in an existing `target` is gone afterwards: a caller
/// who wants to keep files in it writes them again, or uses [`write_file`] for each file.
///
/// # Errors
/// What `fill` returns, or a [`FileError`] naming `target`; the temporary is removed and `target` is as it was.
pub fn write_directory<E: From<FileError>>(
    target: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let error = |source| FileError::new("write the directory", target, source);
    recover_directory(target)?;
    if let Some(parent) = target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(error)?;
    }
    let place = Place::of(target).map_err(error)?;
    if place.path.exists() && !place.path.is_dir() {
        return Err(error(io::Error::from(io::ErrorKind::NotADirectory)).into());
    }
    let temporary = Builder::new()
        .prefix(&place.partial_prefix())
        .permissions(Permissions::from_mode(0o777)) // the umask takes away what it should
        .tempdir_in(&place.parent)
        .map_err(error)?;
    fill(temporary.path())?;
    sync_tree(temporary.path()).map_err(error)?;
    swap_in(temporary.path(), &place).map_err(error)?;
    // The temporary has the target's name now: there is nothing left to clean up.
    let _renamed = temporary.keep();
    let synced = sync_directory(&place.parent);
    // Only now is the new one sure to survive a crash, so only now may the old one go.
    if place.aside().exists() && synced.is_ok() {
        fs::remove_dir_all(place.aside()).map_err(error)?;
    }
    synced.map_err(error).map_err(E::from)
}

/// Puts back the old directory if a crash in [`write_directory`] left `target` absent, and removes what a crash
/// after the swap left over. Does nothing otherwise.
///
/// # Errors
/// [`FileError`] naming `target`.
pub fn recover_directory(target: &Path) -> Result<(), FileError> {
    let error = |source| FileError::new("recover the directory", target, source);
    if target.parent().is_some_and(|parent| !parent.as_os_str().is_empty() && !parent.exists()) {
        return Ok(());
    }
    let place = Place::of(target).map_err(error)?;
    let aside = place.aside();
    if !aside.is_dir() {
        return Ok(());
    }
    if place.path.exists() {
        return fs::remove_dir_all(&aside).map_err(error);
    }
    fs::rename(&aside, &place.path).map_err(error)?;
    sync_directory(&place.parent).map_err(error)
}

/// Removes the directory `target` so that at every moment it is whole or absent.
///
/// # Errors
/// [`FileError`] naming `target`.
pub fn remove_directory(target: &Path) -> Result<(), FileError> {
    let error = |source| FileError::new("remove the directory", target, source);
    let place = Place::of(target).map_err(error)?;
    let mut name = place.partial_prefix();
    name.push("removed");
    let aside = place.parent.join(name);
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(error)?;
    }
    fs::rename(&place.path, &aside).map_err(error)?;
    fs::remove_dir_all(&aside).map_err(error)
}

/// Removes what processes that were killed have left in `directory`, and puts back a directory that one of them had moved
/// aside. Only when nobody else writes there.
///
/// # Errors
/// [`FileError`] naming what cannot be removed.
pub fn clean(directory: &Path) -> Result<(), FileError> {
    let read = |source| FileError::new("read the directory", directory, source);
    for entry in fs::read_dir(directory).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let Some(hidden) = path.file_name().and_then(|name| name.to_str()?.strip_prefix('.')) else {
            continue;
        };
        if hidden.contains(PARTIAL) {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|source| FileError::new("remove", &path, source))?;
        } else if let Some(name) = hidden.strip_suffix(ASIDE) {
            recover_directory(&directory.join(name))?;
        }
    }
    Ok(())
}

/// Gives the directory `new` the name of `place`; an old one is moved aside first, and back if that fails.
fn swap_in(new: &Path, place: &Place) -> io::Result<()> {
    if !place.path.exists() {
        return fs::rename(new, &place.path);
    }
    let aside = place.aside();
    fs::rename(&place.path, &aside)?;
    fs::rename(new, &place.path).inspect_err(|_| {
        // The first error is the one to tell; if this fails too, `recover_directory` does it later.
        let _ = fs::rename(&aside, &place.path);
    })
}

/// A target with its symbolic links resolved, taken apart for renaming.
struct Place {
    path: PathBuf,
    parent: PathBuf,
    name: OsString,
}

impl Place {
    fn of(target: &Path) -> io::Result<Place> {
        // A target that exists may be a link or `.`; what is replaced is the thing itself.
        let path = if target.exists() { fs::canonicalize(target)? } else { target.to_owned() };
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Ok(Place { path, parent, name })
    }

    fn partial_prefix(&self) -> OsString {
        self.hidden(PARTIAL)
    }

    fn aside(&self) -> PathBuf {
        self.parent.join(self.hidden(ASIDE))
    }

    fn hidden(&self, suffix: &str) -> OsString {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(suffix);
        name
    }
}

/// Flushes every file and directory under `directory`, then `directory`. Symbolic links are not followed.
fn sync_tree(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_directory(directory)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
#[path = "atomic_tests.rs"]
mod tests;
