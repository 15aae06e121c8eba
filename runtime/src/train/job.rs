//! A whole training run.

use super::data_order::sampler_options;
use super::{LinearSchedule, LogEntry, StepReport, TrainError, Trainer, TrainerState};
use crate::data::sampler::Sampler;
use crate::data::window::Window;

/// Who is told how a run goes on.
pub trait Observer {
    /// The run has `total_steps` optimizer steps.
    fn on_start(&mut self, total_steps: u64);
    /// An optimizer step is done.
    fn on_step(&mut self, report: &StepReport);
    /// An entry was added to the log.
    fn on_log(&mut self, entry: &LogEntry);
}

/// Trains on `windows` as the trainer's options say, and returns the log.
///
/// # Errors
/// [`TrainError`] if the options make no run, or a step fails.
pub fn train(
    trainer: &mut Trainer,
    windows: &[Window],
    observer: &mut dyn Observer,
) -> Result<TrainerState, TrainError> {
    let options = trainer.options().clone();
    let mut sampler = Sampler::new(sampler_options(&options, windows.len()))?;
    let total_steps = sampler.total_steps();
    let epochs = total_steps.div_ceil(sampler.steps_per_epoch().max(1));
    let schedule =
        LinearSchedule { peak: options.learning_rate, warmup_steps: options.warmup_steps, total_steps };
    let mut state = TrainerState::new(total_steps, epochs);
    let mut log = PendingLog::default();
    observer.on_start(total_steps);
    let mut step_windows: Vec<&Window> = Vec::new();
    while let Some(step) = sampler.next_step() {
        step_windows.clear();
        step_windows.extend(step.windows.iter().filter_map(|&index| windows.get(index as usize)));
        let epoch = step.epoch_after;
        let report = trainer.step(&step_windows, &schedule)?;
        observer.on_step(&report);
        state.global_step = report.step;
        state.epoch = Some(epoch);
        log.add(&report);
        if report.step.is_multiple_of(options.logging_steps.max(1)) {
            let entry = log.take(&report, epoch);
            observer.on_log(&entry);
            state.log_history.push(entry);
        }
    }
    Ok(state)
}

/// Losses since the last entry of the log.
#[derive(Default)]
struct PendingLog {
    sum: f64,
    steps: u64,
}

impl PendingLog {
    fn add(&mut self, report: &StepReport) {
        self.sum += f64::from(report.loss);
        self.steps += 1;
    }

    /// The entry for the steps so far: mean loss, and norm and rate of the last, as Hugging Face's Trainer logs them.
    fn take(&mut self, report: &StepReport, epoch: f64) -> LogEntry {
        let loss = (self.sum / self.steps.max(1) as f64) as f32;
        *self = Self::default();
        LogEntry::training(report.step, epoch, loss, report.grad_norm, report.learning_rate)
    }
}
