//! Before ranks train together, each shows what decides its bits, and where it would begin.
//!
//! What may differ from rank to rank is what a checkpoint does not hold either: cores, memory, micro-batches.

use super::facts::Facts;
use super::{Checkpoints, places};
use crate::hex::hex;
use crate::ranks::RanksError;
use crate::train::{RunState, TrainError, TrainOptions, Trainer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a rank shows.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Card {
    program: String,
    facts: Facts,
    position: String,
    /// What it does between steps: when ranks meet.
    besides: String,
    /// Hash of parameters and moments.
    parameters: String,
}

impl Card {
    /// What `self` has otherwise than the first rank's card.
    fn differences(&self, first: &Card) -> Vec<String> {
        let mut lines = Vec::new();
        let pairs = [
            ("gptjc", &self.program, &first.program),
            ("rounding of the kernels", &self.facts.rounding, &first.facts.rounding),
            ("where the run begins", &self.position, &first.position),
            (
                "what is done between steps (--eval-steps, --save-steps and so on)",
                &self.besides,
                &first.besides,
            ),
        ];
        for (name, own, other) in pairs.into_iter().filter(|(_, own, other)| own != other) {
            lines.push(format!("{name}: given {own}, rank 0 has {other}"));
        }
        lines.extend(self.facts.differences(&first.facts, "rank 0"));
        if lines.is_empty() && self.parameters != first.parameters {
            lines.push(
                "the parameters to begin with: the adapter, or the checkpoint, has other values".to_owned(),
            );
        }
        lines
    }
}

impl Checkpoints {
    /// Proves that all ranks would do the same from `state` on; `program` says which program each of them runs, `evaluation`
    /// what it measures and what follows from that.
    ///
    /// # Errors
    /// [`RanksError::Disagree`] on every rank, naming the first that would do something else and what.
    pub fn agree(
        &self,
        trainer: &mut Trainer,
        state: &RunState,
        program: String,
        evaluation: &str,
    ) -> Result<(), TrainError> {
        if trainer.ranks().is_alone() {
            return Ok(());
        }
        let steps = state.trainer.global_step;
        let card = Card {
            program,
            facts: self.facts.clone(),
            besides: besides(trainer.options(), evaluation),
            position: format!("{steps} steps and {} windows done", state.windows_done),
            parameters: hash(trainer)?,
        };
        let own = serde_json::to_vec(&card).unwrap_or_default(); // texts only
        let cards = trainer.ranks().gather(own)?;
        let read = |bytes: &Vec<u8>| serde_json::from_slice::<Card>(bytes).ok();
        let first = cards.first().and_then(read);
        for (rank, other) in cards.iter().enumerate() {
            let lines = match (read(other), &first) {
                (Some(other), Some(first)) => other.differences(first),
                _ => vec!["gptjc: another version".to_owned()],
            };
            if !lines.is_empty() {
                trainer.ranks().end_together();
                return Err(RanksError::Disagree { rank, lines }.into());
            }
        }
        Ok(())
    }
}

fn besides(options: &TrainOptions, evaluation: &str) -> String {
    let TrainOptions { eval, eval_on_start, save, .. } = options;
    format!("evaluation {eval:?}, at the start {eval_on_start}, saving {save:?}; {evaluation}")
}

/// A hash of what an optimizer step changes.
fn hash(trainer: &mut Trainer) -> Result<String, TrainError> {
    let plan = trainer.plan();
    let places = [places::parameters(plan), places::moments(plan)].concat();
    let mut hash = Sha256::new();
    for place in places {
        let range = place.start..place.start + place.elements();
        let values = trainer.executor().read_range::<f32>(&place.buffer, range)?;
        hash.update(bytemuck::cast_slice::<f32, u8>(&values));
    }
    Ok(hex(&hash.finalize()))
}
