//! Two engines on the same rows: do they give the same answers, do they write the same next tokens, and how far apart are
//! their logits?
//!
//! Logits are compared at every token of every prompt. Their differences mean something only beside what separates one
//! logit from another, so they come with the *spread* of the reference's logits: their standard deviation over the
//! vocabulary, averaged over the tokens.
//!
//! Does not: say which engine is right, nor where in a graph they part; see [`super::nodes`].

use std::fmt;

use serde::Serialize;

use super::distribution::Histogram;
use super::engine::{Engine, EngineError, RowLogits, argmax};
use super::mnli::{Options, Prediction, Row, ValidateError, evaluate};
use super::nodes::NodeSearch;
use super::report::Report;

pub use super::distribution::Distribution;

/// What two engines say about the same rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// How often each is right: the engine that is tested, and the one that it is compared with.
    pub engines: [EngineAnswers; 2],
    /// Rows that both answered.
    pub rows: usize,
    /// Rows that both gave the same answer to; answers that are no label are one answer.
    pub same_answer: usize,
    /// Their logits.
    pub logits: LogitComparison,
    /// Where the graphs part, if that was looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeSearch>,
}

/// How often an engine is right.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EngineAnswers {
    /// The engine.
    pub engine: String,
    /// Rows with a label whose answer it is.
    pub correct: u64,
    /// Rows with a label.
    pub counted: u64,
    /// Rows a second.
    pub rows_per_second: f64,
}

/// Logits of two engines at the same tokens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogitComparison {
    /// Tokens.
    pub tokens: u64,
    /// Tokens after which both find the same token likeliest.
    pub same_next_token: u64,
    /// Absolute differences of logits.
    pub difference: Distribution,
    /// The reference's spread.
    pub spread: f64,
    /// The row with the largest difference, as the data numbers it, and the index of that row.
    pub worst_row: u64,
    /// Its place among the rows.
    #[serde(skip)]
    pub worst_index: usize,
}

/// Asks both engines about all rows and compares what they say. `progress` is told how many of `3 · rows` are done: the
/// rows of one engine, of the other, and of the comparison of logits.
///
/// # Errors
/// [`ValidateError`] if there is nothing to do, or an engine fails.
pub fn compare(
    tested: &mut dyn Engine,
    reference: &mut dyn Engine,
    rows: &[Row],
    options: &Options,
    decode: &dyn Fn(&[u32]) -> String,
    progress: &mut dyn FnMut(usize),
) -> Result<Compared, ValidateError> {
    let (report, predictions) = evaluate(tested, rows, options, decode, progress)?;
    let (other, others) =
        evaluate(reference, rows, options, decode, &mut |done| progress(rows.len() + done))?;
    let logits = compare_logits(tested, reference, rows, options.batch_size, &mut |done| {
        progress(2 * rows.len() + done);
    })?;
    let same = predictions.iter().zip(&others).filter(|(one, other)| one.answer == other.answer);
    let comparison = Comparison {
        engines: [answers(&report), answers(&other)],
        rows: rows.len(),
        same_answer: same.count(),
        logits,
        nodes: None,
    };
    Ok(Compared { report, predictions, comparison })
}

/// What [`compare`] gives: the tested engine's own results, and the comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// The tested engine's report.
    pub report: Report,
    /// Its answers.
    pub predictions: Vec<Prediction>,
    /// Both engines.
    pub comparison: Comparison,
}

fn answers(report: &Report) -> EngineAnswers {
    EngineAnswers {
        engine: report.engine.clone(),
        correct: report.correct,
        counted: report.counted,
        rows_per_second: report.rows_per_second,
    }
}

