//! `trainer_state.json` as Hugging Face's Trainer writes it: how far a run is and what it logged.
//!
//! Only keys that every version of transformers knows are written, because `TrainerState.load_from_json`
//! rejects any other. Numbers keep all their digits: an f32 reads back as the same f32, an f64 as the same f64.
//! A number that is not finite is written as null (JSON has no other way), and read as absent.
//! Does not: hold what a resume needs to be exact (optimizer moments, random state); that is saved beside it.

use std::io;
use std::path::{Path, PathBuf};

use litemap::LiteMap;
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use crate::files::FileError;
use crate::files::atomic::write_bytes;

/// File name in a checkpoint or output directory.
pub const FILE: &str = "trainer_state.json";

/// Why a trainer state cannot be read.
#[derive(Debug, Error)]
pub enum TrainerStateError {
    /// The file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what the Trainer writes.
    #[error("`{}` is not a trainer state: {source}; restore it from a checkpoint", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What was expected and where.
        source: serde_json::Error,
    },
}

/// Values of a log entry by their names. A sorted list: most entries have few, and a tree takes 632 bytes for the first.
pub type Others = LiteMap<String, serde_json::Value>;

/// One entry of the log. Evaluations and the closing entry have their values in `other`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LogEntry {
    /// Epochs done, with the part of the current one.
    pub epoch: f64,
    /// Norm of the gradient before clipping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<f32>,
    /// Learning rate that the step used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Mean loss over the steps since the entry before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f32>,
    /// Optimizer steps done.
    pub step: u64,
    /// Everything else, by name: `eval_loss`, `eval_accuracy`, `train_runtime` and so on. Numbers, texts and truth values.
    #[serde(flatten, serialize_with = "as_map")]
    pub other: Others,
}

impl LogEntry {
    /// An entry of training.
    pub fn training(step: u64, epoch: f64, loss: f32, grad_norm: f32, learning_rate: f64) -> LogEntry {
        LogEntry {
            epoch,
            grad_norm: Some(grad_norm),
            learning_rate: Some(learning_rate),
            loss: Some(loss),
            step,
            other: Others::new(),
        }
    }
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    /// Best value of the metric that chooses a model, if one does.
    #[serde(default)]
    pub best_metric: Option<f64>,
    /// Checkpoint directory with that value.
    #[serde(default)]
    pub best_model_checkpoint: Option<String>,
    /// Epochs done, with the part of the current one; none before the first step.
    pub epoch: Option<f64>,
    /// Optimizer steps done.
    pub global_step: u64,
    /// True while hyper-parameters are searched; never here.
    #[serde(default)]
    pub is_hyper_param_search: bool,
    /// True for the process that writes files on its machine.
    #[serde(default = "yes")]
    pub is_local_process_zero: bool,
    /// True for the one process that writes files.
    #[serde(default = "yes")]
    pub is_world_process_zero: bool,
    /// What was logged, oldest first.
    pub log_history: Vec<LogEntry>,
    /// Optimizer steps of the whole run.
    pub max_steps: u64,
    /// Epochs of the whole run, rounded up.
    pub num_train_epochs: u64,
    /// Floating-point operations so far; 0: not counted.
    #[serde(default)]
    pub total_flos: f64,
    /// Name of a trial of a search; never here.
    #[serde(default)]
    pub trial_name: Option<String>,
    /// Parameters of that trial; never here.
    #[serde(default, deserialize_with = "super::log_entry::scalars")]
    pub trial_params: Option<serde_json::Value>,
}

/// A list that is a map to whoever reads it, an empty one too.
fn as_map<S: Serializer>(values: &Others, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(values.iter())
}

fn yes() -> bool {
    true
}

impl Default for TrainerState {
    fn default() -> Self {
        Self::new(0, 0)
    }
}

impl TrainerState {
    /// The state before the first step of a run of `max_steps` steps and `num_train_epochs` epochs.
    pub fn new(max_steps: u64, num_train_epochs: u64) -> TrainerState {
        TrainerState {
            best_metric: None,
            best_model_checkpoint: None,
            epoch: None,
            global_step: 0,
            is_hyper_param_search: false,
            is_local_process_zero: true,
            is_world_process_zero: true,
            log_history: Vec::new(),
            max_steps,
            num_train_epochs,
            total_flos: 0.0,
            trial_name: None,
            trial_params: None,
        }
    }

