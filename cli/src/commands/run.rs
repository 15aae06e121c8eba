//! A run of a trainer: where it begins, where its checkpoints go, what stops it.

use super::progress::Progress;
use super::{Outcome, ranks};
use crate::console::Console;
use crate::error::CliError;
use crate::flags::checkpoint::{CheckpointFlags, ResumeFrom};
use crate::flags::values::human_bytes;
use crate::signals;
use gptjc_runtime::data::window::Window;
use gptjc_runtime::evaluate::BestModelOptions;
use gptjc_runtime::record::{Records, ReportTo, RunFacts, RunStatus};
use gptjc_runtime::train::checkpoint::{CheckpointError, CheckpointOptions, Checkpoints, Saved};
use gptjc_runtime::train::{
    Evaluator, Finished, Job, LogEntry, Observer, RunStart, RunState, StepReport, Stopped,
    TRAINER_STATE_FILE, TrainError, Trainer, evaluate, train,
};
use std::path::Path;
use std::time::{Duration, Instant};

/// What a run goes on from, found and proved whole before anything else is done.
pub(crate) fn find(
    flags: &CheckpointFlags,
    output_dir: &Path,
    console: Console,
) -> Result<Option<Saved>, CliError> {
    let failed = |error: CheckpointError| CliError::Resume(error.into());
    match flags.resume() {
        None | Some(ResumeFrom::Nothing) => Ok(None),
        Some(ResumeFrom::Directory(directory)) => Saved::open(directory).map(Some).map_err(failed),
        Some(ResumeFrom::Newest) => {
            let (saved, passed) = Saved::newest(output_dir).map_err(failed)?;
            passed.iter().for_each(|line| console.warn(line));
            Ok(Some(saved))
        }
    }
}

/// A run that is about to begin.
pub(crate) struct Run<'a> {
    pub(crate) trainer: &'a mut Trainer,
    pub(crate) windows: &'a [Window],
    pub(crate) evaluator: Option<&'a mut dyn Evaluator>,
    /// How models are compared.
    pub(crate) policy: BestModelOptions,
    pub(crate) flags: &'a CheckpointFlags,
    pub(crate) output_dir: &'a Path,
    /// What the log is written to, and what the record says of the run.
    pub(crate) report_to: ReportTo,
    pub(crate) facts: RunFacts,
    /// How long to wait for another rank.
    pub(crate) patience: Option<Duration>,
    pub(crate) console: Console,
}

/// Who is told how a run goes on: nobody, on a rank that is not the first.
struct Observers<'a>(Option<(Progress, Records<'a>)>);

impl Observers<'_> {
    fn finish_progress(&self) {
        if let Some((progress, _)) = &self.0 {
            progress.finish();
        }
    }

    fn finish_record(&mut self, status: RunStatus) {
        if let Some((_, records)) = &mut self.0 {
            records.finish(status);
        }
    }

    fn observe<T>(&mut self, run: impl FnOnce(&mut dyn Observer) -> T) -> T {
        match &mut self.0 {
            Some((progress, records)) => run(&mut (progress, records)),
            None => run(&mut Nobody),
        }
    }
}

/// An observer that is told in vain.
struct Nobody;

impl Observer for Nobody {
    fn on_start(&mut self, _run: &RunStart) {}
    fn on_step(&mut self, _report: &StepReport) {}
    fn on_log(&mut self, _entry: &LogEntry) {}
}