/// Compares the logits of two engines at every token of the prompts, `batch_size` rows at a time.
///
/// # Errors
/// [`ValidateError`] if an engine fails.
pub fn compare_logits(
    tested: &mut dyn Engine,
    reference: &mut dyn Engine,
    rows: &[Row],
    batch_size: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<LogitComparison, ValidateError> {
    let mut sums = Sums::new();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&index| rows[index].prompt.len());
    let mut done = 0;
    for indices in order.chunks(batch_size.max(1)) {
        let prompts: Vec<Vec<u32>> = indices.iter().map(|&index| rows[index].prompt.clone()).collect();
        let failed = |source: EngineError| ValidateError::Engine {
            rows: indices.iter().map(|&index| rows[index].row).collect(),
            source,
        };
        let found = tested.logits(&prompts).map_err(failed)?;
        let expected = reference.logits(&prompts).map_err(failed)?;
        for (&index, (found, expected)) in indices.iter().zip(found.iter().zip(&expected)) {
            sums.add(index, found, expected);
        }
        done += indices.len();
        progress(done);
    }
    Ok(sums.finish(rows))
}

struct Sums {
    tokens: u64,
    same_next_token: u64,
    differences: Histogram,
    spread: f64,
    worst: (f32, usize),
}

impl Sums {
    fn new() -> Self {
        Sums {
            tokens: 0,
            same_next_token: 0,
            differences: Histogram::new(),
            spread: 0.0,
            worst: (f32::NEG_INFINITY, 0),
        }
    }

    fn add(&mut self, index: usize, found: &RowLogits, expected: &RowLogits) {
        let tokens = found
            .values
            .chunks_exact(found.vocabulary)
            .zip(expected.values.chunks_exact(expected.vocabulary));
        for (found, expected) in tokens {
            self.tokens += 1;
            self.same_next_token += u64::from(argmax(found) == argmax(expected));
            self.spread += standard_deviation(expected);
            let mut largest = 0.0_f32;
            for (&found, &expected) in found.iter().zip(expected) {
                self.differences.add(found, expected);
                let difference = (found - expected).abs();
                largest = if difference.is_nan() { f32::INFINITY } else { largest.max(difference) };
            }
            if largest > self.worst.0 {
                self.worst = (largest, index);
            }
        }
    }

    fn finish(self, rows: &[Row]) -> LogitComparison {
        LogitComparison {
            tokens: self.tokens,
            same_next_token: self.same_next_token,
            difference: self.differences.distribution(),
            spread: self.spread / self.tokens.max(1) as f64,
            worst_row: rows.get(self.worst.1).map_or(0, |row| row.row),
            worst_index: self.worst.1,
        }
    }
}

fn standard_deviation(values: &[f32]) -> f64 {
    let count = values.len().max(1) as f64;
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let squared: f64 = values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum();
    (squared / count).sqrt()
}

fn share(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { engines, rows, same_answer, logits, nodes } = self;
        writeln!(f, "{:<15}{:>9}{:>12}  engine", "", "accuracy", "rows/s")?;
        for (role, answers) in ["tested", "compared with"].iter().zip(engines) {
            let accuracy = match answers.counted {
                0 => "none".to_owned(),
                counted => format!("{:.2} %", share(answers.correct, counted)),
            };
            writeln!(f, "{role:<15}{accuracy:>9}{:>12.2}  {}", answers.rows_per_second, answers.engine)?;
        }
        let same = share(*same_answer as u64, *rows as u64);
        writeln!(f, "same answer    {same_answer} of {rows} rows ({same:.2} %)")?;
        let LogitComparison { tokens, same_next_token, difference, spread, worst_row, .. } = logits;
        let same = share(*same_next_token, *tokens);
        writeln!(f, "same next      after {same_next_token} of {tokens} tokens ({same:.2} %)")?;
        let relative = |difference: f64| difference / spread.max(f64::MIN_POSITIVE);
        let Distribution { p50, p99, max } = *difference;
        writeln!(f, "logits differ  by p50 {p50:.2e}, p99 {p99:.2e}, max {max:.2e} (row {worst_row})")?;
        writeln!(
            f,
            "  of {spread:.3}   the spread of logits: p50 {:.2e}, p99 {:.2e}, max {:.2e}",
            relative(p50),
            relative(p99),
            relative(max)
        )?;
        nodes.iter().try_for_each(|nodes| write!(f, "{nodes}"))
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
