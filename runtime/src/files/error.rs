//! One error type for files and directories: what was tried, where, what the system said, what to do.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// An operation on a file or directory that failed.
#[derive(Debug, Error)]
#[error("cannot {action} `{}`: {source}{}", path.display(), advice(source))]
pub struct FileError {
    /// The operation as a verb phrase: "write", "create the directory".
    pub action: &'static str,
    /// The file or directory, as the user named it where possible.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl FileError {
    /// An error of `action` on `path`.
    pub fn new(action: &'static str, path: &Path, source: io::Error) -> FileError {
        FileError { action, path: path.to_owned(), source }
    }
}

/// Returns what a user can do about `error`, beginning with "; ", or nothing if the system's words say all.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            "; what was there before is unchanged: free space on that file system or choose another place, and run again"
        }
        io::ErrorKind::QuotaExceeded => {
            "; what was there before is unchanged: free space within your quota or choose another place, and run again"
        }
        io::ErrorKind::FileTooLarge => {
            "; the file system or `ulimit -f` does not allow a file of this size: choose another place or raise the limit"
        }
        io::ErrorKind::PermissionDenied => {
            "; choose a place that you may write to, or change its permissions"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; choose a place on a file system that can be written",
        io::ErrorKind::NotFound => "; check the path, and create the directory it is in",
        io::ErrorKind::NotADirectory => {
            "; a part of the path is a file: choose another path, or move that file away"
        }
        io::ErrorKind::ResourceBusy => "; it is in use or a mount point: choose a directory inside it",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_names_the_path_and_what_to_do() {
        let error = FileError::new("write", Path::new("out/model.onnx"), io::Error::from_raw_os_error(28));
        let message = error.to_string();
        assert!(message.starts_with("cannot write `out/model.onnx`: No space left on device"), "{message}");
        assert!(message.contains("free space"), "{message}");
    }
}
