//! Answers that the model in training writes, by a decoding plan with a copy of its adapter.
//!
//! The decoding plan is bound for the evaluation and let go after it: between evaluations its cache takes no memory. The
//! frozen weights are those of the checkpoint, which both plans map.

use super::EvaluateError;
use crate::executor::ExecutorError;
use crate::train::{Start, TrainError, Trainer};
use crate::validate::EngineError;
use crate::validate::mnli::{Options, Row, ValidateError, evaluate};
use crate::validate::native_engine::NativeEngine;
use crate::validate::report::Report;
use gptjc_graphs::plan::Plan;

/// What turns the tokens of an answer into text.
pub type Decode<'a> = Box<dyn Fn(&[u32]) -> String + 'a>;

/// What it takes to generate answers.
pub struct Generator<'a> {
    plan: Plan,
    options: Options,
    decode: Decode<'a>,
}

impl<'a> Generator<'a> {
    /// Generates by `plan`, which was compiled to decode the model in training with its adapter, as `options` say;
    /// `decode` turns tokens into text.
    pub fn new(plan: Plan, options: Options, decode: Decode<'a>) -> Self {
        Self { plan, options, decode }
    }

    /// Answers `rows` with the parameters of this moment; `progress` is told how many are done.
    pub(super) fn answer(
        &self,
        trainer: &mut Trainer,
        rows: &[Row],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Report, TrainError> {
        let adapter = trainer.adapter()?.ok_or(EvaluateError::NoAdapter)?;
        let start = Start::Adapter(adapter, "the adapter in training".to_owned());
        let (checkpoint, threads) = (trainer.shared_checkpoint(), trainer.options().threads);
        // What stops training stops its evaluation too.
        let stop = trainer.stop_flag().raw();
        let mut engine = NativeEngine::stopped_by(self.plan.clone(), checkpoint, start, threads, stop)?;
        match evaluate(&mut engine, rows, &self.options, &*self.decode, progress) {
            Ok((report, _)) => Ok(report),
            Err(ValidateError::Engine { source: EngineError::Stopped, .. }) => {
                Err(ExecutorError::Stopped("decode".to_owned()).into())
            }
            Err(error) => Err(EvaluateError::from(error).into()),
        }
    }
}
