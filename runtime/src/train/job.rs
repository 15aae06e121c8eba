//! A whole training run: steps in the sampler's order, and after each of them log, evaluate, save, in this order.
//!
//! Between two micro-batches the run may be stopped or a rolling checkpoint written; whatever comes after a step is a
//! function of the steps and the options alone, so that a resumed run is the run that was not stopped.

use super::cadence::Moment;
use super::checkpoint::Checkpoints;
use super::run_state::{RunState, Share};
use super::{
    Cadence, Evaluator, LogEntry, Observer, RunStart, Schedule, StepReport, StopFlag, Stopped, TrainError,
    TrainOptions, Trainer,
};
use crate::data::sampler::{Duration, Sampler};
use crate::data::window::Window;
use crate::evaluate::{BestModel, BestModelOptions, EvaluateError};
use crate::executor::ExecutorError;
use std::collections::BTreeMap;
use std::time::Instant;

/// A run.
pub struct Job<'a> {
    /// What is trained on.
    pub windows: &'a [Window],
    /// What measures the model, whenever `TrainOptions::eval` says so.
    pub evaluator: Option<&'a mut dyn Evaluator>,
    /// Who is told how it goes on.
    pub observer: &'a mut dyn Observer,
    /// Where checkpoints go, if any are written.
    pub checkpoints: Option<&'a mut Checkpoints>,
    /// How models are compared, and what that decides.
    pub policy: BestModelOptions,
    /// Ends the run early: [`Trainer::stop_flag`] at the next plan step, another one between two micro-batches.
    pub stop: &'a StopFlag,
}

/// A run that ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// Where it ended; the log has a closing entry if all steps are done.
    pub state: RunState,
    /// Why it ended before its last step, if it did.
    pub stopped: Option<Stopped>,
}

/// Trains as the trainer's options say, from `state` on: [`RunState::default`] for a new run.
///
/// # Errors
/// [`TrainError`] if the options make no run, or a step or an evaluation fails.
pub fn train(trainer: &mut Trainer, job: Job<'_>, state: RunState) -> Result<Finished, TrainError> {
    let options = trainer.options().clone();
    let mut sampler = Sampler::new(options.sampler(job.windows.len()))?;
    let (total_steps, epoch_steps) = (sampler.total_steps(), sampler.steps_per_epoch().max(1));
    let done = state.trainer.global_step;
    sampler.seek(done / epoch_steps, done % epoch_steps)?;
    let mut run = Run {
        schedule: Schedule::new(&options, total_steps),
        options,
        judge: BestModel::resumed(job.policy.clone(), &state.trainer.log_history),
        is_best: false,
        trainer,
        job,
        state,
        share: Share::default(),
    };
    run.state.trainer.max_steps = total_steps;
    run.state.trainer.num_train_epochs = total_steps.div_ceil(epoch_steps);
    run.go(&mut sampler, total_steps, epoch_steps)
}

/// Evaluates now, and adds the metrics to the log; returns them.
///
/// # Errors
/// [`TrainError`] if the evaluation fails.
pub fn evaluate(
    trainer: &mut Trainer,
    evaluator: &mut dyn Evaluator,
    observer: &mut dyn Observer,
    state: &mut RunState,
) -> Result<BTreeMap<String, f64>, TrainError> {
    let metrics = evaluator.evaluate(trainer, observer);
    let mut metrics = trainer.together(metrics)?;
    if !trainer.ranks().is_alone() {
        // Seconds differ, and what is decided by metrics must not.
        let values: Vec<f64> = metrics.values().copied().collect();
        let values =
            trainer.ranks().of_first(bytemuck::cast_slice(&values).to_vec()).map_err(TrainError::from)?;
        for (metric, value) in metrics.values_mut().zip(values.as_chunks().0) {
            *metric = f64::from_le_bytes(*value);
        }
    }
    let entry = state.entry(metrics.clone());
    log(observer, state, entry);
    Ok(metrics)
}

fn log(observer: &mut dyn Observer, state: &mut RunState, entry: LogEntry) {
    observer.on_log(&entry);
    state.trainer.log_history.push(entry);
}

/// A run under way.
struct Run<'a, 'b> {
    trainer: &'a mut Trainer,
    options: TrainOptions,
    schedule: Schedule,
    job: Job<'b>,
    judge: BestModel,
    /// The model of the evaluation after the last step is the best so far.
    is_best: bool,
    state: RunState,
    share: Share,
}

