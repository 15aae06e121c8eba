//! Flags of the data that a run reads, and of the dry run that shows what becomes of them.

use super::compile::words;
use super::values;
use clap::{Args, ValueEnum};
use gptjc_graphs::plan::Packing;
use gptjc_runtime::data::dataset::Split;
use gptjc_runtime::data::document::Separator;
use gptjc_runtime::data::format::Format;
use gptjc_runtime::data::prompt::LabelStyle;
use std::path::PathBuf;

/// Where examples come from and what becomes of them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
pub(crate) struct DataFlags {
    /// Pre-tokenised batches (safetensors: input_ids, attention_mask, labels of [STEPS, B, S]), used in the order given
    #[arg(long, value_name = "FILE", conflicts_with_all = ["train_file", "dataset_name", "data_dir"])]
    pub(crate) train_tokens: Option<PathBuf>,
    /// Rows to train on: JSON lines, TSV, CSV, Parquet or plain text; several files are read one after the other
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) train_file: Vec<PathBuf>,
    /// Rows to evaluate on, likewise
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "eval_split")]
    pub(crate) validation_file: Vec<PathBuf>,
    /// `glue`, or another dataset of the hub (OWNER/NAME), in --data-dir or else in the Hugging Face cache; or a directory
    #[arg(long, value_name = "NAME")]
    pub(crate) dataset_name: Option<String>,
    /// Configuration of the dataset; of GLUE, `mnli` is the one that has a prompt here
    #[arg(long, value_name = "NAME")]
    pub(crate) dataset_config_name: Option<String>,
    /// Directory with a dataset: files as in GLUE's MNLI.zip (train.tsv, dev_matched.tsv), of MultiNLI
    /// (multinli_1.0_train.jsonl), of Hugging Face (mnli/train-00000-of-00001.parquet), or train.* and validation.*
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Split of --dataset-name or --data-dir to evaluate on [default: validation_matched]
    #[arg(long, value_name = "SPLIT", value_enum)]
    pub(crate) eval_split: Option<EvalSplit>,
    /// What the rows are: premise, hypothesis and label; prompt and completion; or text [default: what the columns say]
    #[arg(long, value_name = "FORMAT", value_parser = words::<Format>(Format::WORDS))]
    pub(crate) data_format: Option<Format>,
    /// What separates the documents of a plain text: file (one a file), line, blank-line, or a line of this text
    /// [default: file]
    #[arg(long, value_name = "WHAT")]
    pub(crate) document_separator: Option<Separator>,
    /// Train on the first N windows only (after packing, as in the reference workflow)
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub(crate) max_train_samples: Option<u64>,
    /// Evaluate on the first N rows only
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub(crate) max_eval_samples: Option<u64>,
    /// Tokenizer directory [default: the model's]
    #[arg(long, value_name = "DIR")]
    pub(crate) tokenizer_name: Option<PathBuf>,
    /// Text of an MNLI example, with {hypothesis}, {premise} and {label}; what stands before {label} is the prompt
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt_template: Option<String>,
    /// How MNLI's labels are written: words, or ids 0, 1, 2 [default: words]
    #[arg(long, value_name = "STYLE")]
    pub(crate) label_style: Option<LabelStyle>,
    /// Train on the tokens of the prompt as well
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "false", default_missing_value = "true",
        value_parser = values::boolean)]
    pub(crate) train_on_inputs: bool,
}

/// What is evaluated on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum EvalSplit {
    /// Rows of the genres that were trained on, or the only validation rows of other datasets
    #[default]
    #[value(name = "validation_matched", alias = "validation-matched", alias = "matched")]
    Matched,
    /// Rows of other genres
    #[value(name = "validation_mismatched", alias = "validation-mismatched", alias = "mismatched")]
    Mismatched,
}

impl EvalSplit {
    /// The split.
    pub(crate) fn split(self) -> Split {
        match self {
            Self::Matched => Split::Matched,
            Self::Mismatched => Split::Mismatched,
        }
    }
}

/// `gptjc data`
#[derive(Debug, Args)]
pub(crate) struct DataCommand {
    /// Model directory: its tokenizer and, if it is there, config.json; no weights are read
    #[arg(
        long,
        visible_alias = "model-name-or-path",
        value_name = "DIR",
        required_unless_present = "tokenizer_name",
        help_heading = "Model"
    )]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataFlags,
    /// Tokens of a window at most [default: 512, or n_positions if that is less]
    #[arg(long, value_name = "N", value_parser = values::count, help_heading = "Windows")]
    pub(crate) max_seq_length: Option<u64>,
    /// How examples become windows: joined and cut, whole side by side, or one each [default: concat]
    #[arg(long, value_name = "KIND", value_parser = words::<Packing>(Packing::WORDS), help_heading = "Windows")]
    pub(crate) packing: Option<Packing>,
    /// True is --packing concat, False is --packing pad
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", value_parser = values::boolean,
        help_heading = "Windows")]
    pub(crate) dataset_concatenation: Option<bool>,
    /// Show the first N examples, and the first window if N is not 0
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = "Output")]
    pub(crate) examples: usize,
    /// Print as JSON
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// Threads; changes no result [default: the cores that this process may use]
    #[arg(long, value_name = "N", value_parser = values::threads, help_heading = "Output")]
    pub(crate) threads: Option<usize>,
}
