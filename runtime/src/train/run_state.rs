//! Where a run is, and what it has still to log.

use super::{LogEntry, StepReport, TrainerState};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Where a run is, but for parameters, moments and partial sums: those are the trainer's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunState {
    /// Steps done and log, as Hugging Face's Trainer keeps them.
    pub trainer: TrainerState,
    /// Windows of the next optimizer step whose sums are in the tree.
    pub windows_done: usize,
    /// The evaluation after the last step was due and is not done.
    pub evaluation_due: bool,
    /// Losses.
    pub losses: Losses,
}

/// Losses of the steps so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// Sum over the steps since the last entry of the log.
    pending: f64,
    /// Those steps.
    pending_steps: u64,
    /// Sum over all steps.
    total: f64,
}

impl Losses {
    /// Adds a step.
    pub(super) fn add(&mut self, report: &StepReport) {
        self.pending += f64::from(report.loss);
        self.total += f64::from(report.loss);
        self.pending_steps += 1;
    }

    /// The entry for the steps since the last one: mean loss, and norm and rate of the last step, as Hugging Face's
    /// Trainer logs them.
    pub(super) fn entry(&mut self, report: &StepReport, epoch: f64) -> LogEntry {
        let loss = (self.pending / self.pending_steps.max(1) as f64) as f32;
        (self.pending, self.pending_steps) = (0.0, 0);
        LogEntry::training(report.step, epoch, loss, report.grad_norm, report.learning_rate)
    }

    /// Mean over all of `steps` steps.
    pub(super) fn mean(&self, steps: u64) -> f64 {
        self.total / steps.max(1) as f64
    }
}

/// What this process did of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Share {
    /// Seconds that it took.
    pub(super) seconds: f64,
    /// Windows that were trained on.
    pub(super) windows: u64,
    /// Optimizer steps.
    pub(super) steps: u64,
}

impl RunState {
    /// The last entry of the log of a run that is done, as Hugging Face's Trainer has it. Rates are those of this process,
    /// also if it resumed the run; loss and operations are of the whole run.
    pub(super) fn closing_entry(&self, share: &Share) -> LogEntry {
        let seconds = share.seconds.max(1e-9);
        let numbers: [(&str, f64); 5] = [
            ("train_runtime", share.seconds),
            ("train_samples_per_second", share.windows as f64 / seconds),
            ("train_steps_per_second", share.steps as f64 / seconds),
            ("total_flos", self.trainer.total_flos),
            ("train_loss", self.losses.mean(self.trainer.global_step)),
        ];
        self.entry(numbers.map(|(name, value)| (name.to_owned(), value)).into())
    }

    /// An entry of the log with these numbers, here.
    pub(super) fn entry(&self, numbers: BTreeMap<String, f64>) -> LogEntry {
        LogEntry {
            epoch: self.trainer.epoch.unwrap_or_default(),
            step: self.trainer.global_step,
            other: numbers.into_iter().map(|(name, value)| (name, Value::from(value))).collect(),
            ..LogEntry::default()
        }
    }
}
