//! Rows of text as token ids and labels.
//!
//! Does: write each row by the template, encode prompt and answer as one text, and mask the prompt's tokens out of
//! the loss unless asked otherwise; on as many threads as given, in the rows' order whatever their number.
//!
//! Does not: cut to a length or put examples together; [`super::packing`] does.

use super::mnli::MnliRow;
use super::prompt::{LabelStyle, PromptTemplate};
use super::tokenizer::{GptJTokenizer, TokenizerError};
use std::num::NonZeroUsize;
use thiserror::Error;

/// Token ids of one example and, aligned with them, labels as in Hugging Face: `None` (there: -100) = not in the loss.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Label of each id: the id itself, or `None`. Not shifted yet.
    pub labels: Vec<Option<u32>>,
}

/// How rows become examples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExampleOptions {
    /// Prompt and target.
    pub template: PromptTemplate,
    /// How the label is written.
    pub label_style: LabelStyle,
    /// True to have the prompt's tokens in the loss too.
    pub train_on_inputs: bool,
}

/// Why rows gave no examples.
#[derive(Debug, Error)]
pub enum ExampleError {
    /// A row to train on has no label; reading with [`super::mnli::Purpose::Training`] skips those.
    #[error("the row of line {line} has no label to train on")]
    NoLabel {
        /// The row's line.
        line: u64,
    },
    /// The tokenizer failed.
    #[error("the row of line {line}")]
    Tokenizer {
        /// The row's line.
        line: u64,
        /// Why.
        source: TokenizerError,
    },
}

/// Tokenizes `rows`, in order, on at most `threads` threads.
///
/// A token belongs to the prompt if it begins there. With the reference template that is where the reference
/// workflow cuts (it counts the tokens of the prompt alone), because no token spans `:` and a space.
///
/// # Errors
/// The first row's error in the rows' order of each thread; see [`ExampleError`].
pub fn tokenize_rows(
    rows: &[MnliRow],
    options: &ExampleOptions,
    tokenizer: &GptJTokenizer,
    threads: NonZeroUsize,
) -> Result<Vec<Example>, ExampleError> {
    let tokenize = |chunk: &[MnliRow]| -> Result<Vec<Example>, ExampleError> {
        chunk.iter().map(|row| tokenize_row(row, options, tokenizer)).collect()
    };
    let chunk_length = rows.len().div_ceil(threads.get()).max(1);
    let results: Vec<_> = std::thread::scope(|scope| {
        let spawn = |chunk| scope.spawn(move || tokenize(chunk));
        let workers: Vec<_> = rows.chunks(chunk_length).map(spawn).collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, _>| match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        workers.into_iter().map(join).collect()
    });
    let mut examples = Vec::with_capacity(rows.len());
    for result in results {
        examples.append(&mut result?);
    }
    Ok(examples)
}

/// Tokenizes one row; see [`tokenize_rows`].
///
/// # Errors
/// See [`ExampleError`].
pub fn tokenize_row(
    row: &MnliRow,
    options: &ExampleOptions,
    tokenizer: &GptJTokenizer,
) -> Result<Example, ExampleError> {
    let label = row.label.ok_or(ExampleError::NoLabel { line: row.line })?;
    let mut text = options.template.prompt(row);
    let boundary = text.len();
    text.push_str(&options.template.target(label, options.label_style));
    let encoded = tokenizer.encode_with_boundary(&text, boundary);
    let (ids, prompt) = encoded.map_err(|source| ExampleError::Tokenizer { line: row.line, source })?;
    let masked = if options.train_on_inputs { 0 } else { prompt };
    let labels = ids.iter().enumerate().map(|(index, &id)| (index >= masked).then_some(id)).collect();
    Ok(Example { ids, labels })
}
