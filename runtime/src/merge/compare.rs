//! What two engines say about the same rows: the merged model, and the model with its adapter apart.
//!
//! Loss is what training minimised: the mean over the tokens of the targets (label and end of text) of the negative
//! logarithm of their probability. The answer to a row is its most likely label, as in validation by scores.
//!
//! Does not: read data, tokenize, or make engines.

use std::fmt;

use serde::Serialize;

use crate::validate::mnli::Row;
use crate::validate::{Engine, EngineError};

/// Tokens that continue a prompt, for each label in the order of [`crate::validate::mnli::LABELS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuations {
    /// The label alone.
    pub labels: [Vec<u32>; 3],
    /// What training appends: the label and the end of the text.
    pub targets: [Vec<u32>; 3],
}

/// What an engine says about rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers {
    /// Natural logarithms of the probabilities of the labels, for each row.
    scores: Vec<[f32; 3]>,
    /// Over the rows with a label: sum of losses, and tokens.
    loss: f64,
    tokens: usize,
    labels: Vec<Option<usize>>,
}

/// Why rows got no answer.
#[derive(Debug, thiserror::Error)]
#[error("line {first_line} of the validation file, or one of the rows that run with it, could not be scored")]
pub struct AnswerError {
    /// Line of the first row of the batch.
    pub first_line: u64,
    /// Why.
    #[source]
    pub source: EngineError,
}

/// Scores the labels of `rows`, `batch_size` of them at a time; `progress` is told how many are done.
///
/// # Errors
/// [`AnswerError`] if the engine fails.
pub fn answer(
    engine: &mut dyn Engine,
    rows: &[Row],
    continuations: &Continuations,
    batch_size: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Answers, AnswerError> {
    let candidates: Vec<Vec<u32>> =
        continuations.labels.iter().chain(&continuations.targets).cloned().collect();
    let labels = rows.iter().map(|row| row.label.filter(|&label| label < 3)).collect();
    let mut answers = Answers { scores: Vec::with_capacity(rows.len()), loss: 0.0, tokens: 0, labels };
    for batch in rows.chunks(batch_size.max(1)) {
        let prompts: Vec<Vec<u32>> = batch.iter().map(|row| row.prompt.clone()).collect();
        let scored = engine.score(&prompts, &candidates);
        let scored = scored.map_err(|source| AnswerError { first_line: batch[0].row, source })?;
        for (row, scores) in batch.iter().zip(scored) {
            answers.scores.push([scores[0], scores[1], scores[2]]);
            if let Some(label) = row.label.filter(|&label| label < 3) {
                answers.loss -= f64::from(scores[3 + label]);
                answers.tokens += continuations.targets[label].len();
            }
        }
        progress(answers.scores.len());
    }
    Ok(answers)
}

/// What merging and rounding changed in what the model says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// What ran.
    pub engine: String,
    /// Rows scored.
    pub rows: usize,
    /// Of them, rows with a label.
    pub labelled: usize,
    /// Mean loss a token over the rows with a label: adapter apart, merged.
    pub loss: Option<[f64; 2]>,
    /// Rows with a label whose most likely label is it: adapter apart, merged.
    pub correct: [usize; 2],
    /// Rows whose most likely label is the same in both.
    pub same_label: usize,
    /// Largest difference of a label's log-probability.
    pub largest_score_difference: f64,
}

