//! `gptjc validate`: a model answers MNLI rows.

use super::engine::Source;
use super::output;
use crate::console::Console;
use crate::error::CliError;
use crate::flags::ValidateCommand;
use gptjc_runtime::data::mnli::{MnliRow, Purpose, read_file};
use gptjc_runtime::data::tokenizer::GptJTokenizer;
use gptjc_runtime::files::atomic::write_file;
use gptjc_runtime::validate::mnli::{Options, Prediction, check_lengths, evaluate};
use gptjc_runtime::validate::questions::{Questions, questions};
use gptjc_runtime::validate::report::Report;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::Path;

/// Runs the command.
pub(crate) fn run(command: &ValidateCommand, console: Console) -> Result<(), CliError> {
    let rows = rows(command, console)?;
    if let Some(path) = &command.predictions {
        check_file(path)?;
    }
    let source = Source::find(&command.engine, console)?;
    let tokenizer = source.tokenizer(&command.engine)?;
    let Questions { rows, label_tokens, label_texts } = ask(command, &rows, &tokenizer)?;
    let options = Options {
        mode: command.mode,
        batch_size: command.engine.batch_size as usize,
        max_new_tokens: command.max_new_tokens as usize,
        eos: tokenizer.eos_id(),
        label_tokens,
        label_texts,
        with_scores: command.predictions.is_some(),
    };
    let longest =
        check_lengths(&rows, &options, source.positions()).map_err(|source| failed(command, source))?;
    let mut engine = source.open(&command.engine, longest, rows.len(), console)?;
    let bar = bar(rows.len());
    // What the tokenizer cannot decode is no label.
    let decode = |tokens: &[u32]| tokenizer.decode(tokens, true).unwrap_or_default();
    let result =
        evaluate(engine.as_mut(), &rows, &options, &decode, &mut |done| bar.set_position(done as u64));
    bar.finish_and_clear();
    let (report, predictions) = result.map_err(|source| failed(command, source))?;
    print(&report, command.json, console)?;
    if let Some(path) = &command.predictions {
        write_predictions(path, &predictions)?;
        console.note(&format!("wrote {} answers to {}", predictions.len(), path.display()));
    }
    Ok(())
}

fn failed(command: &ValidateCommand, source: impl std::error::Error + Send + Sync + 'static) -> CliError {
    CliError::Validate { path: command.validation_file.clone(), source: source.into() }
}

fn rows(command: &ValidateCommand, console: Console) -> Result<Vec<MnliRow>, CliError> {
    let path = &command.validation_file;
    let read = read_file(path, Purpose::Validation)
        .map_err(|source| CliError::Rows { path: path.clone(), source: source.into() })?;
    if read.skipped.blank_lines > 0 {
        console.note(&format!("{}: skipped {} blank lines", path.display(), read.skipped.blank_lines));
    }
    let mut rows = read.rows;
    rows.truncate(command.max_eval_samples.map_or(usize::MAX, |rows| rows as usize));
    Ok(rows)
}

fn ask(
    command: &ValidateCommand,
    rows: &[MnliRow],
    tokenizer: &GptJTokenizer,
) -> Result<Questions, CliError> {
    let template = match &command.prompt_template {
        Some(template) => template.parse().map_err(|source| CliError::Template(Box::new(source)))?,
        None => Default::default(),
    };
    questions(rows, &template, command.label_style, tokenizer)
        .map_err(|source| CliError::Examples { path: command.validation_file.clone(), source: source.into() })
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
fn bar(rows: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(rows as u64);
    match ProgressStyle::with_template("{pos}/{len} rows {wide_bar} {elapsed} < {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn print(report: &Report, json: bool, console: Console) -> Result<(), CliError> {
    if json {
        console.json(report)
    } else {
        console.line(&report.to_string());
        Ok(())
    }
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
