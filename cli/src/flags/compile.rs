//! Flags that are settled when a plan is compiled.

use super::values;
use clap::Args;
use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser;
use gptjc_graphs::plan::{Packing, Precision, Trainable};
use std::path::PathBuf;
use std::str::FromStr;

/// The default of `--per-device-train-batch-size`.
pub(crate) const BATCH: u64 = 8;
/// The default of `--gradient-accumulation-steps`.
pub(crate) const ACCUMULATION: u64 = 1;
/// The default of `--max-seq-length`.
pub(crate) const SEQUENCE: u64 = 512;
/// The default of `--lora-rank`.
pub(crate) const RANK: u64 = 8;
/// The default of `--lora-alpha`.
pub(crate) const ALPHA: f64 = 16.0;
/// The default of `--lora-dropout`.
pub(crate) const DROPOUT: f64 = 0.05;
/// The default of `--lora-target-modules`: PEFT's for GPT-J, which the reference workflow falls back to.
pub(crate) const TARGETS: [&str; 2] = ["q_proj", "v_proj"];

/// Everything that a plan binds.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct CompileFlags {
    #[command(flatten)]
    pub(crate) model: ModelFlags,
    #[command(flatten)]
    pub(crate) lora: LoraFlags,
    #[command(flatten)]
    pub(crate) window: WindowFlags,
}

/// The model, and the arithmetic on it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelFlags {
    /// Model: a directory (config.json, safetensors or pytorch_model.bin, tokenizer files), or owner/name in the Hugging
    /// Face cache
    #[arg(long, visible_alias = "model-name-or-path", value_name = "MODEL")]
    pub(crate) model: Option<PathBuf>,
    /// Revision of a --model that is named as on the hub [default: main]
    #[arg(long, visible_alias = "model-revision", value_name = "REVISION")]
    pub(crate) revision: Option<String>,
    /// Take the config from this file, or from config.json in this directory [default: of the model]
    #[arg(long, value_name = "FILE")]
    pub(crate) config_name: Option<PathBuf>,
    /// Arithmetic of the base model [default: bf16]
    #[arg(long, value_name = "TYPE", value_parser = words::<Precision>(Precision::WORDS))]
    pub(crate) precision: Option<Precision>,
    /// True is --precision bf16, False is --precision f32
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", value_parser = values::boolean)]
    pub(crate) bf16: Option<bool>,
    /// What is trained: adapters, or all parameters of the model [default: lora]
    #[arg(long, value_name = "WHAT", value_parser = words::<Trainable>(Trainable::WORDS))]
    pub(crate) trainable: Option<Trainable>,
}

/// The adapters.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Adapter (default: of --adapter, if that is given)")]
pub(crate) struct LoraFlags {
    /// Rank r [default: 8]
    #[arg(long, visible_alias = "lora-r", value_name = "N", value_parser = values::count)]
    pub(crate) lora_rank: Option<u64>,
    /// Adapters are scaled by alpha / r [default: 16]
    #[arg(long, value_name = "X", value_parser = values::positive)]
    pub(crate) lora_alpha: Option<f64>,
    /// Share of an adapter's inputs that is dropped in training [default: 0.05]
    #[arg(long, value_name = "X", value_parser = values::share)]
    pub(crate) lora_dropout: Option<f64>,
    /// Modules with an adapter, as PEFT's target_modules: names or ends of names with commas or blanks between them
    /// (q_proj, k_proj, v_proj, out_proj, fc_in, fc_out), all-linear for all of these, or a regular expression that
    /// matches whole names, such as '.*\.(q|v)_proj' [default: q_proj,v_proj]
    #[arg(long, value_name = "NAMES", num_args = 1..)]
    pub(crate) lora_target_modules: Option<Vec<String>>,
    /// Layers whose modules of these names have an adapter, from 0, such as 0,1,20-27 [default: all]
    #[arg(long, visible_alias = "lora-layers", value_name = "LAYERS", num_args = 1..)]
    pub(crate) layers_to_transform: Option<Vec<String>>,
    /// What stands before a layer's number in names of modules, for --layers-to-transform: h in a GPT-J [default: anything]
    #[arg(long, value_name = "NAMES", num_args = 1..)]
    pub(crate) layers_pattern: Option<Vec<String>>,
    /// Scale adapters by alpha / sqrt(r) [default: False]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", value_parser = values::boolean)]
    pub(crate) use_rslora: Option<bool>,
}

impl LoraFlags {
    /// A flag that was typed.
    pub(crate) fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("--lora-rank", self.lora_rank.is_some()),
            ("--lora-alpha", self.lora_alpha.is_some()),
            ("--lora-dropout", self.lora_dropout.is_some()),
            ("--lora-target-modules", self.lora_target_modules.is_some()),
            ("--layers-to-transform", self.layers_to_transform.is_some()),
            ("--layers-pattern", self.layers_pattern.is_some()),
            ("--use-rslora", self.use_rslora.is_some()),
        ];
        given.iter().find(|(_, given)| *given).map(|(flag, _)| *flag)
    }
}

/// Windows, and the machine and the memory for them.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Windows, machine and memory")]
pub(crate) struct WindowFlags {
    /// Windows of a batch, on each rank [default: 8, or the batch of --train-tokens]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub(crate) per_device_train_batch_size: Option<u64>,
    /// Batches of an optimizer step [default: 1]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub(crate) gradient_accumulation_steps: Option<u64>,
    /// Windows of an optimizer step on all ranks: ranks times batch times accumulation, where those are given, and any number
    /// where they are not
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub(crate) global_batch_size: Option<u64>,
    /// Tokens of a window at most [default: the row length of --train-tokens, or 512, or n_positions if that is less]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub(crate) max_seq_length: Option<u64>,
    /// How examples become windows: joined and cut, whole side by side, or one each [default: concat]
    #[arg(long, value_name = "KIND", value_parser = words::<Packing>(Packing::WORDS))]
    pub(crate) packing: Option<Packing>,
    /// True is --packing concat, False is --packing pad
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", value_parser = values::boolean)]
    pub(crate) dataset_concatenation: Option<bool>,
    /// Machine to compile for: a description in TOML, or one that comes with gptjc by its name: spr-2s, zen4-2c, avx2-2c
    /// [default: this machine]
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) target: Option<String>,
    /// Memory that the run may use, such as 8GiB [default: the machine's, but for a reserve of 1/16 or at least 512MiB]
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    pub(crate) memory_budget: Option<u64>,
    /// Windows that are computed at a time: for tuning, changes no result [default: what is fastest of what fits]
    #[arg(long, value_name = "N", value_parser = values::count, hide = true)]
    pub(crate) micro_batch: Option<u64>,
    /// Ranks that share a step, 0 counting as 1; no flag, the launcher says it
    #[arg(skip)]
    pub(crate) ranks: u64,
}

/// A parser of the plan's own words, which `--help` lists.
pub(super) fn words<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = String> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| word.parse::<T>())
}
