//! `run.json`: what a run was asked for, where it ran, what it was expected to take, and what it took.
//!
//! The file is written again, whole, at every save and at the end, so that it can be read while the run goes on and after it
//! was cut short. A run that is resumed adds a *session*; what it did before stays.

use crate::files::FileError;
use crate::files::atomic::write_bytes;
use crate::validate::report::Report;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// File name in an output directory.
pub const RUN_FILE: &str = "run.json";

/// Version of the file's form.
pub const RUN_FORMAT: u32 = 1;

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`RUN_FORMAT`].
    pub format: u32,
    /// What was asked for, the latest session's.
    pub facts: RunFacts,
    /// What is known of its length.
    pub extent: RunExtent,
    /// How it stands.
    pub status: RunStatus,
    /// Each start of the program, the first one first.
    pub sessions: Vec<Session>,
    /// What evaluations found, by optimizer step.
    pub evaluations: Vec<EvaluationRecord>,
    /// Directory of the event files, from the output directory; none if TensorBoard is not written for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensorboard: Option<String>,
}

/// What is known before a run starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunFacts {
    /// The command line, program first.
    pub command: Vec<String>,
    /// Version of gptjc.
    pub gptjc: String,
    /// Version of the plan format.
    pub plan_format: u32,
    /// The machine.
    pub machine: MachineFacts,
    /// The model.
    pub model: ModelFacts,
    /// The plan.
    pub plan: PlanFacts,
    /// Data and options by name, for people.
    pub settings: BTreeMap<String, String>,
    /// The checkpoint that the session went on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed_from: Option<String>,
}

/// The machine of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineFacts {
    /// Name of the processor.
    pub cpu: String,
    /// Cores that may be used, sockets, and threads that compute.
    pub cores: usize,
    /// Sockets.
    pub sockets: usize,
    /// Threads that compute.
    pub threads: usize,
    /// Instruction set of the plan's kernels.
    pub isa: String,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// The model of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelFacts {
    /// Its directory, as it was given.
    pub directory: String,
    /// Blocks.
    pub n_layer: u64,
    /// Width.
    pub n_embd: u64,
    /// Heads.
    pub n_head: u64,
    /// Tokens of the vocabulary.
    pub vocab_size: u64,
    /// Parameters.
    pub parameters: u64,
    /// Of them and of the adapters, those that are trained.
    pub trained: u64,
}

/// The plan of a run, and what it is expected to take, every window full and every token labelled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanFacts {
    /// `bf16` or `f32`.
    pub precision: String,
    /// How examples become windows.
    pub packing: String,
    /// Tokens of a window.
    pub max_seq_length: u64,
    /// Windows of a micro-batch.
    pub micro_batch: u64,
    /// Windows of an optimizer step at most.
    pub step_windows: u64,
    /// The adapters in a line, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<String>,
    /// Bytes of memory at the peak.
    pub peak_bytes: u64,
    /// Of them: weights, what is kept between steps, temporaries, streamed weights, everything else of the process.
    pub memory: Vec<(String, u64)>,
    /// The budget, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_bytes: Option<u64>,
    /// Seconds of an optimizer step.
    pub step_seconds: f64,
    /// Seconds of it that steps wait for weights.
    pub wait_seconds: f64,
    /// Seconds of it by kind of kernel.
    pub families: BTreeMap<String, f64>,
}

/// How long a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunExtent {
    /// Optimizer steps of the whole run.
    pub total_steps: u64,
    /// Passes over the data.
    pub epochs: f64,
    /// Windows of an epoch.
    pub windows: usize,
    /// Windows of an optimizer step.
    pub step_windows: usize,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It goes on, or it was cut short and nothing could be written any more.
    #[default]
    Running,
    /// All steps are done.
    Finished,
    /// It was ended early: no model was better for too long.
    StoppedEarly,
    /// It was stopped, by a signal.
    Stopped,
    /// It ended with an error.
    Failed,
}

/// One start of the program, up to its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    /// When it began, in seconds since 1970.
    pub started: f64,
    /// When this was written.
    pub updated: f64,
    /// Optimizer steps done before it.
    pub first_step: u64,
    /// Optimizer steps done.
    pub last_step: u64,
    /// Seconds of its optimizer steps.
    pub step_seconds: f64,
    /// Seconds of its evaluations.
    pub evaluation_seconds: f64,
    /// Token slots of its optimizer steps.
    pub tokens: u64,
    /// Of them, those with a label.
    pub labelled: u64,
    /// The most memory that the process has had, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
    /// Seconds of training by kind of kernel: of `micro_step` and `apply`.
    pub families: BTreeMap<String, f64>,
    /// Seconds that training waited for weights.
    pub waited: f64,
}

