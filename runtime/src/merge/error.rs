//! What can go wrong in a merge.

use std::path::PathBuf;

use super::AdapterMismatch;
use crate::export::ExportError;
use crate::files::FileError;

/// Why a merged model was not written.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The adapter is not one of this model.
    #[error(transparent)]
    Adapter(#[from] AdapterMismatch),
    /// The directory holds something and may not be replaced.
    #[error("`{}` is not empty; choose another directory, or allow to replace it with `--overwrite-output-dir`", .0.display())]
    NotEmpty(PathBuf),
    /// The directory holds something that no merge wrote.
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
    #[error("`{}` is not a directory; choose another place for the merged model", .0.display())]
    NotADirectory(PathBuf),
    /// The directory is one that is read.
    #[error(
        "`{}` is the directory of the {what}; it would be lost: choose another directory for the merged model",
        directory.display()
    )]
    Input {
        /// The directory.
        directory: PathBuf,
        /// Model, adapter or tokenizer.
        what: &'static str,
    },
    /// A tensor that is listed is not in the checkpoint.
    #[error("there is no tensor `{tensor}` in `{}`; check the checkpoint before it is merged", model.display())]
    NoTensor {
        /// The tensor.
        tensor: String,
        /// Directory of the model.
        model: PathBuf,
    },
    /// A tensor cannot be merged or stored.
    #[error(transparent)]
    Tensor(#[from] ExportError),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file beside the model is not what it should be.
    #[error("{file}: expected a JSON object, found {found}; copy or download it again")]
    Json {
        /// Name of the file.
        file: String,
        /// What is there.
        found: String,
    },
}
