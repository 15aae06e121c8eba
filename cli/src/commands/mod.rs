//! One module a command: flags in, calls to the libraries, what they say out.

mod bench;
mod byte_progress;
mod compare;
mod compile;
mod completions;
mod convert;
mod data;
mod demo;
mod doctor;
mod engine;
mod evaluation;
mod export;
mod generate;
mod inspect;
mod large_model;
mod merge;
mod model;
mod output;
mod progress;
mod questions;
pub(crate) mod ranks;
mod report;
mod run;
mod run_facts;
pub(crate) mod self_test;
mod synth;
mod synth_data;
mod train;
mod validate;
mod variants;
mod weights;

use crate::console::Console;
use crate::error::CliError;
use crate::flags::Command;
use gptjc_runtime::validate::report::Report;
use std::process::ExitCode;

/// Exit code of a run that a signal stopped and that can be resumed: EX_TEMPFAIL of sysexits.h, "try again later".
const STOPPED: u8 = 75;

/// How a command ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// All is done.
    Done,
    /// All is done, and a model has answered rows.
    Answered(Box<Report>),
    /// A signal stopped it, and it can go on from where it was.
    Stopped,
}

impl Outcome {
    /// The exit code.
    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Self::Done | Self::Answered(_) => ExitCode::SUCCESS,
            Self::Stopped => ExitCode::from(STOPPED),
        }
    }
}

/// Runs a command.
pub(crate) fn dispatch(command: &Command, console: Console) -> Result<Outcome, CliError> {
    let done = |()| Outcome::Done;
    match command {
        Command::Demo(command) => demo::run(command, console),
        Command::Compile(command) => compile::run(command, console).map(done),
        Command::Train(command) => train::run(&command.job, command.plan.as_deref(), console),
        Command::Finetune(command) => train::run(&command.job, None, console),
        Command::Data(command) => data::survey::run(command, console).map(done),
        Command::Export(command) => export::run(command, console).map(done),
        Command::Merge(command) => merge::run(command, console).map(done),
        Command::Inspect(command) => inspect::run(command, console).map(done),
        Command::Report(command) => report::run(command, console).map(done),
        Command::Validate(command) => {
            validate::run(command, console).map(|report| Outcome::Answered(Box::new(report)))
        }
        Command::Generate(command) => generate::run(command, console).map(done),
        Command::Convert(command) => convert::run(command, console).map(done),
        Command::Synth(command) => synth::run(command, console).map(done),
        Command::SynthData(command) => synth_data::run(command, console).map(done),
        Command::Bench(command) => bench::run(command, console).map(done),
        Command::Doctor(command) => doctor::run(command, console).map(done),
        Command::Completions(command) => completions::run(command, console).map(done),
        Command::Man(command) => completions::manual(command, console).map(done),
    }
}
