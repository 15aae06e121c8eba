//! Checkpoints: everything that a run needs to go on as if it had not been stopped.
//!
//! `OUT/checkpoint-STEP`, as Hugging Face names them, is written when a step is done; `OUT/checkpoint-rolling` after a time,
//! or when a run is stopped, also between the micro-batches of a step. Both hold the same files: what was trained (PEFT's
//! adapter files, or the model), `optimizer.safetensors` (AdamW's moments), `trainer_state.json` (the log),
//! [`STATE_FILE`] (position, and what the run must be given to go on), and inside a step `gradient_sums.safetensors`: the
//! nodes of the window tree that stand for the windows so far. Random numbers are functions of seed, step and window, so
//! there is no other state.
//!
//! A checkpoint is written beside its place, every file flushed to disk, and renamed: it is there whole or not at all. A
//! disk that is full is tried again a few times; then the error ends the run, and the checkpoints before stay.
//!
//! Does not: decide when a run begins or ends, or which model is the best.

mod agreement;
mod error;
mod facts;
pub(crate) mod places;
pub(crate) mod saved;
mod state_file;
mod write;

pub use error::CheckpointError;
pub(crate) use facts::hash_windows;
pub use saved::Saved;
pub use state_file::STATE_FILE;
pub(crate) use write::FileSet;

use super::{RunState, TrainError, Trainer};
use crate::data::window::Window;
use crate::files::{FileError, atomic, space};
use facts::Facts;
use gptjc_graphs::plan::{Memory, Plan};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What the names of all checkpoints begin with.
const PREFIX: &str = "checkpoint-";
/// What stands behind it for the one that is replaced again and again.
const ROLLING: &str = "rolling";
const MOMENTS_FILE: &str = "optimizer.safetensors";
const SUMS_FILE: &str = "gradient_sums.safetensors";
/// Bytes of a checkpoint besides its tensors: headers, log, tokenizer files; more than they take.
const SMALL_FILES: u64 = 8 << 20;
/// How long to wait before a checkpoint is tried again for which there was no room.
const RETRIES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(20)];

/// Where checkpoints go and which stay.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointOptions {
    /// The output directory.
    pub directory: PathBuf,
    /// Checkpoints of steps that stay at most: the newest, and the best one besides; none for all.
    pub total_limit: Option<usize>,
    /// How long after one checkpoint a rolling one is written; none for never.
    pub rolling: Option<Duration>,
}

/// The checkpoints of a run.
#[derive(Debug)]
pub struct Checkpoints {
    options: CheckpointOptions,
    /// When the run began: tells its checkpoints from those of others in the same directory.
    run: u64,
    facts: Facts,
    /// Bytes of one checkpoint.
    bytes: u64,
    /// When the last one was written, or this began.
    last: Instant,
    retries: Vec<Duration>,
}

impl Checkpoints {
    /// For a new run of `trainer` over `windows`.
    ///
    /// # Errors
    /// [`TrainError`] if the trainer's options make no run.
    pub fn new(
        options: CheckpointOptions,
        trainer: &Trainer,
        windows: &[Window],
    ) -> Result<Self, TrainError> {
        let run = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
        Ok(Self {
            options,
            run,
            facts: Facts::of(trainer, windows)?,
            bytes: bytes(trainer.plan()),
            last: Instant::now(),
            retries: RETRIES.to_vec(),
        })
    }

