//! What can go wrong in a merge.

use std::path::PathBuf;

use super::AdapterMismatch;
use crate::export::ExportError;
use crate::files::{FileError, TargetError};

/// Why a merged model was not written.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The adapter is not one of this model.
    #[error(transparent)]
    Adapter(#[from] AdapterMismatch),
    /// The directory may not be made or replaced.
    #[error(transparent)]
    Target(#[from] TargetError),
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
}
