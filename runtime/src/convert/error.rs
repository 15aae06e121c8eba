//! What can go wrong in a conversion.

use std::path::PathBuf;

use crate::export::ExportError;
use crate::files::{FileError, TargetError};

/// Why a model was not converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The directory may not be made or replaced.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The disk is too small.
    #[error(
        "`{}` would take {needed} bytes, and {free} are free there; free some space or choose a place on another disk",
        directory.display()
    )]
    Disk {
        /// The directory.
        directory: PathBuf,
        /// Bytes of weights.
        needed: u64,
        /// Bytes that can be written.
        free: u64,
    },
    /// There is no place for a conversion that nobody named.
    #[error(
        "the weights in `{}` have to be converted once, and there is no place for that: the directory cannot be written, \
         and neither XDG_CACHE_HOME nor HOME is set; convert them with `gptjc convert` to a place of your choice",
        model.display()
    )]
    NoPlace {
        /// The model.
        model: PathBuf,
    },
    /// A tensor cannot be read or stored.
    #[error(transparent)]
    Tensor(#[from] ExportError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}
