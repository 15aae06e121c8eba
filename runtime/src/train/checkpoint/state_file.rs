//! `training_state.json`: where a run is, what it must be given to go on, and what the files beside it must be.

use super::CheckpointError;
use super::facts::Facts;
use crate::train::{Losses, RunState};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// File name in a checkpoint.
pub const STATE_FILE: &str = "training_state.json";

/// Version of the file; another one is refused.
const FORMAT: u32 = 1;

/// Length and checksum of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileFacts {
    pub(crate) bytes: u64,
    /// CRC-32 of the bytes.
    pub(crate) crc32: u32,
}

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StateFile {
    pub(crate) format: u32,
    /// Version of gptjc that wrote it.
    pub(crate) gptjc_version: String,
    /// When the run began, in milliseconds since 1970; the same in all of its checkpoints.
    pub(crate) run: u64,
    pub(crate) global_step: u64,
    /// Windows of the next optimizer step whose sums are in the tree.
    pub(crate) windows_done: usize,
    /// The evaluation after the last step is still to be done.
    pub(crate) evaluation_due: bool,
    pub(crate) losses: Losses,
    pub(crate) facts: Facts,
    /// The other files of the checkpoint, by name.
    pub(crate) files: BTreeMap<String, FileFacts>,
}

impl StateFile {
    pub(crate) fn new(run: u64, state: &RunState, facts: &Facts, files: BTreeMap<String, FileFacts>) -> Self {
        Self {
            format: FORMAT,
            gptjc_version: env!("CARGO_PKG_VERSION").to_owned(),
            run,
            global_step: state.trainer.global_step,
            windows_done: state.windows_done,
            evaluation_due: state.evaluation_due,
            losses: state.losses,
            facts: facts.clone(),
            files,
        }
    }

    /// What says which of two checkpoints is the newer one: of the later run, or farther in the same.
    pub(crate) fn position(&self) -> (u64, u64, usize, bool) {
        (self.run, self.global_step, self.windows_done, !self.evaluation_due)
    }

    /// Reads the file of the checkpoint `directory`.
    pub(crate) fn load(directory: &Path) -> Result<Self, CheckpointError> {
        let path = directory.join(STATE_FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(foreign(directory)),
            Err(source) => return Err(CheckpointError::Read { path, source }),
        };
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        match serde_json::from_slice::<Version>(&text) {
            Ok(Version { format }) if format != FORMAT => {
                Err(CheckpointError::Format { path, expected: FORMAT, found: format })
            }
            _ => serde_json::from_slice(&text).map_err(|source| CheckpointError::Parse { path, source }),
        }
    }

    /// The bytes of the file.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }
}

/// The error for a directory without the file.
fn foreign(directory: &Path) -> CheckpointError {
    let directory = directory.to_owned();
    if directory.join("optimizer.pt").exists() || directory.join("optimizer.bin").exists() {
        return CheckpointError::Transformers { directory };
    }
    if directory.is_dir() {
        CheckpointError::Foreign { directory }
    } else {
        CheckpointError::None { directory }
    }
}
