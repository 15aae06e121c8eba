//! Writes what a run leaves.

use super::event_file::{EventFile, seconds_since_1970};
use super::metrics_file::{METRICS_FILE, MetricsFile, MetricsLine};
use super::profile::TrainingSteps;
use super::run_record::{
    Answers, EvaluationRecord, RUN_FILE, RUN_FORMAT, RunExtent, RunFacts, RunRecord, RunStatus, Session,
};
use super::time::utc;
use crate::bench::step::peak_memory;
use crate::executor::StepTotals;
use crate::files::FileError;
use crate::train::{LogEntry, Observer, RunStart, StepReport, Stopped};
use crate::validate::report::Report;
use gptjc_graphs::plan::Plan;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where event files are, below the output directory.
const RUNS: &str = "runs";

/// What the log is written to besides `trainer_state.json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportTo {
    /// `metrics.jsonl`.
    pub metrics: bool,
    /// TensorBoard's event files.
    pub tensorboard: bool,
}

/// Writes `metrics.jsonl`, TensorBoard's event files and `run.json` of a run.
pub struct Records<'a> {
    directory: PathBuf,
    report_to: ReportTo,
    record: RunRecord,
    steps: TrainingSteps,
    totals: Arc<StepTotals>,
    metrics: Option<MetricsFile>,
    events: Option<EventFile>,
    /// Tokens and seconds of the steps since the last entry of training.
    since_log: (usize, f64),
    /// What was counted in the evaluation whose entry comes next.
    answers: Vec<Answers>,
    warn: Box<dyn FnMut(&str) + 'a>,
}

impl<'a> Records<'a> {
    /// Records in `directory`, which exists, of a run of `plan` whose steps take what `totals` say; `warn` is told what
    /// cannot be written.
    pub fn new(
        directory: &Path,
        report_to: ReportTo,
        facts: RunFacts,
        (plan, totals): (&Plan, Arc<StepTotals>),
        warn: Box<dyn FnMut(&str) + 'a>,
    ) -> Self {
        Self {
            directory: directory.to_owned(),
            report_to,
            record: RunRecord { format: RUN_FORMAT, facts, ..RunRecord::default() },
            steps: TrainingSteps::of(plan),
            totals,
            metrics: None,
            events: None,
            since_log: (0, 0.0),
            answers: Vec::new(),
            warn,
        }
    }

    /// The record as it stands.
    pub fn record(&self) -> &RunRecord {
        &self.record
    }

    /// The run has ended in this way: the last that is written.
    pub fn finish(&mut self, status: RunStatus) {
        self.record.status = status;
        self.write();
    }

    /// Says what cannot be written; nothing if all could.
    fn check<T>(&mut self, result: Result<T, impl Display>) -> Option<T> {
        result.inspect_err(|error| (self.warn)(&format!("{error}; training goes on without it"))).ok()
    }

    fn open(&mut self, resumed_after: Option<u64>) {
        if self.report_to.metrics {
            let file = MetricsFile::open(&self.directory.join(METRICS_FILE), resumed_after);
            self.metrics = self.check(file);
        }
        if self.report_to.tensorboard {
            let now = utc(seconds_since_1970()).replace(' ', "_").replace(':', "-");
            let place = self.record.tensorboard.get_or_insert_with(|| format!("{RUNS}/{now}"));
            let file = EventFile::create(&self.directory.join(place.as_str()), resumed_after);
            self.events = self.check(file);
        }
    }

    fn session(&mut self) -> Option<&mut Session> {
        self.record.sessions.last_mut()
    }

    /// Writes `run.json`, with what is known by now.
    fn write(&mut self) {
        let time = self.steps.time(&self.totals);
        if let Some(session) = self.session() {
            session.updated = seconds_since_1970();
            session.peak_bytes = peak_memory();
            (session.families, session.waited) = (time.families, time.waited);
        }
        let synced = [
            self.metrics.as_ref().map(MetricsFile::sync),
            self.events.as_ref().map(EventFile::sync),
            Some(self.record.save(&self.directory.join(RUN_FILE))),
        ];
        for result in synced.into_iter().flatten() {
            self.check(result);
        }
    }

