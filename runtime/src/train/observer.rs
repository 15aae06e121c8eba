//! Who is told how a run goes on.

use super::{LogEntry, StepReport};
use crate::validate::report::Report;
use std::path::Path;

/// What a run is going to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunStart {
    /// Optimizer steps of the whole run.
    pub total_steps: u64,
    /// Optimizer steps that were done before: 0, or where a resumed run goes on.
    pub first_step: u64,
    /// Passes over the data that the steps are.
    pub epochs: f64,
    /// Windows of an epoch.
    pub windows: usize,
    /// Windows of an optimizer step; the last one of an epoch may have fewer.
    pub step_windows: usize,
}

/// Why a run ended before its last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Somebody raised its stop flag.
    ByFlag,
    /// No model was better than the best one for too long.
    Early,
}

/// Two who are told, the first one first.
impl<A: Observer, B: Observer> Observer for (&mut A, &mut B) {
    fn on_start(&mut self, run: &RunStart) {
        self.0.on_start(run);
        self.1.on_start(run);
    }

    fn on_step(&mut self, report: &StepReport) {
        self.0.on_step(report);
        self.1.on_step(report);
    }

    fn on_log(&mut self, entry: &LogEntry) {
        self.0.on_log(entry);
        self.1.on_log(entry);
    }

    fn on_evaluate(&mut self, rows_done: usize, rows: usize) {
        self.0.on_evaluate(rows_done, rows);
        self.1.on_evaluate(rows_done, rows);
    }

    fn on_answers(&mut self, report: &Report) {
        self.0.on_answers(report);
        self.1.on_answers(report);
    }

    fn on_save(&mut self, directory: &Path) {
        self.0.on_save(directory);
        self.1.on_save(directory);
    }

    fn on_stop(&mut self, why: &Stopped) {
        self.0.on_stop(why);
        self.1.on_stop(why);
    }
}

/// Who is told how a run goes on.
pub trait Observer {
    /// The run begins.
    fn on_start(&mut self, run: &RunStart);
    /// An optimizer step is done.
    fn on_step(&mut self, report: &StepReport);
    /// An entry was added to the log: of training, of an evaluation, or the closing one.
    fn on_log(&mut self, entry: &LogEntry);
    /// An evaluation has done `rows_done` of its `rows` rows.
    fn on_evaluate(&mut self, rows_done: usize, rows: usize) {
        let _ = (rows_done, rows);
    }
    /// An evaluation has counted answers; its entry of the log comes next.
    fn on_answers(&mut self, report: &Report) {
        let _ = report;
    }
    /// A checkpoint was written.
    fn on_save(&mut self, directory: &Path) {
        let _ = directory;
    }
    /// The run ends before its last step.
    fn on_stop(&mut self, why: &Stopped) {
        let _ = why;
    }
}
