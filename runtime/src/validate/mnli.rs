//! Asks an engine about MNLI rows and counts its answers.
//!
//! In mode `generate` the model continues the prompt greedily and the answer is the first of the words it wrote that is
//! exactly a label, as the reference workflow reads it; else it is unknown. In mode `score` the answer is the label
//! that the model finds most likely. Rows without a label are answered and not counted.
//!
//! Does not: tokenize or decode (the caller hands in both), nor keep the order of batches: rows of like length run together.

use std::time::Instant;

use serde::{Serialize, Serializer};

use super::engine::{Engine, EngineError};
use super::report::{MOST_EXAMPLES, NoLabelExample, Report, wilson_interval};

/// The labels, in the order of GLUE's ids 0, 1, 2.
pub const LABELS: [&str; 3] = ["entailment", "neutral", "contradiction"];
/// What an answer is called that is no label.
pub const UNKNOWN: &str = "unknown";

/// A row to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The row's number in the data: its line, from 1.
    pub row: u64,
    /// The prompt, up to and with `target:`.
    pub prompt: Vec<u32>,
    /// Index of its label in [`LABELS`], if it has one.
    pub label: Option<usize>,
}

/// How answers are had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Generate, and read the label.
    Generate,
    /// Compare the probabilities of the three labels.
    Score,
}

impl Mode {
    /// Name in flags and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Generate => "generate",
            Mode::Score => "score",
        }
    }
}

/// How to ask.
#[derive(Clone, Debug)]
pub struct Options {
    /// How answers are had.
    pub mode: Mode,
    /// Rows that run together; at least 1.
    pub batch_size: usize,
    /// Tokens to generate; the reference workflow takes 5.
    pub max_new_tokens: usize,
    /// The token that ends an answer.
    pub eos: u32,
    /// The tokens of the three labels, as they continue a prompt.
    pub label_tokens: [Vec<u32>; 3],
    /// The words that the model writes for the three labels.
    pub label_texts: [String; 3],
    /// Whether predictions carry the scores of the labels in mode `generate` too. They cost a step a label more.
    pub with_scores: bool,
}

/// The answer to a row; a line of a predictions file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// The row's number in the data.
    pub row: u64,
    /// Its label, if it has one.
    #[serde(serialize_with = "label_word_or_null")]
    pub label: Option<usize>,
    /// The label that the model gives, or unknown.
    #[serde(serialize_with = "label_word_or_unknown")]
    pub answer: Option<usize>,
    /// What the model wrote, in mode `generate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Natural logarithms of the probabilities of the labels, in the order of [`LABELS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scores: Option<[f32; 3]>,
}

fn label_word_or_null<S: Serializer>(label: &Option<usize>, serializer: S) -> Result<S::Ok, S::Error> {
    label.and_then(|index| LABELS.get(index)).serialize(serializer)
}

fn label_word_or_unknown<S: Serializer>(label: &Option<usize>, serializer: S) -> Result<S::Ok, S::Error> {
    label.and_then(|index| LABELS.get(index)).unwrap_or(&UNKNOWN).serialize(serializer)
}

/// Why a validation stopped.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// There is nothing to answer.
    #[error("there are no rows to validate; expected at least one in the validation file")]
    NoRows,
    /// A batch size of 0.
    #[error("the batch size is 0; expected at least 1")]
    BatchSize,
    /// A row that the model has no positions for.
    #[error(
        "row {row} has {tokens} tokens, with {new_tokens} for the answer more than the model's {positions} positions \
         ({others} more rows are too long); rows are not cut, because that would change the question: leave them out of \
         the file"
    )]
    TooLong {
        /// The first row that is too long.
        row: u64,
        /// Tokens of its prompt.
        tokens: usize,
        /// Tokens that an answer may take.
        new_tokens: usize,
        /// Positions of the model.
        positions: usize,
        /// Rows that are too long beside it.
        others: usize,
    },
    /// The engine failed.
    #[error("rows {rows:?} could not be answered")]
    Engine {
        /// The rows of the batch.
        rows: Vec<u64>,
        /// Why.
        #[source]
        source: EngineError,
    },
}

impl Options {
    /// Tokens that may follow a prompt.
    pub fn new_tokens(&self) -> usize {
        let longest = self.label_tokens.iter().map(Vec::len).max().unwrap_or(0);
        match self.mode {
            Mode::Score => longest,
            Mode::Generate if self.with_scores => longest.max(self.max_new_tokens),
            Mode::Generate => self.max_new_tokens,
        }
    }
}

/// Checks that a model of `positions` positions can answer all rows; returns how many the longest needs. A row is not
/// cut: without its end, or its beginning, it would be another question.
///
/// # Errors
/// [`ValidateError::TooLong`] for the first row that is too long; [`ValidateError::NoRows`].
pub fn check_lengths(rows: &[Row], options: &Options, positions: usize) -> Result<usize, ValidateError> {
    let needed = |row: &Row| row.prompt.len() + options.new_tokens();
    let mut too_long = rows.iter().filter(|row| needed(row) > positions);
    match too_long.next() {
        Some(row) => Err(ValidateError::TooLong {
            row: row.row,
            tokens: row.prompt.len(),
            new_tokens: options.new_tokens(),
            positions,
            others: too_long.count(),
        }),
        None => rows.iter().map(needed).max().ok_or(ValidateError::NoRows),
    }
}