    /// Numbers of an entry, by their names in the log.
    fn numbers(entry: &LogEntry) -> Vec<(String, f64)> {
        let own = [
            ("loss", entry.loss.map(f64::from)),
            ("grad_norm", entry.grad_norm.map(f64::from)),
            ("learning_rate", entry.learning_rate),
            ("epoch", Some(entry.epoch)),
        ];
        let own = own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let other = entry.other.iter().filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)));
        own.chain(other).collect()
    }

    fn append(&mut self, entry: LogEntry) {
        let scalars: Vec<(String, f64)> =
            Self::numbers(&entry).into_iter().map(|(name, value)| (tag(&name), value)).collect();
        let line = MetricsLine { time: Some(seconds_since_1970()), entry };
        let results: [Option<Result<(), FileError>>; 2] = [
            self.metrics.as_mut().map(|file| file.append(&line)),
            self.events.as_mut().map(|file| file.scalars(line.entry.step, &scalars)),
        ];
        let [metrics, events] = results.map(|result| match result {
            Some(Err(error)) => Some(error),
            Some(Ok(())) | None => None,
        });
        if let Some(error) = metrics {
            self.metrics = self.check(Err(error));
        }
        if let Some(error) = events {
            self.events = self.check(Err(error));
        }
    }
}

/// The tag under which TensorBoard shows a number, as Hugging Face's callback names it.
fn tag(name: &str) -> String {
    match name.strip_prefix("eval_") {
        Some(name) => format!("eval/{name}"),
        None => format!("train/{name}"),
    }
}

impl Observer for Records<'_> {
    fn on_start(&mut self, run: &RunStart) {
        let RunStart { total_steps, first_step, epochs, windows, step_windows, .. } = *run;
        let resumed = self.record.facts.resumed_from.is_some();
        if resumed {
            let before = RunRecord::load(&self.directory.join(RUN_FILE));
            if let Some(before) = self.check(before).flatten() {
                let facts = std::mem::take(&mut self.record.facts);
                self.record = RunRecord { facts, status: RunStatus::Running, ..before.resumed(first_step) };
            }
        }
        self.record.extent = RunExtent { total_steps, epochs, windows, step_windows };
        let started = seconds_since_1970();
        self.record.sessions.push(Session {
            started,
            first_step,
            last_step: first_step,
            ..Session::default()
        });
        self.open(resumed.then_some(first_step));
        self.write();
    }

    fn on_step(&mut self, report: &StepReport) {
        self.since_log.0 += report.tokens;
        self.since_log.1 += report.seconds;
        if let Some(session) = self.session() {
            session.last_step = report.step;
            session.step_seconds += report.seconds;
            session.tokens += report.tokens as u64;
            session.labelled += report.labelled as u64;
        }
    }

    fn on_log(&mut self, entry: &LogEntry) {
        let mut entry = entry.clone();
        let metrics: BTreeMap<String, f64> =
            entry.other.iter().filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect();
        if entry.loss.is_some() {
            let (tokens, seconds) = std::mem::take(&mut self.since_log);
            let rate = tokens as f64 / seconds.max(1e-9);
            entry.other.insert("tokens_per_second".to_owned(), Value::from(rate));
        } else if metrics.keys().any(|name| name.starts_with("eval_")) {
            let answers = std::mem::take(&mut self.answers);
            let (step, epoch) = (entry.step, entry.epoch);
            if let Some(session) = self.session() {
                session.evaluation_seconds += metrics.get("eval_runtime").copied().unwrap_or_default();
            }
            self.record.evaluations.push(EvaluationRecord { step, epoch, metrics, answers });
            self.append(entry);
            self.write();
            return;
        }
        self.append(entry);
    }

    fn on_answers(&mut self, report: &Report) {
        self.answers.push(report.into());
    }

    fn on_save(&mut self, _directory: &Path) {
        self.write();
    }

    fn on_stop(&mut self, why: &Stopped) {
        self.record.status = match why {
            Stopped::ByFlag => RunStatus::Stopped,
            Stopped::Early => RunStatus::StoppedEarly,
        };
        self.write();
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
