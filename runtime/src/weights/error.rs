//! What can be wrong with a model directory.

use std::io;
use std::path::PathBuf;

use safetensors::Dtype;
use thiserror::Error;

use super::{SafetensorsError, TorchError};

/// How many problems of a checkpoint one message shows.
const SHOWN: usize = 4;

/// Why the weights of a model directory cannot be used.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The path is no directory.
    #[error(
        "`{}` is not a directory: give the directory with config.json and the weights",
        dir.display()
    )]
    NotADirectory {
        /// The path given.
        dir: PathBuf,
    },
    /// No file with weights.
    #[error(
        "no weights in `{}`: expected model.safetensors or pytorch_model.bin, or the shards of one with their index.json",
        dir.display()
    )]
    NoWeights {
        /// The directory.
        dir: PathBuf,
    },
    /// A file with tensors cannot be read.
    #[error(transparent)]
    File(#[from] SafetensorsError),
    /// A file of `torch.save` cannot be read.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// The index of a sharded checkpoint cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    IndexRead {
        /// The index.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The index is not what it should be.
    #[error("`{}` is not a valid index of shards: {reason}; copy or download it again", path.display())]
    IndexInvalid {
        /// The index.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The index and the shards do not belong together.
    #[error(
        "`{}` and its shards disagree: {reason}; the files may come from two saves: copy or download all of them again",
        index.display()
    )]
    ShardsDisagree {
        /// The index.
        index: PathBuf,
        /// Which tensor and file.
        reason: String,
    },
    /// One tensor under two names.
    #[error(
        "`{}` has the tensor `{name}` both with and without the prefix `transformer.`: keep one of them",
        file.display()
    )]
    BothPrefixes {
        /// The file of the second one.
        file: PathBuf,
        /// The name with the prefix.
        name: String,
    },
    /// The tensors are not those of the model that was asked for.
    #[error("the weights in `{}` do not fit the model:{}\ncheck that config.json belongs to these weights", dir.display(), listed(problems))]
    Mismatch {
        /// The directory.
        dir: PathBuf,
        /// Every tensor that does not fit.
        problems: Vec<TensorProblem>,
    },
}

/// One tensor that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TensorProblem {
    /// It is not there.
    #[error("tensor `{name}` is missing (expected shape {shape:?})")]
    Missing {
        /// Name expected.
        name: String,
        /// Shape expected.
        shape: Vec<usize>,
    },
    /// There is no language-model head at all: the base model was saved alone.
    #[error(
        "tensor `{name}` is missing: these are the weights of GPTJModel, without the language-model head; save GPTJForCausalLM"
    )]
    NoHead {
        /// Name expected.
        name: String,
    },
    /// Another shape.
    #[error("tensor `{name}` in {file}: expected shape {expected:?}, found {found:?}")]
    Shape {
        /// Its name.
        name: String,
        /// File name of its shard.
        file: String,
        /// Shape expected.
        expected: Vec<usize>,
        /// Shape found.
        found: Vec<usize>,
    },
    /// Not a floating-point type that we read.
    #[error(
        "tensor `{name}` in {file}: expected dtype F32, F16 or BF16, found {found:?}; convert the model to one of them"
    )]
    Dtype {
        /// Its name.
        name: String,
        /// File name of its shard.
        file: String,
        /// Dtype found.
        found: Dtype,
    },
}

fn listed(problems: &[TensorProblem]) -> String {
    let mut text = String::new();
    for problem in problems.iter().take(SHOWN) {
        text.push_str(&format!("\n  {problem}"));
    }
    if problems.len() > SHOWN {
        text.push_str(&format!("\n  and {} more", problems.len() - SHOWN));
    }
    text
}
