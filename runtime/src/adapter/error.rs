//! What can be wrong with an adapter.

use std::io;
use std::path::PathBuf;

use safetensors::Dtype;
use thiserror::Error;

use crate::files::FileError;
use crate::weights::SafetensorsError;

/// Why an adapter cannot be read, used or written.
#[derive(Debug, Error)]
pub enum AdapterError {
    /// A file of the adapter cannot be read.
    #[error(
        "cannot read `{}`: {source}; an adapter is a directory with adapter_config.json and adapter_model.safetensors",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Only the older pickle format is there.
    #[error(
        "`{}` has adapter_model.bin only: load it with PEFT and save it again (`save_pretrained` writes adapter_model.safetensors)",
        dir.display()
    )]
    OnlyPickle {
        /// The directory.
        dir: PathBuf,
    },
    /// `adapter_config.json` is no JSON object or a setting has the wrong type or range.
    #[error("`{}`: {reason}", path.display())]
    Config {
        /// The settings file.
        path: PathBuf,
        /// Setting, what was expected and found.
        reason: String,
    },
    /// A setting that changes what the adapter means and that gptjc does not compute.
    #[error("`{}` has {setting}, which gptjc does not compute; {advice}", path.display())]
    Unsupported {
        /// The settings file.
        path: PathBuf,
        /// The setting with its value, as in the file.
        setting: String,
        /// What to do instead.
        advice: &'static str,
    },
    /// The tensors' file is missing, truncated or no safetensors file.
    #[error(transparent)]
    File(#[from] SafetensorsError),
    /// A tensor that is no LoRA weight.
    #[error(
        "`{}`: tensor `{name}` is not a LoRA weight (expected base_model.model.MODULE.lora_A.weight or .lora_B.weight); \
         save the adapter with `save_pretrained`",
        path.display()
    )]
    NotLora {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor of a type that is not read.
    #[error("`{}`: tensor `{name}`: expected dtype F32, F16 or BF16, found {found:?}; save the adapter in one of them", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        found: Dtype,
    },
    /// The tensors have another rank than adapter_config.json says, or no rank at all.
    #[error(
        "`{}`: tensor `{name}` has shape {shape:?}, but adapter_config.json says rank {r}; the two files do not belong together",
        path.display()
    )]
    RankInFiles {
        /// The tensors' file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Rank in the settings.
        r: usize,
    },
    /// The adapter has another rank than the plan.
    #[error(
        "the adapter `{adapter}` has rank {found}, the plan was compiled for rank {expected}: recompile with `--lora-rank {found}`, or start from an adapter of rank {expected}"
    )]
    Rank {
        /// Where the adapter came from.
        adapter: String,
        /// Rank of the plan.
        expected: usize,
        /// Rank of the adapter.
        found: usize,
    },
    /// Tensors that the plan trains are not in the adapter.
    #[error(
        "the adapter `{adapter}` lacks tensor `{name}`{}, which the plan trains: recompile with `{flags}`, or start from an adapter of all the plan's targets and layers",
        and_more(*more)
    )]
    Missing {
        /// Where the adapter came from.
        adapter: String,
        /// The first tensor missing.
        name: String,
        /// How many more are missing.
        more: usize,
        /// The flags that compile for the adapter's modules.
        flags: String,
    },
    /// The adapter has tensors that the plan does not know.
    #[error(
        "the adapter `{adapter}` has tensor `{name}`{}, which the plan does not train: recompile with `{flags}`, and check that the adapter belongs to this model",
        and_more(*more)
    )]
    Extra {
        /// Where the adapter came from.
        adapter: String,
        /// The first tensor too many.
        name: String,
        /// How many more there are.
        more: usize,
        /// The flags that compile for the adapter's modules.
        flags: String,
    },
    /// The settings select a module that the tensors leave out.
    #[error(
        "the adapter `{adapter}` has no tensors for `{module}`, which its adapter_config.json selects: copy the adapter again, \
         and check that it belongs to this model"
    )]
    Incomplete {
        /// Where the adapter came from.
        adapter: String,
        /// The first module without.
        module: String,
    },
    /// A tensor of another shape.
    #[error(
        "the adapter `{adapter}`: tensor `{name}`: expected shape {expected:?}, found {found:?}; check that the adapter belongs to this model"
    )]
    Shape {
        /// Where the adapter came from.
        adapter: String,
        /// The tensor.
        name: String,
        /// Shape in the plan.
        expected: Vec<usize>,
        /// Shape in the adapter.
        found: Vec<usize>,
    },
    /// The list of tensors to create is not one of LoRA weights: a caller's mistake.
    #[error(
        "cannot initialise `{name}` of shape {shape:?}: expected a LoRA A or B of two dimensions, none of them zero"
    )]
    CannotInitialise {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The tensors cannot be written as safetensors.
    #[error("cannot write the adapter's tensors: {0}")]
    Serialize(#[from] safetensors::SafeTensorError),
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
}

fn and_more(more: usize) -> String {
    if more == 0 { String::new() } else { format!(" and {more} more") }
}