    /// The run is one that began before.
    fn go_on(&mut self, run: u64) {
        self.run = run;
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Bytes that one checkpoint takes at most.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Proves that there is room for one checkpoint and the result.
    ///
    /// # Errors
    /// [`CheckpointError::Space`] with the numbers.
    pub fn check_space(&self) -> Result<(), CheckpointError> {
        let what = "one checkpoint and the result";
        match space::lacking(&self.options.directory, what, 2 * self.bytes) {
            Some(lack) => Err(lack.into()),
            None => Ok(()),
        }
    }

    /// The checkpoint of optimizer step `step`.
    pub fn of_step(&self, step: u64) -> PathBuf {
        self.options.directory.join(format!("{PREFIX}{step}"))
    }

    /// Where the rolling checkpoint is.
    pub fn rolling(&self) -> PathBuf {
        self.options.directory.join(format!("{PREFIX}{ROLLING}"))
    }

    /// Whether it is time for the rolling checkpoint.
    pub(super) fn is_rolling_due(&self) -> bool {
        self.options.rolling.is_some_and(|after| self.last.elapsed() >= after)
    }

    /// Writes the checkpoint of the step that was just done, and removes those that are too many.
    pub(super) fn save(&mut self, trainer: &mut Trainer, state: &RunState) -> Result<PathBuf, TrainError> {
        let target = self.of_step(state.trainer.global_step);
        self.write(&target, trainer, state)?;
        // It is older now.
        let rolling = self.rolling();
        if saved::is_checkpoint(&rolling) {
            atomic::remove_directory(&rolling)?;
        }
        self.rotate(&target, state)?;
        Ok(target)
    }

    /// Writes the rolling checkpoint.
    pub(super) fn roll(&mut self, trainer: &mut Trainer, state: &RunState) -> Result<PathBuf, TrainError> {
        let target = self.rolling();
        self.write(&target, trainer, state)?;
        Ok(target)
    }

    /// Removes the rolling checkpoint, when the result of the run is written.
    ///
    /// # Errors
    /// [`FileError`] naming it.
    pub fn finish(&self) -> Result<(), FileError> {
        let rolling = self.rolling();
        if rolling.is_dir() { atomic::remove_directory(&rolling) } else { Ok(()) }
    }

    fn write(&mut self, target: &Path, trainer: &mut Trainer, state: &RunState) -> Result<(), TrainError> {
        trainer.check_parameters()?;
        for pause in self.retries.clone() {
            match self.try_to_write(target, trainer, state) {
                Err(error) if is_full(&error) => std::thread::sleep(pause),
                result => return self.written(result, target),
            }
        }
        let result = self.try_to_write(target, trainer, state);
        self.written(result, target)
    }

    fn written(&mut self, result: Result<(), TrainError>, target: &Path) -> Result<(), TrainError> {
        self.last = Instant::now();
        result.map_err(|source| {
            let (directory, bytes) = (target.to_owned(), self.bytes);
            CheckpointError::Write { directory, bytes, source: Box::new(source) }.into()
        })
    }

    fn try_to_write(&self, target: &Path, trainer: &mut Trainer, state: &RunState) -> Result<(), TrainError> {
        if let Some(lack) = space::lacking(&self.options.directory, "a checkpoint", self.bytes) {
            return Err(CheckpointError::from(lack).into());
        }
        write::write(target, self.run, trainer, state, &self.facts)
    }

    /// Removes the oldest checkpoints of steps of this run, but for the newest, `newest`, and the best one.
    fn rotate(&self, newest: &Path, state: &RunState) -> Result<(), TrainError> {
        let Some(limit) = self.options.total_limit else { return Ok(()) };
        let mut own: Vec<(u64, PathBuf)> = Vec::new();
        for directory in saved::directories(&self.options.directory)? {
            // One that cannot be read, or is of another run, is nobody's to remove.
            let file = saved::step_of(&directory).and_then(|_| state_file::StateFile::load(&directory).ok());
            let Some(file) = file else { continue };
            if file.run == self.run {
                own.push((file.global_step, directory));
            }
        }
        own.sort();
        let best =
            state.trainer.best_model_checkpoint.as_deref().and_then(|best| Path::new(best).file_name());
        let too_many = own.len().saturating_sub(limit.max(1));
        let removable =
            own.iter().filter(|(_, directory)| directory != newest && directory.file_name() != best);
        for (_, directory) in removable.take(too_many) {
            atomic::remove_directory(directory)?;
        }
        Ok(())
    }
}

/// True if there was no room.
fn is_full(error: &TrainError) -> bool {
    let file = match error {
        TrainError::Checkpoint(CheckpointError::Space(_)) => return true,
        TrainError::File(file) | TrainError::Checkpoint(CheckpointError::File(file)) => file,
        _ => return false,
    };
    matches!(file.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Bytes of a checkpoint of `plan` at most: parameters, two moments, and sums at every level.
fn bytes(plan: &Plan) -> u64 {
    let kept = plan.buffers_in(Memory::Parameter).chain(plan.buffers_in(Memory::State));
    kept.filter_map(gptjc_graphs::plan::Buffer::bytes).sum::<u64>() + SMALL_FILES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_disk_is_tried_again() {
        let of = |kind: io::ErrorKind| TrainError::File(FileError::new("write", Path::new("a"), kind.into()));
        assert!(is_full(&of(io::ErrorKind::StorageFull)) && is_full(&of(io::ErrorKind::QuotaExceeded)));
        assert!(!is_full(&of(io::ErrorKind::FileTooLarge)) && !is_full(&of(io::ErrorKind::PermissionDenied)));
        let lack = space::lacking(Path::new("."), "a checkpoint", u64::MAX).unwrap();
        assert!(is_full(&CheckpointError::from(lack).into()));
        assert!(!is_full(&CheckpointError::None { directory: "a".into() }.into()));
    }
}