/// Compares what was said about the same rows with the adapter apart and by the merged model.
pub fn compare(engine: String, apart: &Answers, merged: &Answers) -> Comparison {
    let best = |scores: &[f32; 3]| {
        (0..3).fold(0, |best, label| if scores[label] > scores[best] { label } else { best })
    };
    let pairs = || apart.scores.iter().zip(&merged.scores);
    let correct = |answers: &Answers| {
        let labelled = answers.scores.iter().zip(&answers.labels);
        labelled.filter(|(scores, label)| **label == Some(best(scores))).count()
    };
    let loss = |answers: &Answers| answers.loss / answers.tokens as f64;
    let differences = pairs().flat_map(|(one, other)| {
        one.iter().zip(other).map(|(one, other)| (f64::from(*one) - f64::from(*other)).abs())
    });
    Comparison {
        engine,
        rows: apart.scores.len(),
        labelled: apart.labels.iter().flatten().count(),
        loss: (apart.tokens > 0).then(|| [loss(apart), loss(merged)]),
        correct: [correct(apart), correct(merged)],
        same_label: pairs().filter(|(one, other)| best(one) == best(other)).count(),
        largest_score_difference: differences.fold(0.0, f64::max),
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
        writeln!(
            f,
            "labels     {} of {} rows have the same most likely label ({:.2} %), adapter apart and merged",
            self.same_label,
            self.rows,
            percent(self.same_label, self.rows)
        )?;
        writeln!(
            f,
            "           log-probabilities of labels differ by at most {:.2e}",
            self.largest_score_difference
        )?;
        if let Some([apart, merged]) = self.loss {
            let [right_apart, right_merged] = self.correct.map(|correct| percent(correct, self.labelled));
            writeln!(
                f,
                "loss       {apart:.6} adapter apart, {merged:.6} merged, difference {:+.2e}",
                merged - apart
            )?;
            writeln!(f, "accuracy   {right_apart:.2} % adapter apart, {right_merged:.2} % merged")?;
        }
        writeln!(f, "engine     {}", self.engine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::RowLogits;

    /// Scores each candidate as its first token times the row's length, in thousandths, negated.
    struct Fake;

    impl Engine for Fake {
        fn name(&self) -> String {
            "fake".into()
        }

        fn generate(&mut self, _: &[Vec<u32>], _: usize, _: u32) -> Result<Vec<Vec<u32>>, EngineError> {
            Err(EngineError::EmptyPrompt { row: 0 })
        }

        fn score(
            &mut self,
            prompts: &[Vec<u32>],
            candidates: &[Vec<u32>],
        ) -> Result<Vec<Vec<f32>>, EngineError> {
            if let Some(row) = prompts.iter().position(Vec::is_empty) {
                return Err(EngineError::EmptyPrompt { row });
            }
            let score = |prompt: &Vec<u32>, candidate: &Vec<u32>| {
                -((candidate[0] as usize * prompt.len()) as f32) / 1e3
            };
            Ok(prompts.iter().map(|p| candidates.iter().map(|c| score(p, c)).collect()).collect())
        }

        fn logits(&mut self, _: &[Vec<u32>]) -> Result<Vec<RowLogits>, EngineError> {
            Err(EngineError::EmptyPrompt { row: 0 })
        }
    }

    fn row(row: u64, length: usize, label: Option<usize>) -> Row {
        Row { row, prompt: vec![7; length], label }
    }

    fn continuations(first: [u32; 3]) -> Continuations {
        Continuations { labels: first.map(|id| vec![id]), targets: first.map(|id| vec![id, 9]) }
    }

    #[test]
    fn loss_is_a_mean_over_target_tokens_and_agreement_counts_all_rows() {
        let rows = [row(1, 10, Some(0)), row(2, 20, None), row(5, 30, Some(2))];
        let mut seen = Vec::new();
        let mut ask =
            |first| answer(&mut Fake, &rows, &continuations(first), 2, &mut |n| seen.push(n)).unwrap();
        let (one, other) = (ask([1, 2, 3]), ask([3, 2, 1]));
        assert_eq!(seen, [2, 3, 2, 3]);
        let same = compare("fake".into(), &one, &one);
        assert_eq!((same.same_label, same.rows, same.labelled, same.correct), (3, 3, 2, [1, 1]));
        assert_eq!(same.largest_score_difference, 0.0);
        // Row 1: 1 · 10; row 5: 3 · 30; in thousandths, over 4 tokens.
        let [apart, merged] = same.loss.unwrap();
        assert!((apart - 0.1 / 4.0).abs() < 1e-8 && apart == merged, "{apart} {merged}");
        let turned = compare("fake".into(), &one, &other);
        assert_eq!((turned.same_label, turned.correct), (0, [1, 1]));
        assert!((turned.largest_score_difference - 0.06).abs() < 1e-8, "{turned:?}");
        let none = answer(&mut Fake, &rows[1..2], &continuations([1, 2, 3]), 8, &mut |_| {}).unwrap();
        assert_eq!(compare("fake".into(), &none, &none).loss, None);
    }

    #[test]
    fn a_row_that_fails_is_named_by_its_line() {
        let rows = [row(1, 1, None), row(4, 0, None)];
        let error = answer(&mut Fake, &rows, &continuations([1, 2, 3]), 1, &mut |_| {}).unwrap_err();
        assert!(error.to_string().starts_with("line 4 of the validation file"), "{error}");
    }
}
