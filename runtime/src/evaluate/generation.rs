//! Answers that the model in training writes, by a decoding plan with a copy of its adapter.
//!
//! The decoding plan is bound for the evaluation and let go after it: between evaluations its cache takes no memory. The
//! frozen weights are those of the checkpoint, which both plans map.

use super::EvaluateError;
use crate::executor::ExecutorError;
use crate::train::{Start, TrainError, Trainer};
use crate::validate::EngineError;
use crate::validate::mnli::{Mode, Options, Prediction, Row, ValidateError, count, evaluate};
use crate::validate::native_engine::{self, NativeEngine};
use crate::validate::report::Report;
use gptjc_graphs::plan::Plan;
use std::time::Instant;

/// What turns the tokens of an answer into text.
pub type Decode<'a> = Box<dyn Fn(&[u32]) -> String + 'a>;

/// The label of an answer, and its text.
type Answer = (Option<usize>, Option<String>);

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

    /// Answers `rows` with the parameters of this moment, each rank its part; `progress` is told how many are done.
    pub(super) fn answer(
        &self,
        trainer: &mut Trainer,
        rows: &[Row],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Report, TrainError> {
        if trainer.ranks().is_alone() {
            return Ok(self.answer_part(trainer, rows, progress)?.0);
        }
        let begun = Instant::now();
        let (part, ranks) = (&rows[trainer.ranks().part(rows.len())], trainer.ranks().count());
        // There may be fewer rows than ranks.
        let own = match part {
            [] => Ok(Vec::new()),
            part => self.answer_part(trainer, part, &mut |done| progress(done * ranks)).map(|(_, own)| own),
        };
        let own = trainer.together(own)?;
        let answers: Vec<Answer> = own.into_iter().map(|found| (found.answer, found.text)).collect();
        let own = serde_json::to_vec(&answers).unwrap_or_default(); // numbers and texts
        let all = trainer.ranks().gather(own).map_err(TrainError::from)?;
        let answers =
            all.iter().flat_map(|part| serde_json::from_slice::<Vec<Answer>>(part).unwrap_or_default());
        let prediction = |(row, (answer, text)): (&Row, Answer)| Prediction {
            row: row.row,
            label: row.label,
            answer,
            text,
            scores: None,
        };
        let predictions: Vec<Prediction> = rows.iter().zip(answers).map(prediction).collect();
        let engine = native_engine::name(&self.plan);
        Ok(count(engine, Mode::Generate, &predictions, begun.elapsed().as_secs_f64()))
    }

    fn answer_part(
        &self,
        trainer: &mut Trainer,
        rows: &[Row],
        progress: &mut dyn FnMut(usize),
    ) -> Result<(Report, Vec<Prediction>), TrainError> {
        let adapter = trainer.adapter()?.ok_or(EvaluateError::NoAdapter)?;
        let start = Start::Adapter(adapter, "the adapter in training".to_owned());
        let (checkpoint, threads) = (trainer.shared_checkpoint(), trainer.options().threads);
        // What stops training stops its evaluation too.
        let stop = trainer.stop_flag().raw();
        let mut engine = NativeEngine::stopped_by(self.plan.clone(), checkpoint, start, threads, stop)?;
        match evaluate(&mut engine, rows, &self.options, &*self.decode, progress) {
            Ok(answered) => Ok(answered),
            Err(ValidateError::Engine { source: EngineError::Stopped, .. }) => {
                Err(ExecutorError::Stopped("decode".to_owned()).into())
            }
            Err(error) => Err(EvaluateError::from(error).into()),
        }
    }
}
