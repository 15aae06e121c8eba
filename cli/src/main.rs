//! gptjc: fine-tunes GPT-J with LoRA on CPUs.
//!
//! Does: parse flags, call the libraries, show progress, print errors with what to do about them, and give exit codes:
//! 0 for done, 1 for an error, 2 for a command line that cannot be read.
//! Does not: compute or decide anything itself.
#![forbid(unsafe_code)]

mod argv;
mod commands;
mod console;
mod error;
mod flags;
mod inspect;
mod settings;

use clap::Parser;
use console::Console;
use flags::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let typed = argv::normalise(std::env::args_os());
    let cli = Cli::try_parse_from(typed.arguments).unwrap_or_else(|error| error.exit());
    let console = Console::new(cli.log_level);
    for warning in &typed.warnings {
        console.warn(warning);
    }
    if cli.command.runs_kernels() {
        commands::self_test::ensure(console);
    }
    let result = match &cli.command {
        Command::Compile(command) => commands::compile::run(command, console),
        Command::Train(command) => commands::train::run(&command.job, command.plan.as_deref(), console),
        Command::Finetune(command) => commands::train::run(&command.job, None, console),
        Command::Export(command) => commands::export::run(command, console),
        Command::Merge(command) => commands::merge::run(command, console),
        Command::Inspect(command) => commands::inspect::run(command, console),
        Command::Validate(command) => commands::validate::run(command, console),
        Command::Generate(command) => commands::generate::run(command, console),
        Command::Synth(command) => commands::synth::run(command, console),
        Command::SynthData(command) => commands::synth_data::run(command, console),
        Command::Bench(command) => commands::bench::run(command, console),
        Command::Doctor(command) => commands::doctor::run(command, console),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::error(&error::report(&error));
            ExitCode::FAILURE
        }
    }
}
