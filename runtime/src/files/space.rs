//! Room on the file system of a directory.

use super::FileError;
use rustix::fs::statvfs;
use std::path::{Path, PathBuf};

/// Too little room.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{}` is on a file system with {free} bytes free, {needed} are needed for {what}; free some space, or choose another \
     directory",
    directory.display()
)]
pub struct NoSpace {
    /// The directory.
    pub directory: PathBuf,
    /// What was to be written.
    pub what: String,
    /// Bytes that it takes.
    pub needed: u64,
    /// Bytes free.
    pub free: u64,
}

/// Bytes that this process may write on the file system of `directory`.
///
/// # Errors
/// [`FileError`] naming the directory.
pub fn free(directory: &Path) -> Result<u64, FileError> {
    let found = statvfs(directory);
    let found =
        found.map_err(|error| FileError::new("ask for the free space of", directory, error.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// The [`NoSpace`] for `what`, which takes `needed` bytes, if there is too little room in `directory`. Where the system
/// does not say how much there is, writing will tell.
pub fn lacking(directory: &Path, what: &str, needed: u64) -> Option<NoSpace> {
    let free = free(directory).ok().filter(|&free| free < needed)?;
    Some(NoSpace { directory: directory.to_owned(), what: what.to_owned(), needed, free })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_little_and_not_for_everything() {
        let directory = tempfile::tempdir().unwrap();
        assert!(lacking(directory.path(), "nothing", 0).is_none());
        let message = lacking(directory.path(), "a checkpoint", u64::MAX).unwrap().to_string();
        assert!(message.contains(&format!("{} are needed for a checkpoint", u64::MAX)), "{message}");
        assert!(free(&directory.path().join("none")).is_err());
    }
}
