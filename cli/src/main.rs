//! gptjc: fine-tunes GPT-J with LoRA on CPUs.
//!
//! Does: parse flags, call the libraries, show progress, print errors with what to do about them, and give exit codes:
//! 0 for done, 1 for an error, 2 for a command line that cannot be read, 75 for a run that a signal stopped after it saved
//! a checkpoint.
//! Does not: compute or decide anything itself.
#![forbid(unsafe_code)]

mod argv;
mod commands;
mod console;
mod error;
mod flags;
mod html;
mod inspect;
mod numbers;
mod report;
mod settings;
mod signals;

use clap::Parser;
use console::Console;
use error::CliError;
use flags::{Cli, Command};
use gptjc_runtime::data::table::panics_are_errors;
use std::process::ExitCode;

fn main() -> ExitCode {
    quiet_expected_panics();
    let typed = argv::normalise(std::env::args_os());
    let mut cli = Cli::try_parse_from(typed.arguments).unwrap_or_else(|error| error.exit());
    let console = Console::new(cli.log_level);
    for warning in &typed.warnings {
        console.warn(warning);
    }
    if cli.command.runs_kernels() {
        commands::self_test::ensure(console);
    }
    let result =
        settings::resolve_hub_names(&mut cli.command, console).and_then(|()| run(&cli.command, console));
    match result {
        Ok(code) => code,
        Err(error) => {
            console::error(&error::report(&error));
            ExitCode::FAILURE
        }
    }
}

/// A panic that becomes an error is not printed besides.
fn quiet_expected_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panics_are_errors() {
            print(panic);
        }
    }));
}

fn run(command: &Command, console: Console) -> Result<ExitCode, CliError> {
    let done = |()| ExitCode::SUCCESS;
    match command {
        Command::Compile(command) => commands::compile::run(command, console).map(done),
        Command::Train(command) => commands::train::run(&command.job, command.plan.as_deref(), console),
        Command::Finetune(command) => commands::train::run(&command.job, None, console),
        Command::Data(command) => commands::data::survey::run(command, console).map(done),
        Command::Export(command) => commands::export::run(command, console).map(done),
        Command::Merge(command) => commands::merge::run(command, console).map(done),
        Command::Inspect(command) => commands::inspect::run(command, console).map(done),
        Command::Report(command) => commands::report::run(command, console).map(done),
        Command::Validate(command) => commands::validate::run(command, console).map(done),
        Command::Generate(command) => commands::generate::run(command, console).map(done),
        Command::Convert(command) => commands::convert::run(command, console).map(done),
        Command::Synth(command) => commands::synth::run(command, console).map(done),
        Command::SynthData(command) => commands::synth_data::run(command, console).map(done),
        Command::Bench(command) => commands::bench::run(command, console).map(done),
        Command::Doctor(command) => commands::doctor::run(command, console).map(done),
    }
}
