//! What can go wrong when a checkpoint is made.

use crate::files::FileError;
use std::path::PathBuf;

/// Why no checkpoint was made.
#[derive(Debug, thiserror::Error)]
pub enum SynthError {
    /// The directory holds something.
    #[error("`{}` is not empty; choose another directory, or empty it yourself", .0.display())]
    NotEmpty(PathBuf),
    /// The place is taken by something that is no directory.
    #[error("`{}` is not a directory; choose another place", .0.display())]
    NotADirectory(PathBuf),
    /// The checkpoint does not fit.
    #[error(
        "the checkpoint takes {needed} bytes, and {free} are free where `{}` is to be; free some space, choose \
         another disk, or make a model with fewer layers",
        directory.display()
    )]
    Disk {
        /// The directory.
        directory: PathBuf,
        /// Bytes of the checkpoint.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// A tensor that the format cannot hold.
    #[error("`{tensor}` has too many elements for a pickle of torch.save; choose a layout of safetensors")]
    TooLarge {
        /// The tensor.
        tensor: String,
    },
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}