/// What an evaluation found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Optimizer steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: f64,
    /// The metrics by name.
    pub metrics: BTreeMap<String, f64>,
    /// What was counted, if rows were answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answers>,
}

/// How rows were answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// `score` or `generate`.
    pub mode: String,
    /// Rows with a label.
    pub counted: u64,
    /// Of them, rows whose answer is their label.
    pub correct: u64,
    /// Wilson's 95 % confidence interval of the accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    /// Rows by label and answer: the labels in the order of GLUE's ids, and no label.
    pub confusion: [[u64; 4]; 3],
}

impl From<&Report> for Answers {
    fn from(report: &Report) -> Self {
        Self {
            mode: report.mode.to_owned(),
            counted: report.counted,
            correct: report.correct,
            interval: report.interval,
            confusion: report.confusion,
        }
    }
}

/// A file that holds no record of a run.
#[derive(Debug, thiserror::Error)]
pub enum RunRecordError {
    /// The file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is something else.
    #[error("`{}` is no record of a run: {source}", path.display())]
    Parse {
        /// The file.
        path: std::path::PathBuf,
        /// What was expected and where.
        source: serde_json::Error,
    },
}

impl RunRecord {
    /// Reads the file `path`; none if there is none.
    ///
    /// # Errors
    /// [`RunRecordError`] naming the file.
    pub fn load(path: &Path) -> Result<Option<Self>, RunRecordError> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(RunRecordError::Read { path: path.to_owned(), source }),
        };
        let parsed = serde_json::from_slice(&text);
        parsed.map(Some).map_err(|source| RunRecordError::Parse { path: path.to_owned(), source })
    }

    /// Writes the file `path`, atomically.
    ///
    /// # Errors
    /// [`FileError`] naming the file; what was there before stays.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| FileError::new("write", path, io::Error::other(error)))?;
        write_bytes(path, (text + "\n").as_bytes())
    }

    /// This record for a run that goes on after `first_step` steps: what was found after them is taken back.
    pub(super) fn resumed(mut self, first_step: u64) -> Self {
        self.evaluations.retain(|evaluation| evaluation.step <= first_step);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_and_parts_may_be_missing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(RUN_FILE);
        assert_eq!(RunRecord::load(&path).unwrap(), None);
        let record = RunRecord {
            format: RUN_FORMAT,
            status: RunStatus::StoppedEarly,
            sessions: vec![Session {
                families: [("attention".to_owned(), 0.1)].into(),
                ..Session::default()
            }],
            evaluations: vec![EvaluationRecord {
                step: 5,
                metrics: [("eval_loss".to_owned(), 0.1 + 0.2)].into(),
                answers: vec![Answers { interval: Some([0.1, 0.9]), ..Answers::default() }],
                ..EvaluationRecord::default()
            }],
            ..RunRecord::default()
        };
        record.save(&path).unwrap();
        assert_eq!(RunRecord::load(&path).unwrap(), Some(record));
        std::fs::write(
            &path,
            r#"{"format": 1, "facts": {"gptjc": "0.1.0"}, "extent": {}, "status": "finished",
            "sessions": [{"started": 1.0}], "evaluations": [], "more": 3}"#,
        )
        .unwrap();
        let record = RunRecord::load(&path).unwrap().unwrap();
        assert_eq!((record.facts.gptjc.as_str(), record.status), ("0.1.0", RunStatus::Finished));
        std::fs::write(&path, "[]").unwrap();
        assert!(RunRecord::load(&path).unwrap_err().to_string().contains("is no record of a run"));
    }

    #[test]
    fn what_comes_after_a_resume_is_taken_back() {
        let at = |step| EvaluationRecord { step, ..EvaluationRecord::default() };
        let record = RunRecord { evaluations: vec![at(5), at(10), at(15)], ..RunRecord::default() };
        let steps: Vec<u64> = record.resumed(10).evaluations.iter().map(|found| found.step).collect();
        assert_eq!(steps, [5, 10]);
    }
}