/// The label that a generated text gives: the first of its words that is exactly one of `labels`.
pub fn read_label(text: &str, labels: &[impl AsRef<str>; 3]) -> Option<usize> {
    text.split_whitespace().find_map(|word| labels.iter().position(|label| label.as_ref() == word))
}

/// Answers `rows`; the report, and a prediction for each row in the order of `rows`.
///
/// `decode` turns generated tokens into text; `progress` is told how many rows are answered.
///
/// # Errors
/// [`ValidateError`] if there is nothing to do, or the engine fails.
pub fn evaluate(
    engine: &mut dyn Engine,
    rows: &[Row],
    options: &Options,
    decode: &dyn Fn(&[u32]) -> String,
    progress: &mut dyn FnMut(usize),
) -> Result<(Report, Vec<Prediction>), ValidateError> {
    if rows.is_empty() {
        return Err(ValidateError::NoRows);
    }
    if options.batch_size == 0 {
        return Err(ValidateError::BatchSize);
    }
    let begun = Instant::now();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&index| rows[index].prompt.len());
    let mut answered: Vec<(usize, Prediction)> = Vec::with_capacity(rows.len());
    for indices in order.chunks(options.batch_size) {
        let batch: Vec<&Row> = indices.iter().map(|&index| &rows[index]).collect();
        let predictions = answer(engine, &batch, options, decode).map_err(|source| {
            ValidateError::Engine { rows: batch.iter().map(|row| row.row).collect(), source }
        })?;
        answered.extend(indices.iter().copied().zip(predictions));
        progress(answered.len());
    }
    answered.sort_by_key(|(index, _)| *index);
    let predictions: Vec<Prediction> = answered.into_iter().map(|(_, prediction)| prediction).collect();
    let report = count(engine.name(), options.mode, &predictions, begun.elapsed().as_secs_f64());
    Ok((report, predictions))
}

fn answer(
    engine: &mut dyn Engine,
    batch: &[&Row],
    options: &Options,
    decode: &dyn Fn(&[u32]) -> String,
) -> Result<Vec<Prediction>, EngineError> {
    let prompts: Vec<Vec<u32>> = batch.iter().map(|row| row.prompt.clone()).collect();
    let texts: Vec<Option<String>> = match options.mode {
        Mode::Score => vec![None; batch.len()],
        Mode::Generate => {
            let answers = engine.generate(&prompts, options.max_new_tokens, options.eos)?;
            answers.iter().map(|tokens| Some(decode(tokens))).collect()
        }
    };
    let scores: Vec<Option<[f32; 3]>> = if options.with_scores || options.mode == Mode::Score {
        let scores = engine.score(&prompts, &options.label_tokens)?;
        scores.into_iter().map(|row| row.try_into().ok()).collect()
    } else {
        vec![None; batch.len()]
    };
    let predictions = batch.iter().zip(texts).zip(scores).map(|((row, text), scores)| {
        let answer = match &text {
            Some(text) => read_label(text, &options.label_texts),
            None => scores.as_ref().map(|scores| super::engine::argmax(scores)),
        };
        Prediction { row: row.row, label: row.label, answer, text, scores }
    });
    Ok(predictions.collect())
}

/// Counts the answers of `predictions`, which took `seconds`.
pub(crate) fn count(engine: String, mode: Mode, predictions: &[Prediction], seconds: f64) -> Report {
    let mut confusion = [[0_u64; 4]; 3];
    for prediction in predictions {
        if let Some(label) = prediction.label.filter(|&label| label < LABELS.len()) {
            confusion[label][prediction.answer.unwrap_or(LABELS.len())] += 1;
        }
    }
    let counted: u64 = confusion.iter().flatten().sum();
    let correct: u64 = (0..LABELS.len()).map(|label| confusion[label][label]).sum();
    let no_label: Vec<&Prediction> =
        predictions.iter().filter(|prediction| prediction.answer.is_none()).collect();
    let example = |prediction: &&Prediction| NoLabelExample {
        row: prediction.row,
        text: prediction.text.clone().unwrap_or_default(),
    };
    Report {
        engine,
        mode: mode.name(),
        rows: predictions.len(),
        counted,
        correct,
        accuracy: (counted > 0).then(|| correct as f64 / counted as f64),
        interval: wilson_interval(correct, counted),
        confusion,
        no_label: no_label.len() as u64,
        no_label_examples: no_label.iter().take(MOST_EXAMPLES).map(example).collect(),
        seconds,
        rows_per_second: predictions.len() as f64 / seconds.max(f64::MIN_POSITIVE),
    }
}

#[cfg(test)]
#[path = "mnli_tests.rs"]
mod tests;
