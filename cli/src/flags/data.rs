//! Flags of the data that a run reads.

use super::values;
use clap::Args;
use gptjc_runtime::data::prompt::LabelStyle;
use std::path::PathBuf;

/// Where examples come from and what becomes of them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
pub(crate) struct DataFlags {
    /// Pre-tokenised batches (safetensors: input_ids, attention_mask, labels of [STEPS, B, S]), used in the order given
    #[arg(long, value_name = "FILE", conflicts_with_all = ["train_file", "dataset_name", "data_dir"])]
    pub(crate) train_tokens: Option<PathBuf>,
    /// MNLI rows to train on (JSON lines)
    #[arg(long, value_name = "FILE")]
    pub(crate) train_file: Option<PathBuf>,
    /// MNLI rows to evaluate on after training (JSON lines)
    #[arg(long, value_name = "FILE")]
    pub(crate) validation_file: Option<PathBuf>,
    /// `glue`, whose files are looked for in --data-dir, or a directory with such files
    #[arg(long, value_name = "NAME")]
    pub(crate) dataset_name: Option<String>,
    /// `mnli`, the only one of GLUE that has a prompt here
    #[arg(long, value_name = "NAME")]
    pub(crate) dataset_config_name: Option<String>,
    /// Directory with train.jsonl and validation_matched.jsonl, or with MultiNLI's own files
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Train on the first N windows only (after packing, as in the reference workflow)
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub(crate) max_train_samples: Option<u64>,
    /// Evaluate on the first N rows only
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub(crate) max_eval_samples: Option<u64>,
    /// Tokenizer directory [default: the model's]
    #[arg(long, value_name = "DIR")]
    pub(crate) tokenizer_name: Option<PathBuf>,
    /// Text of an example, with {hypothesis}, {premise} and {label}; what stands before {label} is the prompt
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt_template: Option<String>,
    /// How labels are written: words, or ids 0, 1, 2
    #[arg(long, value_name = "STYLE", default_value_t = LabelStyle::Words)]
    pub(crate) label_style: LabelStyle,
    /// Train on the tokens of the prompt as well
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "false", default_missing_value = "true",
        value_parser = values::boolean)]
    pub(crate) train_on_inputs: bool,
}
