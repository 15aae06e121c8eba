//! Flags of `gptjc bench`.

use super::compile::words;
use super::values;
use clap::{Args, Subcommand};
use gptjc_graphs::plan::{Isa, Precision};
use std::path::PathBuf;

/// `gptjc bench`
#[derive(Debug, Args)]
pub(crate) struct BenchCommand {
    /// What to measure
    #[command(subcommand)]
    pub(crate) what: BenchWhat,
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchWhat {
    /// Peak of multiply-adds, bandwidth of memory and disk; kept, so that plans for this machine are made with them
    Machine(MachineFlags),
    /// Kernels at the shapes of GPT-J-6B, beside the peak of the same moment
    Kernels(KernelsFlags),
    /// Training steps of a made-up model: tokens a second, share of the peak, time by kind of kernel
    Step(Box<StepFlags>),
}

/// What all of them take.
#[derive(Clone, Debug, Args)]
pub(crate) struct MeasureFlags {
    /// Threads [default: a thread a core that this process may use]
    #[arg(long, value_name = "N", value_parser = values::threads)]
    pub(crate) threads: Option<usize>,
    /// Rounds, of which the median is taken
    #[arg(long, value_name = "N", default_value = "5", value_parser = values::count)]
    pub(crate) rounds: u64,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `gptjc bench machine`
#[derive(Debug, Args)]
pub(crate) struct MachineFlags {
    #[command(flatten)]
    pub(crate) measure: MeasureFlags,
    /// Also measure reading this file, past the cache; in a directory, a file of half a GB is written and removed
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<PathBuf>,
    /// Seconds of a measurement of the disk at most
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = values::positive)]
    pub(crate) disk_seconds: f64,
    /// Bytes of a thread's buffers, which should be more than its share of the caches
    #[arg(long, value_name = "BYTES", default_value = "256MiB", value_parser = values::bytes)]
    pub(crate) buffer: u64,
}

/// `gptjc bench kernels`
#[derive(Debug, Args)]
pub(crate) struct KernelsFlags {
    #[command(flatten)]
    pub(crate) measure: MeasureFlags,
    /// Instruction sets of the kernels [default: those of this CPU, without the portable kernels if there are others]
    #[arg(long, value_name = "ISA", num_args = 1.., value_delimiter = ',', value_parser = isas())]
    pub(crate) variant: Option<Vec<Isa>>,
    /// Numbers of tokens of the matrix products
    #[arg(long, value_name = "N", num_args = 1.., value_delimiter = ',', default_value = "64,512,1024,4096",
        value_parser = values::count)]
    pub(crate) tokens: Vec<u64>,
    /// Type of weights and activations
    #[arg(long, value_name = "TYPE", default_value = "bf16", value_parser = words::<Precision>(Precision::WORDS))]
    pub(crate) precision: Precision,
    /// Only kernels with this text in their row's name or kernel
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// Seconds after which a kernel gets no further round
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = values::positive)]
    pub(crate) limit: f64,
}

/// `gptjc bench step`
#[derive(Debug, Args)]
pub(crate) struct StepFlags {
    #[command(flatten)]
    pub(crate) measure: MeasureFlags,
    #[command(flatten)]
    pub(crate) model: StepModelFlags,
    #[command(flatten)]
    pub(crate) work: StepWorkFlags,
    /// Write the last step as a trace for Chrome (about:tracing) or Perfetto to this file
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) trace: Option<PathBuf>,
    /// Say what the compiler expects of the step, and take none
    #[arg(long, conflicts_with_all = ["trace", "json"], help_heading = "Output")]
    pub(crate) predict_only: bool,
    /// Leave out the time by kind of kernel, which takes another micro-batch
    #[arg(long, conflicts_with = "trace", help_heading = "Output")]
    pub(crate) no_profile: bool,
}

/// The model of `gptjc bench step`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model (weights are random, if it is not --model)")]
pub(crate) struct StepModelFlags {
    /// Model directory: config.json and safetensors
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "layers", "width", "heads", "vocabulary"])]
    pub(crate) model: Option<PathBuf>,
    /// config.json of the model
    #[arg(long, value_name = "FILE", conflicts_with_all = ["width", "heads", "vocabulary"])]
    pub(crate) config: Option<PathBuf>,
    /// Layers [default: of --config, or 2]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub(crate) layers: Option<u64>,
    /// Width of the residual stream; the MLP is four times as wide
    #[arg(long, value_name = "N", default_value = "4096", value_parser = values::count)]
    pub(crate) width: u64,
    /// Heads of attention
    #[arg(long, value_name = "N", default_value = "16", value_parser = values::count)]
    pub(crate) heads: u64,
    /// Tokens of the vocabulary
    #[arg(long, value_name = "N", default_value = "50400", value_parser = values::count)]
    pub(crate) vocabulary: u64,
    /// Arithmetic of the base model
    #[arg(long, value_name = "TYPE", default_value = "bf16", value_parser = words::<Precision>(Precision::WORDS))]
    pub(crate) precision: Precision,
}

/// The work of `gptjc bench step`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Work of a step")]
pub(crate) struct StepWorkFlags {
    /// Windows of an optimizer step
    #[arg(long, value_name = "N", default_value = "1", value_parser = values::count)]
    pub(crate) windows: u64,
    /// Tokens of a window
    #[arg(long, value_name = "N", default_value = "512", value_parser = values::count)]
    pub(crate) sequence: u64,
    /// Tokens of a segment: what attends to each other [default: the whole window]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub(crate) segment: Option<u64>,
    /// Share of the tokens that have a label
    #[arg(long, value_name = "X", default_value = "1", value_parser = values::share_of_all)]
    pub(crate) labelled_share: f64,
    /// Rank of the adapters
    #[arg(long, value_name = "N", default_value = "8", value_parser = values::count)]
    pub(crate) rank: u64,
    /// Projections with an adapter
    #[arg(long, value_name = "NAMES", num_args = 1.., default_value = "q_proj,k_proj,v_proj,out_proj")]
    pub(crate) targets: Vec<String>,
    /// Share of an adapter's inputs that is dropped
    #[arg(long, value_name = "X", default_value = "0.05", value_parser = values::share)]
    pub(crate) dropout: f64,
    /// Memory that the run may use, such as 8GiB [default: this machine's]
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    pub(crate) memory_budget: Option<u64>,
    /// Windows that are computed at a time [default: as many as fit]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub(crate) micro_batch: Option<u64>,
    /// Instruction set of the kernels [default: the best of this CPU]
    #[arg(long, value_name = "ISA", value_parser = isas())]
    pub(crate) variant: Option<Isa>,
}

/// A parser of names of instruction sets, which `--help` lists.
fn isas() -> impl clap::builder::TypedValueParser<Value = Isa> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(Isa::ALL.map(Isa::name)).try_map(|word| word.parse::<Isa>())
}