impl Run<'_> {
    /// Trains from `saved` on, or anew, and writes what was trained.
    pub(crate) fn go(mut self, saved: Option<Saved>) -> Result<Outcome, CliError> {
        let options = CheckpointOptions {
            directory: self.output_dir.to_owned(),
            total_limit: self.flags.save_total_limit.map(|limit| limit as usize),
            rolling: self.flags.rolling(),
        };
        let mut checkpoints = Checkpoints::new(options, self.trainer, self.windows).map_err(failed)?;
        if self.trainer.ranks().is_first() {
            checkpoints.check_space().map_err(|error| failed(error.into()))?;
        }
        self.facts.resumed_from = saved.as_ref().map(|saved| saved.directory().display().to_string());
        let state = match saved {
            Some(saved) => self.resume(saved, &mut checkpoints)?,
            None => RunState::default(),
        };
        let evaluation = || {
            let measured = self.evaluator.as_ref().map(|evaluator| evaluator.identity());
            format!("{:?}; {}", self.policy, measured.unwrap_or_default())
        };
        ranks::agree(self.trainer, &checkpoints, &state, evaluation, self.patience)?;
        let mut observers = self.observers();
        let finished = self.train(state, &mut checkpoints, &mut observers);
        let result = finished.and_then(|finished| self.end(finished, &checkpoints, &mut observers));
        if result.is_err() {
            observers.finish_record(RunStatus::Failed);
        }
        result
    }

    fn observers(&mut self) -> Observers<'static> {
        if !self.trainer.ranks().is_first() {
            return Observers(None);
        }
        let console = self.console;
        let warn = Box::new(move |text: &str| console.warn(text));
        let totals = self.trainer.executor().step_totals();
        let facts = std::mem::take(&mut self.facts);
        let records =
            Records::new(self.output_dir, self.report_to, facts, (self.trainer.plan(), totals), warn);
        Observers(Some((Progress::new(console, self.trainer.options().eval), records)))
    }

    /// What follows training.
    fn end(
        self,
        finished: Finished,
        checkpoints: &Checkpoints,
        observers: &mut Observers<'_>,
    ) -> Result<Outcome, CliError> {
        let Finished { state, stopped } = finished;
        if stopped == Some(Stopped::ByFlag) {
            self.console.warn(&format!(
                "stopped after step {} of {}; go on with the same command and --resume-from-checkpoint",
                state.trainer.global_step, state.trainer.max_steps
            ));
            return Ok(Outcome::Stopped);
        }
        self.finish(state, checkpoints, observers)?;
        let early = stopped == Some(Stopped::Early);
        observers.finish_record(if early { RunStatus::StoppedEarly } else { RunStatus::Finished });
        Ok(Outcome::Done)
    }

    fn resume(&mut self, saved: Saved, checkpoints: &mut Checkpoints) -> Result<RunState, CliError> {
        let (step, windows) = saved.position();
        let directory = saved.directory().display().to_string();
        let resumed = saved.resume(self.trainer, checkpoints, self.flags.resume_on_other_isa);
        let (state, notes) = resumed.map_err(|error| CliError::Resume(error.into()))?;
        notes.iter().for_each(|note| self.console.warn(note));
        let inside = if windows > 0 { format!(" and {windows} windows of the next") } else { String::new() };
        self.console.line(&format!("resumed from {directory}: {step} steps{inside} are done"));
        Ok(state)
    }

    fn train(
        &mut self,
        state: RunState,
        checkpoints: &mut Checkpoints,
        observers: &mut Observers<'_>,
    ) -> Result<Finished, CliError> {
        let stop = self.trainer.stop_flag();
        signals::raise(&stop).map_err(CliError::Signals)?;
        let (started, before) = (Instant::now(), state.trainer.global_step);
        let evaluator = self.evaluator.as_mut().map(|evaluator| &mut **evaluator as &mut dyn Evaluator);
        let writes = self.trainer.ranks().is_first();
        let (trainer, windows, policy) = (&mut *self.trainer, self.windows, self.policy.clone());
        let finished = observers.observe(|observer| {
            let checkpoints = writes.then_some(checkpoints);
            let evaluator = evaluator.map(|evaluator| evaluator as &mut dyn Evaluator);
            train(trainer, Job { windows, evaluator, observer, checkpoints, policy, stop: &stop }, state)
        });
        observers.finish_progress();
        let finished = finished.map_err(failed)?;
        let steps = finished.state.trainer.global_step - before;
        self.console.line(&format!("{steps} steps in {:.1} s", started.elapsed().as_secs_f64()));
        ranks::tell_traffic(self.trainer.ranks(), steps, self.console);
        let streamed = self.trainer.executor().streamed();
        if streamed.bytes > 0 {
            let (bytes, stall) = (human_bytes(streamed.bytes), streamed.stall.as_secs_f64());
            self.console
                .line(&format!("{bytes} of weights were read meanwhile; steps waited {stall:.1} s for them"));
        }
        Ok(finished)
    }

    /// Goes back to the best model, if that was asked for and one was saved: on all ranks, though only the first knows where.
    fn load_best(&mut self, state: &RunState) -> Result<(), CliError> {
        if !self.policy.load_best_model_at_end {
            return Ok(());
        }
        let loaded = match self.trainer.ranks().is_first() {
            true => self.load_best_here(state),
            false => Ok(()),
        };
        ranks::together(self.trainer.ranks(), loaded)?;
        self.trainer.share_parameters().map_err(failed)
    }

    fn load_best_here(&mut self, state: &RunState) -> Result<(), CliError> {
        let best = state.trainer.best_model_checkpoint.as_deref().map(Path::new);
        // The directory may have been moved as a whole, or the run may go on in another one.
        let here = best.and_then(|best| Some(self.output_dir.join(best.file_name()?)));
        let saved = here.into_iter().chain(best.map(Path::to_owned)).find(|directory| directory.is_dir());
        let Some(directory) = saved else {
            self.console.warn(
                "--load-best-model-at-end: there is no checkpoint of the best model, the result is the last one",
            );
            return Ok(());
        };
        self.trainer.read_parameters(&directory).map_err(failed)?;
        let metric = state.trainer.best_metric.unwrap_or(f64::NAN);
        let (name, directory) = (self.policy.metric(), directory.display());
        self.console.line(&format!("the result is the best model, that of {directory}: {name} {metric:.4}"));
        Ok(())
    }

    /// Writes the result, and evaluates it if the loop has not.
    fn finish(
        mut self,
        mut state: RunState,
        checkpoints: &Checkpoints,
        observers: &mut Observers<'_>,
    ) -> Result<(), CliError> {
        self.load_best(&state)?;
        let written = match self.trainer.ranks().is_first() {
            true => self.write(&state, checkpoints),
            false => Ok(()),
        };
        ranks::together(self.trainer.ranks(), written)?;
        let here = state.trainer.log_history.iter().filter(|entry| entry.step == state.trainer.global_step);
        let is_evaluated = here.into_iter().any(|entry| entry.other.contains_key("eval_runtime"));
        if let Some(evaluator) = self.evaluator.filter(|_| !is_evaluated) {
            // What was trained is safe by now, whatever happens here.
            let trainer = &mut *self.trainer;
            let evaluated = observers.observe(|observer| evaluate(trainer, evaluator, observer, &mut state));
            evaluated.map_err(|error| match error {
                error if error.is_stop() => CliError::EvaluationStopped { path: self.output_dir.to_owned() },
                error => failed(error),
            })?;
            if self.trainer.ranks().is_first() {
                state.trainer.save(&self.output_dir.join(TRAINER_STATE_FILE))?;
            }
        }
        self.console.line(&format!("wrote {}", self.output_dir.display()));
        Ok(())
    }

    fn write(&mut self, state: &RunState, checkpoints: &Checkpoints) -> Result<(), CliError> {
        self.trainer.check_parameters().map_err(failed)?;
        self.trainer.save(self.output_dir).map_err(failed)?;
        state.trainer.save(&self.output_dir.join(TRAINER_STATE_FILE))?;
        checkpoints.finish()?;
        Ok(())
    }
}

/// The error of a run.
pub(crate) fn failed(source: TrainError) -> CliError {
    CliError::Train(source.into())
}
