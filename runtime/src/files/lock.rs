//! One process writes into a directory.

use super::FileError;
use rustix::fs::{fstat, stat};
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Name of the file that is locked.
pub const LOCK_FILE: &str = ".gptjc-lock";

/// A directory that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error(
        "process {process} is writing into `{}`; wait until it ends, end it, or choose another directory",
        directory.display()
    )]
    Held {
        /// The directory.
        directory: PathBuf,
        /// Who has it, as far as its file says.
        process: String,
    },
    /// The file cannot be made or locked.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The right to write into a directory, held until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct DirectoryLock {
    path: PathBuf,
    _file: File,
}

impl DirectoryLock {
    /// Takes the right, at once or not at all.
    ///
    /// # Errors
    /// [`LockError::Held`] if another process has it.
    pub fn take(directory: &Path) -> Result<Self, LockError> {
        let path = directory.join(LOCK_FILE);
        let failed = |source| FileError::new("lock", &path, source);
        loop {
            let mut file = File::options()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(&path)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::Error(source)) => return Err(failed(source).into()),
                Err(TryLockError::WouldBlock) => {
                    let mut process = String::new();
                    let known = file.read_to_string(&mut process).is_ok() && !process.trim().is_empty();
                    let process =
                        if known { process.trim().to_owned() } else { "of another gptjc".to_owned() };
                    return Err(LockError::Held { directory: directory.to_owned(), process });
                }
            }
            // Whoever had it may have removed the file after it was opened here; then the lock is of no file.
            if is_at(&file, &path).map_err(failed)? {
                write_process(&mut file).map_err(failed)?;
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path); // one that stays says nothing without its lock
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let own = fstat(file)?;
    match stat(path) {
        Ok(there) => Ok((own.st_dev, own.st_ino) == (there.st_dev, there.st_ino)),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn write_process(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = DirectoryLock::take(directory.path()).unwrap();
        let message = DirectoryLock::take(directory.path()).unwrap_err().to_string();
        assert!(message.contains(&format!("process {} is writing into", std::process::id())), "{message}");
        drop(first);
        assert!(!directory.path().join(LOCK_FILE).exists());
        DirectoryLock::take(directory.path()).unwrap();
    }

    #[test]
    fn a_lock_whose_process_was_killed_is_free() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(LOCK_FILE), "1\n").unwrap();
        DirectoryLock::take(directory.path()).unwrap();
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let message = DirectoryLock::take(&directory.path().join("none")).unwrap_err().to_string();
        assert!(message.contains("cannot lock") && message.contains("none"), "{message}");
    }
}
