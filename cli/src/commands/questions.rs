//! Rows of a file as questions: what `validate` asks, and what `export` is checked with.

use crate::console::Console;
use crate::error::CliError;
use gptjc_runtime::data::mnli::{MnliRow, Purpose, read_file};
use gptjc_runtime::data::prompt::LabelStyle;
use gptjc_runtime::data::tokenizer::GptJTokenizer;
use gptjc_runtime::validate::mnli::{Mode, Options};
use gptjc_runtime::validate::questions::{Questions, questions};
use std::path::Path;

/// The first rows of `path`, at most `most` of them.
pub(crate) fn read_rows(path: &Path, most: Option<u64>, console: Console) -> Result<Vec<MnliRow>, CliError> {
    let read = read_file(path, Purpose::Validation)
        .map_err(|source| CliError::Rows { path: path.to_owned(), source: source.into() })?;
    if read.skipped.blank_lines > 0 {
        console.note(&format!("{}: skipped {} blank lines", path.display(), read.skipped.blank_lines));
    }
    let mut rows = read.rows;
    rows.truncate(most.map_or(usize::MAX, |rows| rows as usize));
    Ok(rows)
}

/// `rows` of `path` as questions.
pub(crate) fn ask(
    path: &Path,
    rows: &[MnliRow],
    template: Option<&str>,
    style: LabelStyle,
    tokenizer: &GptJTokenizer,
) -> Result<Questions, CliError> {
    let template = match template {
        Some(template) => template.parse().map_err(|source| CliError::Template(Box::new(source)))?,
        None => Default::default(),
    };
    questions(rows, &template, style, tokenizer)
        .map_err(|source| CliError::Examples { path: path.to_owned(), source: source.into() })
}

/// Options that answer by the scores of the labels, which takes no generated token.
pub(crate) fn by_scores(questions: &Questions, batch_size: usize, eos: u32) -> Options {
    Options {
        mode: Mode::Score,
        batch_size,
        max_new_tokens: 0,
        eos,
        label_tokens: questions.label_tokens.clone(),
        label_texts: questions.label_texts.clone(),
        with_scores: false,
    }
}
