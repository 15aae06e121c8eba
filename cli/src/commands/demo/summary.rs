//! What the demo found, in a table; where its files are; the same for one's own data.

use super::lines::{Line, Names};
use crate::error::CliError;
use crate::numbers::{bytes, percent, seconds, thousands};
use gptjc_runtime::record::{Collected, RunRecord};
use gptjc_runtime::validate::report::Report;
use std::fmt::{self, Write};

/// What a model answered before and after training.
pub(super) struct Accuracies {
    /// Compiled by gptjc.
    pub(super) native: [Report; 2],
    /// Under ONNX Runtime, if there is one.
    pub(super) onnx: Option<[Report; 2]>,
}

/// All that is summed up.
pub(super) struct Summary<'a> {
    pub(super) names: &'a Names,
    pub(super) accuracies: Accuracies,
    /// Of the whole demo.
    pub(super) seconds: f64,
}

/// The lines for one's own data, each with what it does.
const OWN: [(Line, &str); 6] = [
    (Line::Compile, "reads config.json only"),
    (Line::Train, "writes the adapter as PEFT reads it"),
    (Line::ValidateAfter, "asks the model with its adapter"),
    (Line::Export, "merges the adapter and writes ONNX"),
    (Line::ValidateOnnx, "asks the export under ONNX Runtime"),
    (Line::Report, "makes a page of the run"),
];

impl Summary<'_> {
    /// The text, ready to print.
    pub(super) fn text(&self) -> Result<String, CliError> {
        let run =
            Collected::load(&self.names.path("run")).map_err(|source| CliError::Report(source.into()))?;
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(run.record.as_ref(), &mut text);
        Ok(text)
    }

    fn write(&self, run: Option<&RunRecord>, out: &mut String) -> fmt::Result {
        let [before, _] = &self.accuracies.native;
        writeln!(out, "\nDone in {}.\n", seconds(self.seconds))?;
        writeln!(out, "{:<28}{:>12}{:>12}", "accuracy", "before", "after")?;
        accuracy(out, "gptjc, compiled", Some(&self.accuracies.native))?;
        accuracy(out, "ONNX Runtime", self.accuracies.onnx.as_ref())?;
        writeln!(out, "of {} rows, of words and sentence forms that training has not shown", before.counted)?;
        if let Some(run) = run {
            write_run(out, run)?;
        }
        self.write_files(out)?;
        self.write_own(out)
    }

    fn write_files(&self, out: &mut String) -> fmt::Result {
        let mut files = vec![
            ("run/report.html", "the run, as a page for a browser"),
            ("run/adapter_model.safetensors", "the adapter, as PEFT reads it"),
            ("demo.plan", "the plan; `gptjc inspect` shows it"),
            ("onnx/model.onnx", "the fine-tuned model, as ONNX"),
        ];
        files.retain(|(name, _)| self.names.path(name).exists());
        writeln!(out, "\nfiles")?;
        files.iter().try_for_each(|(name, what)| {
            writeln!(out, "  {:<44}  {what}", self.names.path(name).display().to_string())
        })
    }

    fn write_own(&self, out: &mut String) -> fmt::Result {
        let program = std::env::current_exe().map(|path| path.display().to_string());
        writeln!(
            out,
            "\nThe same for your own data. MODEL is a GPT-J's directory, or its name in the Hugging Face cache, such as \
             EleutherAI/gpt-j-6b;\nrows have a premise, a hypothesis and a label, or a prompt and a completion. `gptjc` is {}.\n",
            program.as_deref().unwrap_or("this program")
        )?;
        let own = Names::own();
        OWN.iter().try_for_each(|(line, what)| writeln!(out, "  # {what}\n  {}", line.text(&own)))
    }
}

/// A row of the table.
fn accuracy(out: &mut String, engine: &str, reports: Option<&[Report; 2]>) -> fmt::Result {
    let share = |report: &Report| report.accuracy.map_or_else(|| "none".to_owned(), percent);
    match reports {
        Some([before, after]) => writeln!(out, "  {engine:<26}{:>12}{:>12}", share(before), share(after)),
        None => writeln!(out, "  {engine:<26}{:>12}{:>12}", "not here", "not here"),
    }
}

/// Rates and memory of training.
fn write_run(out: &mut String, run: &RunRecord) -> fmt::Result {
    let Some(session) = run.sessions.last() else { return Ok(()) };
    let rate = session.tokens as f64 / session.step_seconds.max(1e-9);
    let predicted = run.facts.plan.peak_bytes;
    writeln!(
        out,
        "\ntraining     {} steps, {} tokens/s on {} threads ({})",
        session.last_step - session.first_step.min(session.last_step),
        thousands(rate.round() as u64),
        run.facts.machine.threads,
        run.facts.machine.isa
    )?;
    let measured = session.peak_bytes.map_or_else(|| "not known".to_owned(), bytes);
    writeln!(out, "peak memory  {} predicted, {measured} measured", bytes(predicted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gptjc_runtime::record::Session;

    #[test]
    fn rates_and_memory_are_those_of_the_record() {
        let mut run = RunRecord::default();
        run.facts.plan.peak_bytes = 64 << 20;
        (run.facts.machine.threads, run.facts.machine.isa) = (2, "avx2".to_owned());
        let session = Session { last_step: 30, tokens: 3_000, step_seconds: 2.0, ..Session::default() };
        run.sessions = vec![Session { peak_bytes: Some(60 << 20), ..session }];
        let mut text = String::new();
        write_run(&mut text, &run).unwrap();
        assert!(text.contains("30 steps, 1,500 tokens/s on 2 threads (avx2)"), "{text}");
        assert!(text.contains("64.00 MiB predicted, 60.00 MiB measured"), "{text}");
    }
}
