//! Rows of text as token ids and labels.
//!
//! Does: write each row as one text, encode it, and say which tokens are learned:
//!
//! | rows | text | learned |
//! | --- | --- | --- |
//! | MNLI | prompt and answer, by the template | the answer |
//! | prompt and completion | the two as they stand, then the end of text | completion and end of text |
//! | documents | as they stand, then the end of text | everything |
//!
//! `train_on_inputs` has prompts learned too. Work is shared out to as many threads as given; examples come in the rows'
//! order whatever their number.
//!
//! Does not: cut to a length or put examples together; [`super::packing`] does.

use super::completion::Completion;
use super::document::Document;
use super::mnli::MnliRow;
use super::prompt::{LabelStyle, PromptTemplate};
use super::rows::Rows;
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

impl Example {
    /// An example of which all ids but the first `masked` are learned.
    fn new(ids: Vec<u32>, masked: usize) -> Self {
        let labels = ids.iter().enumerate().map(|(index, &id)| (index >= masked).then_some(id)).collect();
        Self { ids, labels }
    }
}

/// How rows become examples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExampleOptions {
    /// Prompt and target of an MNLI row.
    pub template: PromptTemplate,
    /// How an MNLI label is written.
    pub label_style: LabelStyle,
    /// True to have the prompt's tokens in the loss too.
    pub train_on_inputs: bool,
}

/// Why rows gave no examples. A line is the row's number if the file has no lines.
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

/// Tokenizes rows of any kind, in order, on at most `threads` threads.
///
/// # Errors
/// See [`ExampleError`].
pub fn tokenize(
    rows: &Rows,
    options: &ExampleOptions,
    tokenizer: &GptJTokenizer,
    threads: NonZeroUsize,
) -> Result<Vec<Example>, ExampleError> {
    match rows {
        Rows::Mnli(rows) => tokenize_rows(rows, options, tokenizer, threads),
        Rows::Completions(rows) => {
            in_parallel(rows, threads, |row| tokenize_completion(row, options, tokenizer))
        }
        Rows::Documents(documents) => tokenize_documents(documents, tokenizer, threads),
    }
}

/// Tokenizes MNLI `rows`, in order, on at most `threads` threads.
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
    in_parallel(rows, threads, |row| tokenize_row(row, options, tokenizer))
}

/// Tokenizes one MNLI row; see [`tokenize_rows`].
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
    Ok(Example::new(ids, if options.train_on_inputs { 0 } else { prompt }))
}

fn tokenize_completion(
    row: &Completion,
    options: &ExampleOptions,
    tokenizer: &GptJTokenizer,
) -> Result<Example, ExampleError> {
    let text = format!("{}{}", row.prompt, row.completion);
    let encoded = tokenizer.encode_with_boundary(&text, row.prompt.len());
    let (mut ids, prompt) = encoded.map_err(|source| ExampleError::Tokenizer { line: row.line, source })?;
    end_text(&mut ids, tokenizer);
    Ok(Example::new(ids, if options.train_on_inputs { 0 } else { prompt }))
}

/// Documents are tokenized in pieces, so that a long one keeps all threads busy and little memory.
fn tokenize_documents(
    documents: &[Document],
    tokenizer: &GptJTokenizer,
    threads: NonZeroUsize,
) -> Result<Vec<Example>, ExampleError> {
    let mut parts = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        parts.extend(pieces(&document.text).map(|piece| (index, piece)));
    }
    let encoded = in_parallel(&parts, threads, |&(index, piece)| {
        let line = documents[index].line;
        tokenizer.encode(piece).map_err(|source| ExampleError::Tokenizer { line, source })
    })?;
    let mut texts: Vec<Vec<u32>> = vec![Vec::new(); documents.len()];
    for (&(index, _), ids) in parts.iter().zip(encoded) {
        texts[index].extend(ids);
    }
    let example = |mut ids: Vec<u32>| {
        end_text(&mut ids, tokenizer);
        Example::new(ids, 0)
    };
    Ok(texts.into_iter().map(example).collect())
}

/// Appends the end of text, unless it is there.
fn end_text(ids: &mut Vec<u32>, tokenizer: &GptJTokenizer) {
    if ids.last() != Some(&tokenizer.eos_id()) {
        ids.push(tokenizer.eos_id());
    }
}

/// Bytes of a piece at least.
const PIECE: usize = 64 << 10;

/// Cuts `text` where that changes no token: after a line feed with no white space beside it. GPT-2's splitting of a text
/// into words makes such a line feed a word of its own.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let bytes = rest.as_bytes();
        // Bytes of characters beyond ASCII may be white space too.
        let is_word = |byte: u8| byte.is_ascii_graphic();
        let cut = (PIECE..bytes.len())
            .find(|&at| bytes[at - 1] == b'\n' && is_word(bytes[at - 2]) && is_word(bytes[at]));
        let (piece, after) = rest.split_at(cut.unwrap_or(bytes.len()));
        rest = after;
        Some(piece)
    })
}

/// `make` of every item, in order; `threads` take an equal share of the items each.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    threads: NonZeroUsize,
    make: impl Fn(&T) -> Result<R, ExampleError> + Sync,
) -> Result<Vec<R>, ExampleError> {
    let make_all = |chunk: &[T]| chunk.iter().map(&make).collect::<Result<Vec<R>, _>>();
    let chunk_length = items.len().div_ceil(threads.get()).max(1);
    let results: Vec<_> = std::thread::scope(|scope| {
        let spawn = |chunk| scope.spawn(move || make_all(chunk));
        let workers: Vec<_> = items.chunks(chunk_length).map(spawn).collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, _>| match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        workers.into_iter().map(join).collect()
    });
    let mut made = Vec::with_capacity(items.len());
    for result in results {
        made.append(&mut result?);
    }
    Ok(made)
}

#[cfg(test)]
#[path = "examples_tests.rs"]
mod tests;