impl Run<'_, '_> {
    fn go(
        mut self,
        sampler: &mut Sampler,
        total_steps: u64,
        epoch_steps: u64,
    ) -> Result<Finished, TrainError> {
        let begun = Instant::now();
        self.job.observer.on_start(&self.start(total_steps, epoch_steps));
        let at = |step: u64| Moment {
            step,
            ends_epoch: step > 0 && step.is_multiple_of(epoch_steps),
            ends_run: step == total_steps,
        };
        let mut stopped = self.begin(at(self.state.trainer.global_step))?;
        while stopped.is_none()
            && let Some(step) = sampler.next_step()
        {
            let windows: Vec<&Window> =
                step.windows.iter().filter_map(|&index| self.job.windows.get(index as usize)).collect();
            let result = self.step(&windows, at(step.global_step + 1), step.epoch_after);
            stopped = result.map_err(|error| with_windows(error, step.windows))?;
        }
        if stopped == Some(Stopped::ByFlag) {
            self.roll()?;
        }
        self.share.seconds = begun.elapsed().as_secs_f64();
        if let Some(why) = &stopped {
            self.job.observer.on_stop(why);
        }
        if stopped != Some(Stopped::ByFlag) {
            let entry = self.state.closing_entry(&self.share);
            log(self.job.observer, &mut self.state, entry);
        }
        Ok(Finished { state: self.state, stopped })
    }

    fn start(&self, total_steps: u64, epoch_steps: u64) -> RunStart {
        let options = &self.options;
        RunStart {
            total_steps,
            first_step: self.state.trainer.global_step,
            epochs: match options.sampler(self.job.windows.len()).duration {
                Duration::Epochs(epochs) => epochs,
                Duration::Steps(steps) => steps as f64 / epoch_steps as f64,
            },
            windows: self.job.windows.len(),
            step_windows: options.per_device_train_batch_size * options.gradient_accumulation_steps,
        }
    }

    /// What is to be done before the first step, or was still to be done after the last one when the run was stopped.
    fn begin(&mut self, at: Moment) -> Result<Option<Stopped>, TrainError> {
        if !self.state.evaluation_due {
            return self.evaluate_first();
        }
        let stopped = self.evaluate(at)?;
        if stopped != Some(Stopped::ByFlag) {
            self.save(at)?;
        }
        Ok(stopped)
    }

    /// One optimizer step and what follows it; why the run ends here, if it does.
    fn step(&mut self, windows: &[&Window], at: Moment, epoch: f64) -> Result<Option<Stopped>, TrainError> {
        let begun = Instant::now();
        let result = match self.trainer.ranks().is_alone() {
            true => self.accumulate(windows),
            false => self.trainer.share_sums(windows, self.state.windows_done, self.job.stop),
        };
        match result {
            Err(error) if error.is_stop() => return Ok(Some(Stopped::ByFlag)),
            result => result?,
        }
        let report = self.trainer.apply(windows, self.schedule.rate(at.step - 1));
        let mut report = self.trainer.together(report)?;
        report.seconds = begun.elapsed().as_secs_f64();
        self.count(&report, windows.len(), epoch);
        self.log(&report, at);
        let stopped = self.evaluate(at)?;
        if stopped == Some(Stopped::ByFlag) {
            return Ok(stopped);
        }
        let saved = self.save(at).and_then(|saved| if saved { Ok(()) } else { self.roll_if_due() });
        self.trainer.together(saved)?;
        Ok(stopped)
    }

    /// The micro-batches of a step that are still to be done, by this process alone; an error is
    /// [a stop](TrainError::is_stop) if the run is to end here.
    fn accumulate(&mut self, windows: &[&Window]) -> Result<(), TrainError> {
        for micro_batch in self.trainer.micro_batches(self.state.windows_done, windows.len()) {
            if self.job.stop.is_raised() {
                return Err(ExecutorError::Stopped("micro_step".to_owned()).into());
            }
            self.trainer.micro_step(&windows[micro_batch.clone()], micro_batch.start)?;
            self.state.windows_done = micro_batch.end;
            if self.state.windows_done < windows.len() {
                self.roll_if_due()?;
            }
        }
        Ok(())
    }

