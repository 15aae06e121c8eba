//! The flags of every command.
//!
//! Does: say what can be typed, what it means and what is taken when it is not given; clap parses. A flag that a plan
//! settles has no default here: whether it was typed decides whether it can contradict a plan.
//! Does not: know how flags become options; see [`crate::settings`].

mod bench;
pub(crate) mod checkpoint;
pub(crate) mod compile;
mod completions;
mod convert;
mod data;
mod demo;
mod engine;
pub(crate) mod evaluation;
mod export;
pub(crate) mod help;
pub(crate) mod inspect;
mod logging;
pub(crate) mod reference;
mod report;
mod synth;
mod synth_data;
mod train;
pub(crate) mod values;
mod when;

pub(crate) use bench::{BenchCommand, BenchWhat, KernelsFlags, MachineFlags, MeasureFlags, StepFlags};
pub(crate) use checkpoint::CheckpointFlags;
pub(crate) use compile::{CompileFlags, LoraFlags, ModelFlags, WindowFlags};
pub(crate) use completions::{CompletionsCommand, ManCommand};
pub(crate) use convert::ConvertCommand;
pub(crate) use data::{DataCommand, DataFlags};
pub(crate) use demo::DemoCommand;
pub(crate) use engine::{DoctorCommand, EngineFlags, EngineName, GenerateCommand, ValidateCommand};
pub(crate) use evaluation::EvaluationFlags;
pub(crate) use export::{CheckFlags, ExportCommand, MadeDirectory, MergeCommand};
pub(crate) use inspect::InspectCommand;
pub(crate) use logging::LoggingFlags;
pub(crate) use reference::ReferenceFlags;
pub(crate) use report::ReportCommand;
pub(crate) use synth::SynthCommand;
pub(crate) use synth_data::SynthDataCommand;
pub(crate) use train::{OutputFlags, RunFlags};
pub(crate) use when::When;

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Fine-tunes GPT-J with LoRA on CPUs: an ahead-of-time compiler and a runtime for its plans.
#[derive(Debug, Parser)]
#[command(name = "gptjc", version, max_term_width = 110, propagate_version = true)]
#[command(after_help = "Names of flags may be written with dashes or underscores.")]
pub(crate) struct Cli {
    /// How much is said on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogLevel::Passive)]
    pub(crate) log_level: LogLevel,
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How much is said besides results and errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum LogLevel {
    /// Notes and warnings
    Debug,
    /// Notes and warnings
    Info,
    /// Warnings
    Warning,
    /// Neither
    Error,
    /// Neither
    Critical,
    /// Notes and warnings
    #[default]
    Passive,
}

impl LogLevel {
    /// True if notes are shown.
    pub(crate) fn shows_notes(self) -> bool {
        matches!(self, Self::Debug | Self::Info | Self::Passive)
    }

    /// True if warnings are shown.
    pub(crate) fn shows_warnings(self) -> bool {
        self.shows_notes() || self == Self::Warning
    }
}

/// The commands; [`help`] says under which task each is listed, and has examples.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compile, train, export, validate and report, on a small model and data that come with gptjc
    Demo(DemoCommand),
    /// Make a plan from a model's config, adapters, window length, machine and memory budget; reads no weights
    Compile(Box<CompileCommand>),
    /// Run a plan on training data, and write the adapter and trainer_state.json
    Train(Box<TrainCommand>),
    /// Compile, train and, with --do-eval, evaluate: takes the flags of the reference workflow
    Finetune(Box<FinetuneCommand>),
    /// Show what becomes of data, without training: rows, lengths, windows, labels, examples
    Data(Box<DataCommand>),
    /// Ask a model about MNLI rows, under ONNX Runtime or compiled, and report its accuracy
    Validate(Box<ValidateCommand>),
    /// Continue prompts greedily, under ONNX Runtime or compiled
    Generate(Box<GenerateCommand>),
    /// Write the model, with its adapter merged into it, as an ONNX directory
    Export(Box<ExportCommand>),
    /// Merge an adapter into its model: a Hugging Face directory, and what merging and rounding changed
    Merge(Box<MergeCommand>),
    /// Convert a model to the layout that kernels read (bf16 safetensors), and show what rounding cost
    Convert(ConvertCommand),
    /// Show what a plan holds and why: graphs, steps, memory, costs, passes, time; as text, DOT, JSON or a web page
    Inspect(InspectCommand),
    /// Show what runs left: curves, evaluations, time, memory, command and machine, as one web page
    Report(ReportCommand),
    /// Show what this machine has and lacks, and fetch ONNX Runtime
    Doctor(DoctorCommand),
    /// Measure this machine, kernels, or training steps
    Bench(BenchCommand),
    /// Write a random checkpoint of any size, for measuring and testing
    Synth(SynthCommand),
    /// Write MNLI-like rows of a made-up world, with proved labels, and text and a tokenizer to pretrain a small model
    SynthData(SynthDataCommand),
    /// Print the script that completes command lines in a shell
    Completions(CompletionsCommand),
    /// Write manual pages
    #[command(hide = true)]
    Man(ManCommand),
}

