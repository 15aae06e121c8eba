//! Flags of the commands that ask a model, and of `doctor`.

use super::compile::words;
use super::values;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use gptjc_graphs::plan::Precision;
use gptjc_runtime::data::prompt::LabelStyle;
use gptjc_runtime::validate::mnli::Mode;
use std::path::PathBuf;

/// The model that is asked, and what computes it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct EngineFlags {
    /// Export directory (model.onnx, its data, config.json)
    #[arg(long, value_name = "DIR", required_unless_present = "model")]
    pub(crate) onnx: Option<PathBuf>,
    /// Model that is asked as it is: a directory, or owner/name in the Hugging Face cache
    #[arg(long, visible_alias = "model-name-or-path", value_name = "MODEL")]
    pub(crate) model: Option<PathBuf>,
    /// What computes [default: ort for --onnx, native for --model]
    #[arg(long, value_name = "ENGINE", value_enum)]
    pub(crate) engine: Option<EngineName>,
    /// Revision of a --model that is named as on the hub [default: main]
    #[arg(long, visible_alias = "model-revision", value_name = "REVISION")]
    pub(crate) revision: Option<String>,
    /// PEFT adapter on top of --model
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
    /// Arithmetic of --model's weights [default: bf16, and f32 where an export is compared with it]
    #[arg(long, value_name = "TYPE", value_parser = words::<Precision>(Precision::WORDS))]
    pub(crate) precision: Option<Precision>,
    /// Tokenizer directory [default: the model's]
    #[arg(long, visible_alias = "tokenizer-name", value_name = "DIR")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// Prompts that run together
    #[arg(long, visible_alias = "per-device-eval-batch-size", value_name = "N", default_value = "8",
        value_parser = values::count)]
    pub(crate) batch_size: u64,
    /// Threads [default: the cores that this process may use]
    #[arg(long, value_name = "N", value_parser = values::threads)]
    pub(crate) threads: Option<usize>,
}

/// `gptjc validate`
#[derive(Debug, Args)]
pub(crate) struct ValidateCommand {
    #[command(flatten)]
    pub(crate) engine: EngineFlags,
    /// MNLI rows to ask about (JSON lines, TSV, CSV or Parquet); a row without a label is answered and not counted
    #[arg(long, value_name = "FILE", help_heading = "Questions")]
    pub(crate) validation_file: PathBuf,
    /// Ask about the first N rows only
    #[arg(long, value_name = "N", value_parser = values::count, help_heading = "Questions")]
    pub(crate) max_eval_samples: Option<u64>,
    /// generate: read the first word of what the model writes that is a label; score: take the likeliest label
    #[arg(long, value_name = "MODE", default_value = "generate", value_parser = modes(), help_heading = "Questions")]
    pub(crate) mode: Mode,
    /// Tokens that an answer may have in mode generate
    #[arg(long, value_name = "N", default_value = "5", value_parser = values::count, help_heading = "Questions")]
    pub(crate) max_new_tokens: u64,
    /// Text that the model was trained on, with {hypothesis}, {premise} and {label}; what stands before {label} is asked
    #[arg(long, value_name = "TEXT", help_heading = "Questions")]
    pub(crate) prompt_template: Option<String>,
    /// How labels are written: words, or ids 0, 1, 2
    #[arg(long, value_name = "STYLE", default_value_t = LabelStyle::Words, help_heading = "Questions")]
    pub(crate) label_style: LabelStyle,
    /// Ask this engine too, and say where it differs from the first: answers, next tokens, logits. The first is the export if
    /// --onnx is given, else --model. ort and tract get the graph of --model and --adapter, made again in f32
    #[arg(long, value_name = "ENGINE", value_enum, requires = "model", help_heading = "Comparison")]
    pub(crate) compare: Option<EngineName>,
    /// With --onnx: find the first node of its graph that gives something else than in the graph of --model and --adapter,
    /// made again; takes the space of the model in f32 in the directory for temporary files (TMPDIR)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true",
        value_parser = values::boolean, requires = "compare", help_heading = "Comparison")]
    pub(crate) compare_nodes: bool,
    /// Print the report as JSON
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// Write every row's answer, with the scores of the three labels, to this file (JSON lines)
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) predictions: Option<PathBuf>,
}

/// What computes a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineName {
    /// An export under ONNX Runtime
    Ort,
    /// An export in f32 or f16 under tract, if gptjc was built with --features tract
    Tract,
    /// A model with its adapter, compiled and run by gptjc itself
    Native,
}

fn modes() -> impl TypedValueParser<Value = Mode> {
    let modes = [Mode::Generate, Mode::Score];
    PossibleValuesParser::new(modes.map(Mode::name))
        .map(move |word| if word == Mode::Score.name() { Mode::Score } else { Mode::Generate })
}

/// `gptjc generate`
#[derive(Debug, Args)]
pub(crate) struct GenerateCommand {
    #[command(flatten)]
    pub(crate) engine: EngineFlags,
    /// Text to continue
    #[arg(long, value_name = "TEXT", required_unless_present = "prompt_file", help_heading = "Prompts")]
    pub(crate) prompt: Option<String>,
    /// Texts to continue, one a line
    #[arg(long, value_name = "FILE", conflicts_with = "prompt", help_heading = "Prompts")]
    pub(crate) prompt_file: Option<PathBuf>,
    /// Tokens that are added at most
    #[arg(long, value_name = "N", default_value = "32", value_parser = values::count, help_heading = "Prompts")]
    pub(crate) max_new_tokens: u64,
    /// Print prompts, continuations and their tokens as JSON. Without it, a continuation of --prompt-file is one line, in
    /// which \n, \r and \\ stand for a line break, a carriage return and a backslash
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// Write the logits of every token of every prompt to FILE, as safetensors `tokens.N` and `logits.N`; see
    /// scripts/check_logits.py
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) save_logits: Option<PathBuf>,
}

/// `gptjc doctor`
#[derive(Debug, Args)]
pub(crate) struct DoctorCommand {
    /// Get libonnxruntime into gptjc's cache, with `python3 -m pip download`: this uses the network
    #[arg(long)]
    pub(crate) fetch_onnxruntime: bool,
    /// Hold every kernel variant that this CPU can run against the portable kernels; a variant that differs is not used
    /// any more. Commands that run kernels do this by themselves once for a CPU and this program
    #[arg(long)]
    pub(crate) self_test: bool,
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
