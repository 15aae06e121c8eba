//! What measures the model between optimizer steps.

use super::{Observer, TrainError, Trainer};
use crate::data::window::Window;
use std::collections::BTreeMap;
use std::time::Instant;

/// What measures the model between optimizer steps.
pub trait Evaluator {
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

/// The mean loss over the labelled tokens of some windows.
pub struct LossEvaluator<'a> {
    windows: Vec<&'a Window>,
}

impl<'a> LossEvaluator<'a> {
    /// Of these windows.
    pub fn new(windows: &'a [Window]) -> Self {
        Self { windows: windows.iter().collect() }
    }
}

impl Evaluator for LossEvaluator<'_> {
    fn evaluate(
        &mut self,
        trainer: &mut Trainer,
        observer: &mut dyn Observer,
    ) -> Result<BTreeMap<String, f64>, TrainError> {
        let begun = Instant::now();
        let found = trainer.evaluate(&self.windows)?;
        observer.on_evaluate(self.windows.len(), self.windows.len());
        let seconds = begun.elapsed().as_secs_f64();
        Ok(BTreeMap::from([("eval_loss".to_owned(), found.loss), ("eval_runtime".to_owned(), seconds)]))
    }
}
