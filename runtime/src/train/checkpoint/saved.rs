//! A checkpoint on disk: finding it, proving that it is whole, going on from it.

use super::places::{self, Place};
use super::state_file::{FileFacts, STATE_FILE, StateFile};
use super::{CheckpointError, Checkpoints, MOMENTS_FILE, PREFIX, SUMS_FILE};
use crate::train::{RunState, TRAINER_STATE_FILE, TrainError, Trainer, TrainerState};
use crate::weights::convert::read_f32;
use crate::weights::{SafetensorsFile, TensorView, WeightDtype};
use safetensors::Dtype;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A whole checkpoint.
#[derive(Debug)]
pub struct Saved {
    directory: PathBuf,
    file: StateFile,
    trainer: TrainerState,
}

impl Saved {
    /// The checkpoint `directory`, every file of which has the length and the checksum that it was written with.
    ///
    /// # Errors
    /// [`CheckpointError`] naming the file that is missing, cut off, changed or something else.
    pub fn open(directory: &Path) -> Result<Self, CheckpointError> {
        Self::prove(directory, StateFile::load(directory)?)
    }

    fn prove(directory: &Path, file: StateFile) -> Result<Self, CheckpointError> {
        for (name, facts) in &file.files {
            check_file(&directory.join(name), *facts)?;
        }
        let trainer = TrainerState::load(&directory.join(TRAINER_STATE_FILE))?;
        Ok(Self { directory: directory.to_owned(), file, trainer })
    }

