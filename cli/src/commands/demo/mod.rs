//! `gptjc demo`: the whole way of a model, from its plan to a validated export, on a small model that comes with the
//! program and on data of a made-up world.
//!
//! Does: write the model down, then say and run the very command lines that a user would type, and sum up what they left.
//! Does not: anything that the commands do not do; each stage is a command line, read and run like any other.

mod lines;
mod model;
mod summary;

use super::Outcome;
use crate::console::Console;
use crate::error::CliError;
use crate::flags::DemoCommand;
use crate::invocation::Invocation;
use gptjc_runtime::bench::step::reset_peak_memory;
use gptjc_runtime::files::FileError;
use gptjc_runtime::validate::library::{Surroundings, load};
use gptjc_runtime::validate::report::Report;
use lines::{Line, Names};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use summary::{Accuracies, Summary};

/// Directory that is made if none is given.
const DIRECTORY: &str = "gptjc-demo";

/// Runs the command.
pub(crate) fn run(command: &DemoCommand, console: Console) -> Result<Outcome, CliError> {
    let directory = match &command.output_dir {
        Some(directory) => checked(directory)?,
        None => first_free(DIRECTORY),
    };
    fs::create_dir_all(&directory)
        .map_err(|source| FileError::new("create the directory", &directory, source))?;
    let names = Names::demo(&directory, command.quick);
    Demo { names, console, stage: 0, begun: Instant::now() }.run()
}

/// `directory`, unless it holds something.
fn checked(directory: &Path) -> Result<PathBuf, CliError> {
    if directory.exists() && !directory.is_dir() {
        return Err(CliError::OutputNotDirectory { path: directory.to_owned() });
    }
    let is_empty = fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none());
    match is_empty {
        true => Ok(directory.to_owned()),
        false => Err(CliError::Usage {
            what: format!("the output directory `{}` is not empty", directory.display()),
            advice: "give another --output-dir, or remove that one".to_owned(),
        }),
    }
}

/// `name`, or `name-2`, `name-3` and so on: the first that is not there.
fn first_free(name: &str) -> PathBuf {
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut free = std::iter::once(name.to_owned()).chain(numbered).map(PathBuf::from);
    free.find(|path| !path.exists()).unwrap_or_else(|| name.into())
}

/// A demo that goes on.
struct Demo {
    names: Names,
    console: Console,
    /// Stages done.
    stage: usize,
    begun: Instant,
}

impl Demo {
    fn run(mut self) -> Result<Outcome, CliError> {
        let console = self.console;
        console.line(&format!(
            "gptjc demo: fine-tunes a small GPT-J with LoRA, and checks what comes out. All files go to {}/.",
            self.names.directory.display()
        ));
        self.heading("A small GPT-J, which comes with gptjc");
        console.line(&format!("  {}", model::write(&self.names.path("model"))?));
        self.command("Rows like MultiNLI's, of a made-up world", Line::SynthData)?;
        self.command("The plan: every step, every byte of memory", Line::Compile)?;
        let before = self.answers("Before training: what the model answers", Line::ValidateBefore)?;
        // What came before would count as the run's own.
        reset_peak_memory();
        self.heading("Training: LoRA on all linear layers");
        if matches!(self.execute(Line::Train)?, Outcome::Stopped) {
            return Ok(Outcome::Stopped);
        }
        let after = self.answers("After training: the model with its adapter", Line::ValidateAfter)?;
        self.command("Export: the adapter merged, as ONNX", Line::Export)?;
        let onnx = self.onnx()?;
        self.command("The run as a page for a browser", Line::Report)?;
        let accuracies = Accuracies { native: [before, after], onnx };
        let seconds = self.begun.elapsed().as_secs_f64();
        let text = Summary { names: &self.names, accuracies, seconds }.text()?;
        console.line(&text);
        Ok(Outcome::Done)
    }

    /// What the exports of the model before and after answer under ONNX Runtime; none without one.
    fn onnx(&mut self) -> Result<Option<[Report; 2]>, CliError> {
        self.heading("The export under ONNX Runtime, beside the model before training");
        if let Err(reason) = self.find_onnxruntime() {
            self.console.line(&format!("  skipped: there is no ONNX Runtime here, and {reason}"));
            return Ok(None);
        }
        let after = self.answer(Line::ValidateOnnx)?;
        self.execute(Line::ExportBefore)?;
        let before = self.answer(Line::ValidateOnnxBefore)?;
        Ok(Some([before, after]))
    }

    /// Looks for the library, and fetches it if it is nowhere; or one line that says why it cannot be had.
    fn find_onnxruntime(&self) -> Result<(), String> {
        if load(&Surroundings::of_process()).is_ok() {
            return Ok(());
        }
        self.say(Line::Fetch);
        let fetched = super::doctor::fetch_library(self.console.calm());
        fetched.map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            let first = cause.lines().next().unwrap_or_default().split("; ").next().unwrap_or_default();
            format!("it cannot be fetched: {first}")
        })
    }

    fn heading(&mut self, title: &str) {
        self.stage += 1;
        self.console.line(&format!("\n{}. {title}", self.stage));
    }

    fn say(&self, line: Line) {
        self.console.line(&format!("  $ {}", line.text(&self.names)));
    }

    /// Says a line, reads it and runs it.
    fn execute(&self, line: Line) -> Result<Outcome, CliError> {
        self.say(line);
        let words = line.words(&self.names).into_iter().map(OsString::from);
        let read = Invocation::parse(words).map_err(|source| CliError::DemoLine(source.into()))?;
        read.run(self.console.calm())
    }

    /// A stage of one line.
    fn command(&mut self, title: &str, line: Line) -> Result<(), CliError> {
        self.heading(title);
        self.execute(line).map(drop)
    }

    /// A stage of one line that asks a model.
    fn answers(&mut self, title: &str, line: Line) -> Result<Report, CliError> {
        self.heading(title);
        self.answer(line)
    }

    fn answer(&self, line: Line) -> Result<Report, CliError> {
        match self.execute(line)? {
            Outcome::Answered(report) => Ok(*report),
            Outcome::Done | Outcome::Stopped => Err(CliError::DemoLine("it gives no answers".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_holds_something_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(checked(path).unwrap(), path);
        assert_eq!(checked(&path.join("new")).unwrap(), path.join("new"));
        fs::write(path.join("kept"), "kept").unwrap();
        assert!(matches!(checked(path), Err(CliError::Usage { .. })));
        assert!(matches!(checked(&path.join("kept")), Err(CliError::OutputNotDirectory { .. })));
        let name = path.join("demo");
        let name = name.to_str().unwrap();
        assert_eq!(first_free(name), Path::new(name));
        fs::create_dir(name).unwrap();
        assert_eq!(first_free(name), PathBuf::from(format!("{name}-2")));
    }
}
