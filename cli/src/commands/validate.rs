//! `gptjc validate`: a model answers MNLI rows.

use super::compare::{self, Asked};
use super::engine::Source;
use super::output;
use super::questions::{ask, read_rows};
use crate::console::Console;
use crate::error::CliError;
use crate::flags::ValidateCommand;
use gptjc_runtime::files::atomic::write_file;
use gptjc_runtime::validate::Engine;
use gptjc_runtime::validate::compare::Comparison;
use gptjc_runtime::validate::mnli::{Options, Prediction, check_lengths, evaluate};
use gptjc_runtime::validate::questions::Questions;
use gptjc_runtime::validate::report::Report;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::IsTerminal;
use std::path::Path;

/// Runs the command, and returns what it has found.
pub(crate) fn run(command: &ValidateCommand, console: Console) -> Result<Report, CliError> {
    let path = &command.validation_file;
    let rows = read_rows(path, command.max_eval_samples, console)?;
    if let Some(path) = &command.predictions {
        check_file(path)?;
    }
    let engine = compare::tested(command);
    let source = Source::find(&engine, console)?;
    let tokenizer = source.tokenizer(&engine)?;
    let template = command.prompt_template.as_deref();
    let Questions { rows, label_tokens, label_texts } =
        ask(path, &rows, template, command.label_style, &tokenizer)?;
    let options = Options {
        mode: command.mode,
        batch_size: engine.batch_size as usize,
        max_new_tokens: command.max_new_tokens as usize,
        eos: tokenizer.eos_id(),
        label_tokens,
        label_texts,
        with_scores: command.predictions.is_some(),
    };
    let longest =
        check_lengths(&rows, &options, source.positions()).map_err(|source| failed(command, source))?;
    // What the tokenizer cannot decode is no label.
    let decode = |tokens: &[u32]| tokenizer.decode(tokens, true).unwrap_or_default();
    let asked = Asked { rows: &rows, options: &options, longest, decode: &decode };
    let (report, predictions, comparison) = match command.compare {
        Some(other) => {
            let compared = compare::run(command, other, source, &asked, console)?;
            (compared.report, compared.predictions, Some(compared.comparison))
        }
        None => {
            let model = source.open(&engine, longest, rows.len(), console)?;
            let (report, predictions) = answer(command, model, &asked)?;
            (report, predictions, None)
        }
    };
    let printed = Printed { report, comparison };
    print(&printed, command.json, console)?;
    if let Some(path) = &command.predictions {
        write_predictions(path, &predictions)?;
        console.note(&format!("wrote {} answers to {}", predictions.len(), path.display()));
    }
    Ok(printed.report)
}

/// Asks one engine.
fn answer(
    command: &ValidateCommand,
    mut engine: Box<dyn Engine>,
    asked: &Asked<'_>,
) -> Result<(Report, Vec<Prediction>), CliError> {
    let bar = rows_bar(asked.rows.len());
    let result = evaluate(engine.as_mut(), asked.rows, asked.options, asked.decode, &mut |done| {
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    result.map_err(|source| failed(command, source))
}

/// What is printed, as it is written as JSON.
#[derive(Serialize)]
struct Printed {
    #[serde(flatten)]
    report: Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
}

fn failed(command: &ValidateCommand, source: impl std::error::Error + Send + Sync + 'static) -> CliError {
    CliError::Validate { path: command.validation_file.clone(), source: source.into() }
}

/// Refuses a file that cannot be written, before the rows take their time.
fn check_file(path: &Path) -> Result<(), CliError> {
    if path.is_dir() {
        return Err(CliError::Usage {
            what: format!("--predictions `{}` is a directory", path.display()),
            advice: "name a file in it".to_owned(),
        });
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    output::check_writable(parent.unwrap_or(Path::new(".")))
}

/// A bar on a terminal, nothing elsewhere.
pub(crate) fn rows_bar(rows: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(rows as u64);
    match ProgressStyle::with_template("{pos}/{len} rows {wide_bar} {elapsed} < {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn print(printed: &Printed, json: bool, console: Console) -> Result<(), CliError> {
    if json {
        return console.json(printed);
    }
    console.line(&printed.report.to_string());
    if let Some(comparison) = &printed.comparison {
        console.line(&format!("\n{comparison}"));
    }
    Ok(())
}

fn write_predictions(path: &Path, predictions: &[Prediction]) -> Result<(), CliError> {
    write_file(path, |out| {
        for prediction in predictions {
            serde_json::to_writer(&mut *out, prediction)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    })?;
    Ok(())
}
