//! Flags of `gptjc export` and `gptjc merge`.

use super::values;
use clap::{Args, ValueEnum};
use gptjc_graphs::onnx::{Blockwise, CodeBits, ElementType, Storage};
use gptjc_runtime::data::prompt::LabelStyle;
use gptjc_runtime::weights::WeightDtype;
use std::path::PathBuf;

/// Type in which weights of a checkpoint are stored.
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
    /// The type in a checkpoint.
    pub(crate) fn weight(self) -> WeightDtype {
        match self {
            Self::F32 => WeightDtype::F32,
            Self::F16 => WeightDtype::F16,
            Self::Bf16 => WeightDtype::Bf16,
        }
    }
}

/// Type in which matrices of an export are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportType {
    /// 32-bit IEEE
    F32,
    /// 16-bit IEEE, widened when the model runs
    F16,
    /// The upper half of an f32, widened when the model runs
    Bf16,
    /// 8 bits, with a scale and a zero point for each block of a row
    Int8,
    /// 4 bits, with a scale and a zero point for each block of a row
    Int4,
}

impl ExportType {
    /// The bits of a code, if it is one with blocks.
    pub(crate) fn bits(self) -> Option<CodeBits> {
        match self {
            Self::Int8 => Some(CodeBits::Eight),
            Self::Int4 => Some(CodeBits::Four),
            Self::F32 | Self::F16 | Self::Bf16 => None,
        }
    }

    /// The storage, with blocks of `block_size` if it has any.
    pub(crate) fn storage(self, block_size: usize) -> Storage {
        match self {
            Self::F32 => Storage::Plain(ElementType::F32),
            Self::F16 => Storage::Plain(ElementType::F16),
            Self::Bf16 => Storage::Plain(ElementType::Bf16),
            Self::Int8 => Storage::Blocks(Blockwise { bits: CodeBits::Eight, size: block_size }),
            Self::Int4 => Storage::Blocks(Blockwise { bits: CodeBits::Four, size: block_size }),
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
    /// Type in which matrices are stored
    #[arg(long, value_name = "TYPE", value_enum, default_value_t = ExportType::F32)]
    pub(crate) dtype: ExportType,
    #[command(flatten)]
    pub(crate) quantisation: QuantisationFlags,
    #[command(flatten)]
    pub(crate) made: MadeDirectory,
    #[command(flatten)]
    pub(crate) check: CheckFlags,
}

/// How matrices are quantised.
#[derive(Debug, Args)]
#[command(next_help_heading = "Quantisation (--dtype int8 or int4)")]
pub(crate) struct QuantisationFlags {
    /// Values that share a scale and a zero point: 16, 32, 64, 128 or 256 [default: 32]
    #[arg(long, value_name = "N", value_parser = block_size)]
    pub(crate) block_size: Option<usize>,
    /// How exactly MatMulNBits keeps what it multiplies with, at least: 0 or 1 as f32, 2 as f16, 3 as bf16, 4 as int8
    /// [default: 4]
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(i64).range(0..=4))]
    pub(crate) accuracy_level: Option<i64>,
    /// Type in which lm_head is stored, whose rounding reaches the logits as it is [default: int8]
    #[arg(long, value_name = "TYPE", value_enum)]
    pub(crate) lm_head: Option<ExportType>,
}

impl QuantisationFlags {
    /// The first flag that was typed.
    pub(crate) fn first_typed(&self) -> Option<&'static str> {
        let typed = [
            ("--block-size", self.block_size.is_some()),
            ("--accuracy-level", self.accuracy_level.is_some()),
            ("--lm-head", self.lm_head.is_some()),
        ];
        typed.into_iter().find(|(_, typed)| *typed).map(|(name, _)| name)
    }
}

fn block_size(text: &str) -> Result<usize, String> {
    let size = text.parse().ok().filter(|size| Blockwise::SIZES.contains(size));
    size.ok_or_else(|| "expected 16, 32, 64, 128 or 256".to_owned())
}

/// The export beside the merged model.
#[derive(Debug, Args)]
#[command(next_help_heading = "Check")]
pub(crate) struct CheckFlags {
    /// MNLI rows (JSON lines) on which to compare the export, under ONNX Runtime, with the model and its adapter, compiled in
    /// f32: answers, next tokens, logits
    #[arg(long, value_name = "FILE")]
    pub(crate) check_file: Option<PathBuf>,
    /// Compare on the first N rows only
    #[arg(long, value_name = "N", value_parser = values::count, requires = "check_file")]
    pub(crate) max_check_samples: Option<u64>,
    /// Text of an example, as in training
    #[arg(long, value_name = "TEXT", requires = "check_file")]
    pub(crate) prompt_template: Option<String>,
    /// How labels are written, as in training: words, or ids 0, 1, 2
    #[arg(long, value_name = "STYLE", default_value_t = LabelStyle::Words)]
    pub(crate) label_style: LabelStyle,
    /// Threads of the check [default: the cores that this process may use]
    #[arg(long, value_name = "N", value_parser = values::threads)]
    pub(crate) threads: Option<usize>,
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