    /// Reads the state from the file `path`, which gptjc or Hugging Face's Trainer wrote.
    ///
    /// # Errors
    /// [`TrainerStateError`] naming the file.
    pub fn load(path: &Path) -> Result<TrainerState, TrainerStateError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| TrainerStateError::Read { path: path.to_owned(), source })?;
        serde_json::from_str(&text)
            .map_err(|source| TrainerStateError::Parse { path: path.to_owned(), source })
    }

    /// Writes the state to the file `path`, atomically.
    ///
    /// # Errors
    /// [`FileError`] naming the file; what was there before stays.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        write_bytes(path, self.to_json(path)?.as_bytes())
    }

    /// The text of the file `path`.
    pub(super) fn to_json(&self, path: &Path) -> Result<String, FileError> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| FileError::new("write", path, io::Error::other(error)))?;
        Ok(text + "\n")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn there_and_back(state: &TrainerState) -> (TrainerState, serde_json::Value) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        state.save(&path).unwrap();
        let json = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        (TrainerState::load(&path).unwrap(), json)
    }

    #[test]
    fn the_keys_are_those_that_every_transformers_knows() {
        let mut state = TrainerState::new(20, 1);
        state.log_history.push(LogEntry::training(1, 0.05, 6.3495994, 1.6976181, 0.00033113761));
        let (back, json) = there_and_back(&state);
        assert_eq!(back, state);
        let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "best_metric",
                "best_model_checkpoint",
                "epoch",
                "global_step",
                "is_hyper_param_search",
                "is_local_process_zero",
                "is_world_process_zero",
                "log_history",
                "max_steps",
                "num_train_epochs",
                "total_flos",
                "trial_name",
                "trial_params"
            ]
        );
        let entry = json["log_history"][0].as_object().unwrap();
        let keys: Vec<&str> = entry.keys().map(String::as_str).collect();
        assert_eq!(keys, ["epoch", "grad_norm", "learning_rate", "loss", "step"]);
    }

    #[test]
    fn what_the_trainer_of_transformers_writes_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let text = r#"{"best_global_step": null, "best_metric": 0.5, "best_model_checkpoint": "out/checkpoint-2",
            "epoch": 1.0, "eval_steps": 500, "global_step": 2, "is_hyper_param_search": false,
            "is_local_process_zero": true, "is_world_process_zero": true, "logging_steps": 1, "max_steps": 2,
            "log_history": [{"epoch": 0.5, "grad_norm": 1.5, "learning_rate": 5e-05, "loss": 2.25, "step": 1},
                            {"epoch": 1.0, "eval_loss": 0.5, "eval_runtime": 0.1, "step": 2}],
            "num_input_tokens_seen": 0, "num_train_epochs": 1, "save_steps": 500,
            "stateful_callbacks": {"TrainerControl": {"args": {}, "attributes": {}}},
            "total_flos": 1e12, "train_batch_size": 8, "trial_name": null, "trial_params": null}"#;
        std::fs::write(&path, text).unwrap();
        let state = TrainerState::load(&path).unwrap();
        assert_eq!(state.log_history[0], LogEntry::training(1, 0.5, 2.25, 1.5, 5e-5));
        assert_eq!(state.log_history[1].other.get("eval_loss"), Some(&0.5.into()));
        assert_eq!((state.global_step, state.best_metric, state.total_flos), (2, Some(0.5), 1e12));
        assert_eq!(there_and_back(&state).0, state);
    }

    #[test]
    fn a_loss_that_is_not_finite_is_null() {
        let mut state = TrainerState::new(1, 1);
        state.log_history.push(LogEntry::training(1, 1.0, f32::NAN, f32::INFINITY, 0.0));
        let (back, json) = there_and_back(&state);
        assert!(json["log_history"][0]["loss"].is_null() && json["log_history"][0]["grad_norm"].is_null());
        assert_eq!(back.log_history[0].loss, None);
    }

    #[test]
    fn a_broken_file_is_named_with_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let message = TrainerState::load(&path).unwrap_err().to_string();
        assert!(message.contains(FILE) && message.contains("No such file"), "{message}");
        std::fs::write(&path, "{\"epoch\": 1.0,\n \"global_step\": -1}").unwrap();
        let message = TrainerState::load(&path).unwrap_err().to_string();
        assert!(message.contains("not a trainer state") && message.contains("line 2"), "{message}");
    }

    proptest! {
        #[test]
        fn all_digits_survive(loss in 0f32..1e6, grad_norm in proptest::num::f32::POSITIVE, learning_rate in 0f64..1.0, epoch in 0f64..100.0) {
            let entry = LogEntry::training(3, epoch, loss, grad_norm, learning_rate);
            let text = serde_json::to_string(&entry).unwrap();
            let back: LogEntry = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(back.loss.map(f32::to_bits), Some(loss.to_bits()), "{}", text);
            prop_assert_eq!(back.grad_norm.map(f32::to_bits), Some(grad_norm.to_bits()), "{}", text);
            prop_assert_eq!(back.learning_rate.map(f64::to_bits), Some(learning_rate.to_bits()), "{}", text);
            prop_assert_eq!(back.epoch.to_bits(), epoch.to_bits(), "{}", text);
        }
    }
}
