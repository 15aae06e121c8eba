//! Flags of `gptjc export` and `gptjc merge`.

use super::values;
use clap::{Args, ValueEnum};
use gptjc_graphs::onnx::ElementType;
use gptjc_runtime::data::prompt::LabelStyle;
use gptjc_runtime::weights::WeightDtype;
use std::path::PathBuf;

/// Type in which weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StoredType {
    /// 32-bit IEEE
    F32,
    /// 16-bit IEEE
    F16,
    /// The upper half of an f32
    Bf16,
}

impl StoredType {
    /// The type in an ONNX file.
    pub(crate) fn element(self) -> ElementType {
        match self {
            Self::F32 => ElementType::F32,
            Self::F16 => ElementType::F16,
            Self::Bf16 => ElementType::Bf16,
        }
    }

    /// The type in a checkpoint.
    pub(crate) fn weight(self) -> WeightDtype {
        match self {
            Self::F32 => WeightDtype::F32,
            Self::F16 => WeightDtype::F16,
            Self::Bf16 => WeightDtype::Bf16,
        }
    }
}

/// The directory that is made.
#[derive(Debug, Args)]
pub(crate) struct MadeDirectory {
    /// Directory to make; it appears whole or not at all
    #[arg(short, long, visible_alias = "output-dir", value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Replace the directory if an earlier run made it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "false", default_missing_value = "true",
        value_parser = values::boolean)]
    pub(crate) overwrite_output_dir: bool,
    /// Take the tokenizer's files from this directory [default: the model's]
    #[arg(long, visible_alias = "tokenizer-name", value_name = "DIR")]
    pub(crate) tokenizer: Option<PathBuf>,
}

/// `gptjc export`
#[derive(Debug, Args)]
pub(crate) struct ExportCommand {
    /// Model: a directory (config.json, safetensors or pytorch_model.bin, tokenizer files), or owner/name in the Hugging
    /// Face cache
    #[arg(long, visible_alias = "model-name-or-path", value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// Revision of a --model that is named as on the hub [default: main]
    #[arg(long, visible_alias = "model-revision", value_name = "REVISION")]
    pub(crate) revision: Option<String>,
    /// PEFT adapter to merge into the exported weights
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
    /// Type in which matrices are stored; ONNX Runtime computes in f32 whatever it is
    #[arg(long, value_name = "TYPE", value_enum, default_value_t = StoredType::F32)]
    pub(crate) dtype: StoredType,
    #[command(flatten)]
    pub(crate) made: MadeDirectory,
}

/// `gptjc merge`
#[derive(Debug, Args)]
pub(crate) struct MergeCommand {
    /// Model: a directory (config.json, safetensors or pytorch_model.bin, tokenizer files), or owner/name in the Hugging
    /// Face cache
    #[arg(long, visible_alias = "model-name-or-path", value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// Revision of a --model that is named as on the hub [default: main]
    #[arg(long, visible_alias = "model-revision", value_name = "REVISION")]
    pub(crate) revision: Option<String>,
    /// PEFT adapter to merge
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: PathBuf,
    /// Type in which weights are stored [default: each tensor's own in the checkpoint]
    #[arg(long, value_name = "TYPE", value_enum)]
    pub(crate) dtype: Option<StoredType>,
    /// Bytes of a file of weights at most, such as 2GB
    #[arg(long, value_name = "BYTES", default_value = "5GB", value_parser = values::bytes)]
    pub(crate) max_shard_size: u64,
    #[command(flatten)]
    pub(crate) made: MadeDirectory,
    #[command(flatten)]
    pub(crate) comparison: ComparisonFlags,
    /// Print the report as JSON, with the numbers of every tensor
    #[arg(long)]
    pub(crate) json: bool,
}

/// The merged model against the model with its adapter.
#[derive(Debug, Args)]
#[command(next_help_heading = "Comparison")]
pub(crate) struct ComparisonFlags {
    /// MNLI rows (JSON lines) on which to compare losses and labels with those of the adapter apart from its model
    #[arg(long, value_name = "FILE")]
    pub(crate) validation_file: Option<PathBuf>,
    /// Compare on the first N rows only
    #[arg(long, value_name = "N", value_parser = values::count, requires = "validation_file")]
    pub(crate) max_eval_samples: Option<u64>,
    /// Text of an example, as in training
    #[arg(long, value_name = "TEXT", requires = "validation_file")]
    pub(crate) prompt_template: Option<String>,
    /// How labels are written, as in training: words, or ids 0, 1, 2
    #[arg(long, value_name = "STYLE", default_value_t = LabelStyle::Words)]
    pub(crate) label_style: LabelStyle,
    /// Threads; changes no result [default: the cores that this process may use]
    #[arg(long, value_name = "N", value_parser = values::threads)]
    pub(crate) threads: Option<usize>,
}
