//! Why a checkpoint cannot be written or resumed.

use crate::files::FileError;
use crate::files::space::NoSpace;
use crate::train::TrainerStateError;
use crate::weights::SafetensorsError;
use std::path::PathBuf;

/// A checkpoint that cannot be written or resumed.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// There is none.
    #[error("there is no checkpoint in `{}`; leave --resume-from-checkpoint out to start anew", directory.display())]
    None {
        /// Where one was looked for.
        directory: PathBuf,
    },
    /// A directory of something else.
    #[error(
        "`{}` is no checkpoint of gptjc: expected training_state.json in it, found no such file; give a directory \
         `checkpoint-…`, or start from an adapter with --adapter",
        directory.display()
    )]
    Foreign {
        /// The directory.
        directory: PathBuf,
    },
    /// A checkpoint of Hugging Face's Trainer.
    #[error(
        "`{}` is a checkpoint of transformers: expected training_state.json and optimizer.safetensors, found optimizer.pt, \
         whose moments gptjc does not read; start from its adapter, with new moments: --adapter {}",
        directory.display(),
        directory.display()
    )]
    Transformers {
        /// The directory.
        directory: PathBuf,
    },
    /// A file that cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A state that is none.
    #[error("`{}` is damaged: {source}; resume from another checkpoint", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What was expected and where.
        source: serde_json::Error,
    },
    /// A state of another version.
    #[error(
        "`{}` has format {found}, this gptjc reads format {expected}; resume with the gptjc that wrote it",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Format expected.
        expected: u32,
        /// Format found.
        found: u32,
    },
    /// A file that is not the one that was written.
    #[error(
        "`{}` is not what was written: expected {expected}, found {found}; resume from another checkpoint, or copy it again",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was written.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A file of tensors that does not hold the plan's.
    #[error("`{}`: tensor `{name}`: expected {expected}, found {found}; resume from another checkpoint", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Type and shape expected.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A run of other settings or data.
    #[error(
        "the checkpoint `{}` belongs to another run:{}\ngive what it was made with, or start a new run from its adapter \
         with --adapter",
        directory.display(),
        differences.iter().map(|line| format!("\n  {line}")).collect::<String>()
    )]
    OtherRun {
        /// The checkpoint.
        directory: PathBuf,
        /// What differs: one line each.
        differences: Vec<String>,
    },
    /// Kernels that round otherwise.
    #[error(
        "the checkpoint `{}` was made by kernels of the rounding class `{saved}`, this plan's are of `{plan}`: the result \
         would have other low bits than without the stop; go on nevertheless with --resume-on-other-isa, or compile for \
         the other instruction set",
        directory.display()
    )]
    Rounding {
        /// The checkpoint.
        directory: PathBuf,
        /// Its class.
        saved: String,
        /// The plan's class.
        plan: String,
    },
    /// A file of tensors that cannot be opened.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// The log that cannot be read.
    #[error(transparent)]
    State(#[from] TrainerStateError),
    /// A file or directory that cannot be written or removed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A checkpoint that was not written.
    #[error(
        "cannot write the checkpoint `{}` of {bytes} bytes: {source}; checkpoints before it are whole, and the run can be \
         resumed from them",
        directory.display()
    )]
    Write {
        /// The checkpoint.
        directory: PathBuf,
        /// Bytes that it takes at most.
        bytes: u64,
        /// What went wrong.
        source: Box<crate::train::TrainError>,
    },
    /// Too little room.
    #[error(transparent)]
    Space(#[from] NoSpace),
}