    /// Writes the checkpoint of the step that was done last, if it is time; true if it was.
    fn save(&mut self, at: Moment) -> Result<bool, TrainError> {
        let last = at.ends_run && matches!(self.options.save, Cadence::Steps(_));
        let policy = self.judge.options();
        let best = self.is_best && (policy.save_best || policy.load_best_model_at_end);
        let Some(checkpoints) = &mut self.job.checkpoints else { return Ok(false) };
        if !last && !best && !self.options.save.is_due(at) {
            return Ok(false);
        }
        if self.is_best {
            let directory = checkpoints.of_step(at.step).display().to_string();
            self.state.trainer.best_model_checkpoint = Some(directory);
        }
        let directory = checkpoints.save(self.trainer, &self.state)?;
        self.job.observer.on_save(&directory);
        Ok(true)
    }

    fn roll_if_due(&mut self) -> Result<(), TrainError> {
        let due = self.job.checkpoints.as_ref().is_some_and(|checkpoints| checkpoints.is_rolling_due());
        if due { self.roll() } else { Ok(()) }
    }

    /// Writes the rolling checkpoint.
    fn roll(&mut self) -> Result<(), TrainError> {
        if let Some(checkpoints) = &mut self.job.checkpoints {
            let directory = checkpoints.roll(self.trainer, &self.state)?;
            self.job.observer.on_save(&directory);
        }
        Ok(())
    }

    fn count(&mut self, report: &StepReport, windows: usize, epoch: f64) {
        self.job.observer.on_step(report);
        self.share.steps += 1;
        self.share.windows += windows as u64;
        let state = &mut self.state;
        (state.trainer.global_step, state.trainer.epoch, state.windows_done) = (report.step, Some(epoch), 0);
        state.trainer.total_flos += report.tokens as f64 * self.trainer.flops_per_token();
        state.losses.add(report);
    }

    fn log(&mut self, report: &StepReport, at: Moment) {
        let first = self.options.logging_first_step && at.step == 1;
        if first || self.options.logging.is_due(at) {
            let entry = self.state.losses.entry(report, self.state.trainer.epoch.unwrap_or_default());
            log(self.job.observer, &mut self.state, entry);
        }
    }

    /// The evaluation before the first step, if there is to be one. It is not judged.
    fn evaluate_first(&mut self) -> Result<Option<Stopped>, TrainError> {
        let Some(evaluator) = &mut self.job.evaluator else { return Ok(None) };
        let state = &self.state.trainer;
        if !self.options.eval_on_start || state.global_step > 0 || !state.log_history.is_empty() {
            return Ok(None);
        }
        match evaluate(self.trainer, &mut **evaluator, self.job.observer, &mut self.state) {
            Err(error) if error.is_stop() => Ok(Some(Stopped::ByFlag)),
            result => result.map(|_| None),
        }
    }

    /// Evaluates if it is time, and judges what was found; why the run ends here, if it does.
    fn evaluate(&mut self, at: Moment) -> Result<Option<Stopped>, TrainError> {
        self.is_best = false;
        let Some(evaluator) = &mut self.job.evaluator else { return Ok(None) };
        if !self.options.eval.is_due(at) {
            return Ok(None);
        }
        let result = evaluate(self.trainer, &mut **evaluator, self.job.observer, &mut self.state);
        self.state.evaluation_due = matches!(&result, Err(error) if error.is_stop());
        let metrics = match result {
            Err(error) if error.is_stop() => return Ok(Some(Stopped::ByFlag)),
            result => result?,
        };
        if !self.judge.options().compares() {
            return Ok(None);
        }
        let verdict = self.judge.judge(at.step, &metrics).map_err(|error| EvaluateError::from(error).into());
        let verdict = self.trainer.together(verdict)?;
        self.is_best = verdict.best;
        self.state.trainer.best_metric = self.judge.best().map(|best| best.metric);
        Ok(verdict.stop.then_some(Stopped::Early))
    }
}

/// Says where the windows of a step that went wrong are in the data.
fn with_windows(error: TrainError, windows: &[u32]) -> TrainError {
    match error {
        TrainError::NotFinite(mut step) => {
            step.windows = windows.to_vec();
            TrainError::NotFinite(step)
        }
        error => error,
    }
}
