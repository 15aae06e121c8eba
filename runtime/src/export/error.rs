//! What can go wrong in an export.

use std::io;
use std::path::{Path, PathBuf};

use super::source::SourceError;

/// Why an export was not written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The directory holds something and may not be replaced.
    #[error("`{}` is not empty; choose another directory, or allow to replace it with `--overwrite_output_dir`", .0.display())]
    NotEmpty(PathBuf),
    /// The directory holds something that no export wrote.
    #[error(
        "`{}` holds `{found}`, which is no file of an export; nothing was replaced. Choose another directory, or remove it yourself",
        directory.display()
    )]
    ForeignFile {
        /// The directory.
        directory: PathBuf,
        /// What is in it.
        found: String,
    },
    /// The place is taken by something that is no directory.
    #[error("`{}` is not a directory; choose another place for the export", .0.display())]
    NotADirectory(PathBuf),
    /// No space is left.
    #[error(
        "no space is left for `{}`: the weights take {needed} bytes. Free some space or export to another disk, \
         or choose a smaller `--dtype`",
        path.display()
    )]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// Bytes of weights.
        needed: u64,
    },
    /// Some other failure of the file system.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A tensor cannot be had.
    #[error("cannot make `{initializer}`")]
    Source {
        /// The weight of the export.
        initializer: String,
        /// Why.
        #[source]
        source: SourceError,
    },
    /// A tensor has another shape than the graph.
    #[error("tensor `{tensor}` has shape {found:?}; expected {expected} for `{initializer}`")]
    Shape {
        /// The tensor in the checkpoint or adapter.
        tensor: String,
        /// The weight of the export.
        initializer: String,
        /// The shape that fits.
        expected: String,
        /// The shape found.
        found: Vec<usize>,
    },
    /// A value does not fit the stored type.
    #[error(
        "`{initializer}` holds {value}, which float16 cannot hold (largest: 65504); export as float or bfloat16"
    )]
    Overflow {
        /// The weight of the export.
        initializer: String,
        /// The value.
        value: f32,
    },
    /// A value that cannot be quantised.
    #[error(
        "`{initializer}` holds {value} in row {row}, which has no code in any scale; look at how the model was trained, or \
         export as float"
    )]
    NotFinite {
        /// The weight of the export.
        initializer: String,
        /// Row of the tensor in the checkpoint.
        row: usize,
        /// The value.
        value: f32,
    },
    /// A recipe asks for what a weight cannot be.
    #[error("`{initializer}` cannot be stored as {element}; expected float, float16 or bfloat16")]
    Element {
        /// The weight of the export.
        initializer: String,
        /// The type asked for.
        element: &'static str,
    },
    /// A quantised weight without all its parts, one behind the other.
    #[error("`{initializer}`: expected codes, scales and zero points of one weight next to each other")]
    Parts {
        /// The first part of the weight.
        initializer: String,
    },
    /// A file beside the model cannot be read as what it is.
    #[error("`{}` is not valid JSON: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// A name that is no plain file name.
    #[error("`{0}` is no plain file name; files go into the export directory itself")]
    FileName(String),
}

impl ExportError {
    /// An error of the file system on `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ExportError {
        let path = path.to_path_buf();
        move |source| ExportError::Io { action, path, source }
    }
}
