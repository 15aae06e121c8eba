//! Everything that gptjc prints goes through here.
//!
//! Results go to standard output, notes and warnings to standard error, so that output can be piped. A reader that
//! goes away (`gptjc inspect … | head`) ends the output, not the program.

use crate::error::CliError;
use crate::flags::LogLevel;
use serde::Serialize;
use std::io::{self, Write};

/// Where messages go, and how many of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Console {
    level: LogLevel,
    /// Whether only the gist is shown.
    is_calm: bool,
    /// Whether nothing is shown: another rank shows it.
    is_silent: bool,
}

impl Console {
    /// A console that shows what `level` asks for.
    pub(crate) fn new(level: LogLevel) -> Self {
        Self { level, is_calm: false, is_silent: false }
    }

    /// A console for a command among others: of results only the first paragraph, indented, and no notes.
    pub(crate) fn calm(self) -> Self {
        Self { is_calm: true, ..self }
    }

    /// A console for a rank that is not the first.
    pub(crate) fn silent(self) -> Self {
        Self { is_silent: true, ..self }
    }

    /// A line of what the command was asked for.
    pub(crate) fn line(self, text: &str) {
        if self.is_silent {
            return;
        }
        match self.is_calm {
            true => write_all(io::stdout().lock(), &gist(text)),
            false => write_all(io::stdout().lock(), text),
        }
    }

    /// A result as indented JSON.
    pub(crate) fn json(self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value).map_err(|source| CliError::Json(source.into()))?;
        self.line(&text);
        Ok(())
    }

    /// Something that holds and is worth knowing.
    pub(crate) fn note(self, text: &str) {
        if self.level.shows_notes() && !self.is_calm && !self.is_silent {
            write_all(io::stderr().lock(), &format!("note: {text}"));
        }
    }

    /// Something that is not as the user may expect.
    pub(crate) fn warn(self, text: &str) {
        if self.level.shows_warnings() && !self.is_silent {
            write_all(io::stderr().lock(), &format!("warning: {text}"));
        }
    }
}

/// The first paragraph of `text`, indented.
fn gist(text: &str) -> String {
    let lines = text.trim_start_matches('\n').lines().take_while(|line| !line.is_empty());
    lines.map(|line| format!("  {line}\n")).collect()
}

/// An error with its causes and what to do; whatever the log level.
pub(crate) fn error(report: &str) {
    write_all(io::stderr().lock(), report);
}

/// There is nobody left to tell when a stream cannot be written, so that is no error.
fn write_all(mut stream: impl Write, text: &str) {
    let _ = stream.write_all(text.as_bytes()).and_then(|()| match text.ends_with('\n') {
        true => Ok(()),
        false => stream.write_all(b"\n"),
    });
    let _ = stream.flush();
}

#[cfg(test)]
mod tests {
    use super::gist;

    #[test]
    fn the_gist_is_the_first_paragraph() {
        assert_eq!(gist("accuracy 1\nrows 2\n\ntable\n"), "  accuracy 1\n  rows 2\n");
        assert_eq!(gist("\nlast"), "  last\n");
        assert_eq!(gist(""), "");
    }
}
