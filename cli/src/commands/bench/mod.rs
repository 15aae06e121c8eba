//! `gptjc bench`: what this machine can do, and what kernels and steps make of it.

mod kernels;
mod machine;
mod model;
mod step;
mod step_report;

use crate::console::Console;
use crate::error::CliError;
use crate::flags::{BenchCommand, BenchWhat, MeasureFlags};

/// Runs the command.
pub(crate) fn run(command: &BenchCommand, console: Console) -> Result<(), CliError> {
    match &command.what {
        BenchWhat::Machine(flags) => machine::run(flags, console),
        BenchWhat::Kernels(flags) => kernels::run(flags, console),
        BenchWhat::Step(flags) => step::run(flags, console),
    }
}

/// Threads that are asked for, or one for each core.
fn threads(flags: &MeasureFlags) -> usize {
    flags.threads.unwrap_or_else(|| gptjc_runtime::machine::host().cores.max(1) as usize)
}

/// FLOP/s or bytes a second in billions.
fn giga(number: f64) -> String {
    format!("{:.1}", number / 1e9)
}
