//! What an engine can do: run a model over prompts of token ids.
//!
//! Does not: know text, labels or files.

/// Logits of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowLogits {
    /// Number of tokens that the model knows.
    pub vocabulary: usize,
    /// `[tokens of the row, vocabulary]`
    pub values: Vec<f32>,
}

/// A model that answers. Rows of a batch may differ in length; results are in the order of the rows.
pub trait Engine {
    /// What runs, with its version: for reports.
    fn name(&self) -> String;

    /// Continues each prompt greedily, by at most `max_new_tokens` tokens. An answer ends before `eos`.
    ///
    /// # Errors
    /// [`EngineError`] if a prompt is empty or too long for the model, or the engine fails.
    fn generate(
        &mut self,
        prompts: &[Vec<u32>],
        max_new_tokens: usize,
        eos: u32,
    ) -> Result<Vec<Vec<u32>>, EngineError>;

    /// The logarithm of the probability of each candidate as the continuation of each prompt:
    /// `[prompts][candidates]`, natural logarithms, summed over the candidate's tokens.
    ///
    /// # Errors
    /// [`EngineError`] if a prompt or candidate is empty or too long, or the engine fails.
    fn score(&mut self, prompts: &[Vec<u32>], candidates: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, EngineError>;

    /// The logits of every token of each row.
    ///
    /// # Errors
    /// [`EngineError`] if a row is empty or too long, or the engine fails.
    fn logits(&mut self, rows: &[Vec<u32>]) -> Result<Vec<RowLogits>, EngineError>;
}

/// Why an engine gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A row without tokens.
    #[error("row {row} of the batch has no tokens; a prompt needs at least one")]
    EmptyPrompt {
        /// Index in the batch.
        row: usize,
    },
    /// A candidate without tokens.
    #[error("candidate {candidate} has no tokens; an answer to score needs at least one")]
    EmptyCandidate {
        /// Index of the candidate.
        candidate: usize,
    },
    /// A row that does not fit the model.
    #[error("row {row} of the batch needs {needed} positions, the model has {limit}; shorten the prompt")]
    TooLong {
        /// Index in the batch.
        row: usize,
        /// Tokens of the row and of its answer.
        needed: usize,
        /// Positions of the model.
        limit: usize,
    },
    /// A token that the model does not know.
    #[error(
        "token {token} is outside of the model's vocabulary of {vocabulary}; is this the model's tokenizer?"
    )]
    Token {
        /// The token.
        token: u32,
        /// Number of tokens that the model knows.
        vocabulary: usize,
    },
    /// Somebody raised the stop flag.
    #[error("the engine was stopped")]
    Stopped,
    /// The engine failed.
    #[error("{engine} failed to {action}: {reason}")]
    Failed {
        /// Which engine.
        engine: String,
        /// What it was doing.
        action: &'static str,
        /// What it says.
        reason: String,
    },
}

/// Index of the largest value, the first one of equals.
pub(crate) fn argmax(values: &[f32]) -> usize {
    let best = values.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (index, &value)| {
        if value > best.1 { (index, value) } else { best }
    });
    best.0
}

/// `ln softmax(values)[index]`, summed in f64.
pub(super) fn log_probability(values: &[f32], index: usize) -> f64 {
    let largest = f64::from(values[argmax(values)]);
    let sum: f64 = values.iter().map(|&value| (f64::from(value) - largest).exp()).sum();
    f64::from(values[index]) - largest - sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_values_wins() {
        assert_eq!(argmax(&[-1.0, 3.0, 3.0, 2.0]), 1);
        assert_eq!(argmax(&[f32::MIN]), 0);
    }

    #[test]
    fn log_probabilities_of_all_tokens_sum_to_one() {
        let values = [1000.0, 1001.0, 998.5];
        let sum: f64 = (0..3).map(|index| log_probability(&values, index).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{sum}");
        assert!((log_probability(&[0.0, 0.0], 1) - 0.5_f64.ln()).abs() < 1e-12);
    }
}