    /// The newest whole checkpoint in the output directory `parent`: of the run that began last the one that is farthest.
    /// Also says which were passed over because they are not whole.
    ///
    /// # Errors
    /// [`CheckpointError`] if there is none: of the first that is not whole, if there are such.
    pub fn newest(parent: &Path) -> Result<(Self, Vec<String>), CheckpointError> {
        let (mut candidates, mut errors) = (Vec::new(), Vec::new());
        for directory in directories(parent)? {
            match StateFile::load(&directory) {
                Ok(file) => candidates.push((directory, file)),
                Err(error) => errors.push(error),
            }
        }
        candidates.sort_by_key(|(_, file)| std::cmp::Reverse(file.position()));
        for (directory, file) in candidates {
            match Self::prove(&directory, file) {
                Ok(saved) => {
                    let passed = errors.iter().map(|error| format!("passed over: {error}")).collect();
                    return Ok((saved, passed));
                }
                Err(error) => errors.push(error),
            }
        }
        Err(errors.into_iter().next().unwrap_or(CheckpointError::None { directory: parent.to_owned() }))
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Optimizer steps done, and windows of the next one.
    pub fn position(&self) -> (u64, usize) {
        (self.file.global_step, self.file.windows_done)
    }

    /// Puts `trainer` where the checkpoint was made; `checkpoints` go on as those of its run. Also says what is worth
    /// knowing. With `any_rounding`, kernels may round otherwise.
    ///
    /// # Errors
    /// [`CheckpointError`] if the run has other settings, data or kernels, or a tensor is not the plan's.
    pub fn resume(
        self,
        trainer: &mut Trainer,
        checkpoints: &mut Checkpoints,
        any_rounding: bool,
    ) -> Result<(RunState, Vec<String>), TrainError> {
        let notes = self.check(checkpoints, any_rounding)?;
        trainer.read_parameters(&self.directory)?;
        let plan = trainer.plan();
        let (moments, sums) = (places::moments(plan), places::sums(plan, self.file.windows_done));
        read(&self.directory.join(MOMENTS_FILE), &moments, trainer)?;
        if !sums.is_empty() {
            read(&self.directory.join(SUMS_FILE), &sums, trainer)?;
        }
        trainer.resume_at(self.file.global_step);
        checkpoints.go_on(self.file.run);
        let state = RunState {
            trainer: self.trainer,
            windows_done: self.file.windows_done,
            evaluation_due: self.file.evaluation_due,
            losses: self.file.losses,
        };
        Ok((state, notes))
    }

    fn check(&self, checkpoints: &Checkpoints, any_rounding: bool) -> Result<Vec<String>, CheckpointError> {
        let (facts, saved) = (checkpoints.facts(), &self.file.facts);
        let directory = || self.directory.clone();
        let differences = facts.differences(saved, "the checkpoint");
        if !differences.is_empty() {
            return Err(CheckpointError::OtherRun { directory: directory(), differences });
        }
        let mut notes = Vec::new();
        if facts.rounding != saved.rounding {
            let (saved, plan) = (saved.rounding.clone(), facts.rounding.clone());
            if !any_rounding {
                return Err(CheckpointError::Rounding { directory: directory(), saved, plan });
            }
            notes.push(format!(
                "kernels round as `{plan}` from here on, as `{saved}` before: the low bits are not those of a run without \
                 the stop"
            ));
        }
        let version = env!("CARGO_PKG_VERSION");
        if self.file.gptjc_version != version {
            notes.push(format!(
                "the checkpoint was written by gptjc {}, this is {version}: CHANGELOG.md says whether bits differ",
                self.file.gptjc_version
            ));
        }
        Ok(notes)
    }
}

/// The optimizer step in the name of a checkpoint; none of another directory, or of the rolling one.
pub(crate) fn step_of(directory: &Path) -> Option<u64> {
    directory.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok()
}

/// The directories in `parent` that are named as checkpoints are.
pub(super) fn directories(parent: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let failed = |source| CheckpointError::Read { path: parent.to_owned(), source };
    let entries = match std::fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let named =
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX));
        if named && path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn check_file(path: &Path, expected: FileFacts) -> Result<(), CheckpointError> {
    let read = |source| CheckpointError::Read { path: path.to_owned(), source };
    let damaged = |expected, found| CheckpointError::Damaged { path: path.to_owned(), expected, found };
    let mut file = File::open(path).map_err(read)?;
    let length = file.metadata().map_err(read)?.len();
    if length != expected.bytes {
        return Err(damaged(format!("{} bytes", expected.bytes), format!("{length} bytes")));
    }
    let (mut hash, mut buffer) = (crc32fast::Hasher::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(read)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    let found = hash.finalize();
    if found != expected.crc32 {
        return Err(damaged(format!("checksum {:08x}", expected.crc32), format!("checksum {found:08x}")));
    }
    Ok(())
}

/// Puts the tensors of the file `path` into their places, all of them or, if one does not fit, none.
pub(crate) fn read(path: &Path, places: &[Place], trainer: &mut Trainer) -> Result<(), TrainError> {
    let file = SafetensorsFile::open(path).map_err(CheckpointError::from)?;
    for Place { tensor, .. } in places {
        let found = file.entries().get(&tensor.name);
        let found = found.map(|entry| (entry.dtype, entry.shape.as_slice()));
        if found != Some((Dtype::F32, &tensor.shape)) {
            let text = |(dtype, shape): (Dtype, &[usize])| format!("{dtype:?} {shape:?}");
            return Err(CheckpointError::Tensor {
                path: path.to_owned(),
                name: tensor.name.clone(),
                expected: text((Dtype::F32, &tensor.shape)),
                found: found.map_or_else(|| "no such tensor".to_owned(), text),
            }
            .into());
        }
    }
    for place in places {
        let Some(entry) = file.entries().get(&place.tensor.name) else { continue };
        let view = TensorView {
            name: &place.tensor.name,
            dtype: WeightDtype::F32,
            shape: &entry.shape,
            bytes: file.bytes(entry),
            file: path,
            offset: entry.start as u64,
        };
        trainer.executor().write_at(&place.buffer, place.start, &read_f32(&view))?;
    }
    Ok(())
}

/// True for a path in which a checkpoint was looked for that is one.
pub(super) fn is_checkpoint(directory: &Path) -> bool {
    directory.join(STATE_FILE).is_file()
}