impl Command {
    /// True if the command chooses or runs kernels, whose self-test must have been passed.
    pub(crate) fn runs_kernels(&self) -> bool {
        match self {
            Self::Compile(_) | Self::Train(_) | Self::Finetune(_) | Self::Merge(_) => true,
            Self::Validate(_) | Self::Generate(_) | Self::Bench(_) => true,
            Self::Export(command) => command.check.check_file.is_some(),
            Self::Data(_) | Self::Inspect(_) | Self::Report(_) => false,
            Self::Convert(_) | Self::Synth(_) | Self::SynthData(_) | Self::Doctor(_) => false,
            // Each of the demo's commands sees to it.
            Self::Demo(_) | Self::Completions(_) | Self::Man(_) => false,
        }
    }

    /// Keeps the words of the command line, if the command records them.
    pub(crate) fn remember(&mut self, typed: Vec<String>) {
        match self {
            Self::Train(command) => command.job.typed = typed,
            Self::Finetune(command) => command.job.typed = typed,
            _ => {}
        }
    }
}

/// `gptjc compile`
#[derive(Debug, Args)]
pub(crate) struct CompileCommand {
    /// Renew the plan in this file: its options are taken, except where another flag is given
    #[arg(long, value_name = "OLD.plan", help_heading = "Plan")]
    pub(crate) from: Option<PathBuf>,
    /// File to write the plan to; it appears whole or not at all
    #[arg(short, long, value_name = "FILE", help_heading = "Plan")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) compile: CompileFlags,
}

/// `gptjc train`
#[derive(Debug, Args)]
pub(crate) struct TrainCommand {
    /// Plan to run; without one, compile first. A flag that contradicts the plan is an error
    #[arg(long, value_name = "FILE", help_heading = "Plan")]
    pub(crate) plan: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) job: JobFlags,
}

/// `gptjc finetune`
#[derive(Debug, Args)]
pub(crate) struct FinetuneCommand {
    #[command(flatten)]
    pub(crate) job: JobFlags,
}

/// What `train` and `finetune` take.
#[derive(Debug, Args)]
pub(crate) struct JobFlags {
    #[command(flatten)]
    pub(crate) compile: CompileFlags,
    #[command(flatten)]
    pub(crate) data: DataFlags,
    #[command(flatten)]
    pub(crate) run: RunFlags,
    #[command(flatten)]
    pub(crate) evaluation: EvaluationFlags,
    #[command(flatten)]
    pub(crate) logging: LoggingFlags,
    #[command(flatten)]
    pub(crate) checkpoint: CheckpointFlags,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
    #[command(flatten)]
    pub(crate) reference: ReferenceFlags,
    /// The words of the command line, for the record of the run.
    #[arg(skip)]
    pub(crate) typed: Vec<String>,
}

#[cfg(test)]
mod tests;
