//! A command line, from its words to its result: what `main` runs, and what `gptjc demo` runs one after the other.

use crate::argv;
use crate::commands::{self, Outcome};
use crate::console::Console;
use crate::error::CliError;
use crate::flags::{Cli, LogLevel, help};
use crate::settings;
use clap::FromArgMatches;
use std::ffi::OsString;

/// A command line that was understood.
#[derive(Debug)]
pub(crate) struct Invocation {
    cli: Cli,
    /// What the user should know about how it was read.
    warnings: Vec<String>,
}

impl Invocation {
    /// Reads `words`, the program's name first.
    ///
    /// # Errors
    /// What clap says, help and version included.
    pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let words: Vec<OsString> = words.into_iter().collect();
        let typed = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let normalised = argv::normalise(words);
        let mut program = help::command();
        let matches = program.try_get_matches_from_mut(normalised.arguments)?;
        let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut program))?;
        cli.command.remember(typed);
        Ok(Self { cli, warnings: normalised.warnings })
    }

    /// How much is to be said.
    pub(crate) fn log_level(&self) -> LogLevel {
        self.cli.log_level
    }

    /// Runs the command.
    pub(crate) fn run(mut self, console: Console) -> Result<Outcome, CliError> {
        for warning in &self.warnings {
            console.warn(warning);
        }
        if self.cli.command.runs_kernels() {
            commands::self_test::ensure(console);
        }
        settings::resolve_hub_names(&mut self.cli.command, console)?;
        commands::dispatch(&self.cli.command, console)
    }
}
