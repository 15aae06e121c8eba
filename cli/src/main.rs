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
mod invocation;
mod numbers;
mod report;
mod settings;
mod signals;

use console::Console;
use gptjc_runtime::data::table::panics_are_errors;
use invocation::Invocation;
use std::process::ExitCode;

fn main() -> ExitCode {
    quiet_expected_panics();
    let invocation = Invocation::parse(std::env::args_os()).unwrap_or_else(|error| {
        commands::ranks::leave_to_the_first(error.exit_code());
        error.exit()
    });
    let console = Console::new(invocation.log_level());
    match invocation.run(console) {
        Ok(outcome) => outcome.code(),
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
