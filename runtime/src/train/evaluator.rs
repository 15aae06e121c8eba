//! What measures the model between optimizer steps.

use super::{Observer, TrainError, Trainer};
use std::collections::BTreeMap;

/// What measures the model between optimizer steps.
pub trait Evaluator {
    /// What is measured, on which data, in one line; two evaluators with the same do the same.
    fn identity(&self) -> String;

    /// The model's metrics by the names that Hugging Face's Trainer has for them: `eval_loss`, `eval_runtime` (seconds) and
    /// so on.
    ///
    /// # Errors
    /// [`TrainError`] if the model cannot be run.
    fn evaluate(
        &mut self,
        trainer: &mut Trainer,
        observer: &mut dyn Observer,
    ) -> Result<BTreeMap<String, f64>, TrainError>;
}
