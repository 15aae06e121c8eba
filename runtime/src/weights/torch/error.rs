//! Why a file of `torch.save` cannot be used.

use std::path::PathBuf;

use super::pickle::PickleError;
use crate::memory::mapped_file::MapError;

/// Why a file of `torch.save` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TorchError {
    /// The file cannot be opened.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A file with something else in it.
    #[error("`{}` is {found}, expected what torch.save writes; {advice}", path.display())]
    NotTorch {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// A zip archive that is damaged, or is no checkpoint.
    #[error("`{}` cannot be read as what torch.save writes: {reason}; copy or download it again", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A pickle that is refused.
    #[error("`{}` is not read: {}", path.display(), .source.0)]
    Pickle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PickleProblem,
    },
    /// Something else than a state dict.
    #[error("`{}` does not hold a state dict: {reason}; save one with torch.save(model.state_dict(), FILE)", path.display())]
    NotAStateDict {
        /// The file.
        path: PathBuf,
        /// What it holds.
        reason: String,
    },
    /// A tensor that is not one run of bytes of the file.
    #[error("tensor `{name}` of `{}`: {reason}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What is wrong with a pickle.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct PickleProblem(#[from] pub(super) PickleError);
