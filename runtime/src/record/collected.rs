//! What an output directory has of its run: for those who look at it later.

use super::metrics_file::{METRICS_FILE, MetricsLine, read_lines};
use super::run_record::{EvaluationRecord, RUN_FILE, RunRecord};
use crate::train::checkpoint::saved::step_of;
use crate::train::{LogEntry, TRAINER_STATE_FILE, TrainerState};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is left of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Collected {
    /// Its output directory.
    pub directory: PathBuf,
    /// The record of the run, if there is one.
    pub record: Option<RunRecord>,
    /// The log, oldest entry first.
    pub log: Vec<MetricsLine>,
    /// What is not there or cannot be read, and what that means: a sentence each.
    pub missing: Vec<String>,
}

/// A directory without a run.
#[derive(Debug, thiserror::Error)]
#[error(
    "there is nothing of a run in `{}`: expected {RUN_FILE}, {METRICS_FILE} or {TRAINER_STATE_FILE}{}",
    directory.display(),
    reasons.iter().map(|reason| format!("; {reason}")).collect::<String>()
)]
pub struct NoRun {
    /// The directory.
    pub directory: PathBuf,
    /// Why what is there cannot be used.
    pub reasons: Vec<String>,
}

impl Collected {
    /// Reads what `directory` has. A file that is missing or damaged leaves a gap.
    ///
    /// # Errors
    /// [`NoRun`] if there is nothing to be read.
    pub fn load(directory: &Path) -> Result<Self, NoRun> {
        let mut found = Self { directory: directory.to_owned(), ..Self::default() };
        let mut reasons = Vec::new();
        match RunRecord::load(&directory.join(RUN_FILE)) {
            Ok(record) => found.record = record,
            Err(error) => reasons.push(error.to_string()),
        }
        found.read_log(&mut reasons);
        if found.record.is_none() && found.log.is_empty() {
            return Err(NoRun { directory: directory.to_owned(), reasons });
        }
        if found.record.is_none() {
            found.missing.push(format!(
                "{RUN_FILE} is not there or cannot be read: machine, plan, times, memory and confusion matrices are not known"
            ));
        }
        if found.log.is_empty() {
            found.missing.push("the log is empty: there are no curves".to_owned());
        }
        found.missing.extend(reasons);
        Ok(found)
    }

    /// The log, of `metrics.jsonl` or else of the trainer's state.
    fn read_log(&mut self, reasons: &mut Vec<String>) {
        let path = self.directory.join(METRICS_FILE);
        if let Ok(bytes) = std::fs::read(&path) {
            let (lines, unread) = read_lines(&String::from_utf8_lossy(&bytes));
            if unread > 0 {
                self.missing
                    .push(format!("{unread} lines of {METRICS_FILE} cannot be read and are left out"));
            }
            self.log = lines;
        }
        if !self.log.is_empty() {
            return;
        }
        let Some(path) = trainer_state(&self.directory) else { return };
        match TrainerState::load(&path) {
            Ok(state) => {
                self.log =
                    state.log_history.into_iter().map(|entry| MetricsLine { time: None, entry }).collect();
                let place = path.strip_prefix(&self.directory).unwrap_or(&path).display().to_string();
                self.missing.push(format!("there is no {METRICS_FILE}: the log is that of {place}"));
            }
            Err(error) => reasons.push(error.to_string()),
        }
    }

    /// What evaluations found: as the run's record has it, or else as the log has it.
    pub fn evaluations(&self) -> Vec<EvaluationRecord> {
        let recorded = self.record.as_ref().map(|record| record.evaluations.clone()).unwrap_or_default();
        if !recorded.is_empty() {
            return recorded;
        }
        self.log.iter().filter_map(|line| evaluation(&line.entry)).collect()
    }
}

/// An entry of the log as an evaluation, if it is one.
fn evaluation(entry: &LogEntry) -> Option<EvaluationRecord> {
    let number = |(name, value): (&String, &serde_json::Value)| Some((name.clone(), value.as_f64()?));
    let metrics: BTreeMap<String, f64> =
        entry.other.iter().filter(|(name, _)| name.starts_with("eval_")).filter_map(number).collect();
    let (step, epoch) = (entry.step, entry.epoch);
    (!metrics.is_empty()).then(|| EvaluationRecord { step, epoch, metrics, answers: Vec::new() })
}

/// The trainer's state of the run, or of its latest checkpoint.
fn trainer_state(directory: &Path) -> Option<PathBuf> {
    let own = directory.join(TRAINER_STATE_FILE);
    if own.is_file() {
        return Some(own);
    }
    let entries = std::fs::read_dir(directory).ok()?.filter_map(Result::ok);
    let checkpoints =
        entries.filter_map(|entry| Some((step_of(&entry.path())?, entry.path().join(TRAINER_STATE_FILE))));
    checkpoints.filter(|(_, path)| path.is_file()).max().map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Others;

    fn state(steps: u64) -> TrainerState {
        let mut state = TrainerState::new(20, 1);
        for step in 1..=steps {
            state.log_history.push(LogEntry::training(step, 0.1, 2.0, 1.0, 1e-4));
        }
        let other = Others::from_iter([("eval_loss".to_owned(), 1.5.into())]);
        state.log_history.push(LogEntry { step: steps, epoch: 0.1, other, ..LogEntry::default() });
        state
    }

    #[test]
    fn the_latest_checkpoint_has_the_log_of_a_run_that_was_cut_short() {
        let directory = tempfile::tempdir().unwrap();
        let error = Collected::load(directory.path()).unwrap_err().to_string();
        assert!(error.starts_with("there is nothing of a run in") && error.contains("run.json"), "{error}");
        for step in [2, 10] {
            let checkpoint = directory.path().join(format!("checkpoint-{step}"));
            std::fs::create_dir(&checkpoint).unwrap();
            state(step).save(&checkpoint.join(TRAINER_STATE_FILE)).unwrap();
        }
        std::fs::create_dir(directory.path().join("checkpoint-99")).unwrap();
        let found = Collected::load(directory.path()).unwrap();
        assert_eq!((found.log.len(), &found.record), (11, &None));
        assert!(found.missing[0].contains("checkpoint-10/trainer_state.json"), "{:?}", found.missing);
        assert!(found.missing[1].starts_with("run.json is not there"), "{:?}", found.missing);
        let evaluations = found.evaluations();
        assert_eq!(
            (evaluations.len(), evaluations[0].step, evaluations[0].metrics["eval_loss"]),
            (1, 10, 1.5)
        );
    }

    #[test]
    fn damaged_files_leave_gaps() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write(RUN_FILE, "{");
        let error = Collected::load(directory.path()).unwrap_err().to_string();
        assert!(error.contains("is no record of a run"), "{error}");
        write(METRICS_FILE, "{\"step\": 1, \"epoch\": 0.5, \"loss\": 1.5}\n{\"step\": 2, \"ep");
        let found = Collected::load(directory.path()).unwrap();
        assert_eq!((found.log.len(), found.log[0].entry.loss), (1, Some(1.5)));
        assert_eq!(found.missing.len(), 3, "{:?}", found.missing);
    }
}
