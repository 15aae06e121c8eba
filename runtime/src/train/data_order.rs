//! `data_order.json`: what it takes to go on with the same windows in the same order.
//!
//! The order of an epoch is a function of seed and epoch, so the file holds the few numbers that determine it and the
//! point that was reached, and no list of windows. It does not depend on threads, micro-batches or ranks.
//!
//! Does not: hold parameters, moments or anything else of a resumable checkpoint.

use super::TrainOptions;
use crate::data::sampler::{Duration, Sampler, SamplerError, SamplerOptions};
use crate::files::FileError;
use crate::files::atomic::write_bytes;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// File name in an output directory.
pub const DATA_ORDER_FILE: &str = "data_order.json";

/// The order of a run's windows, and the optimizer step that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataOrder {
    /// Seed of the shuffle.
    pub seed: u64,
    /// False if the windows are taken in the order given.
    pub shuffle: bool,
    /// Windows of an epoch.
    pub windows: usize,
    /// Windows of a batch.
    pub batch: usize,
    /// Batches of an optimizer step.
    pub accumulation: usize,
    /// Epoch of the next step, from 0.
    pub epoch: u64,
    /// The next step inside its epoch, from 0.
    pub step: u64,
}

/// A file that holds no order of data.
#[derive(Debug, thiserror::Error)]
pub enum DataOrderError {
    /// The file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is something else.
    #[error("`{}` is not an order of data: {source}; train again to write it", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What was expected and where.
        source: serde_json::Error,
    },
}

/// The options of the sampler of a run over `windows` windows.
pub(super) fn sampler_options(options: &TrainOptions, windows: usize) -> SamplerOptions {
    SamplerOptions {
        windows,
        batch: options.per_device_train_batch_size,
        accumulation: options.gradient_accumulation_steps,
        seed: options.seed,
        shuffle: options.shuffle,
        duration: match options.max_steps {
            Some(steps) => Duration::Steps(steps),
            None => Duration::Epochs(options.num_train_epochs),
        },
    }
}

impl DataOrder {
    /// The order of a run over `windows` windows after `global_step` optimizer steps.
    ///
    /// # Errors
    /// [`SamplerError`] if the options make no run.
    pub fn after(options: &TrainOptions, windows: usize, global_step: u64) -> Result<Self, SamplerError> {
        let sampler = Sampler::new(sampler_options(options, windows))?;
        Ok(Self {
            seed: options.seed,
            shuffle: options.shuffle,
            windows,
            batch: options.per_device_train_batch_size,
            accumulation: options.gradient_accumulation_steps,
            epoch: global_step / sampler.steps_per_epoch(),
            step: global_step % sampler.steps_per_epoch(),
        })
    }

    /// A sampler that gives the next step first.
    ///
    /// # Errors
    /// [`SamplerError`] if a run of this `duration` never reaches that step.
    pub fn sampler(&self, duration: Duration) -> Result<Sampler, SamplerError> {
        let Self { seed, shuffle, windows, batch, accumulation, epoch, step } = *self;
        let mut sampler =
            Sampler::new(SamplerOptions { windows, batch, accumulation, seed, shuffle, duration })?;
        sampler.seek(epoch, step)?;
        Ok(sampler)
    }

    /// Reads the file `path`.
    ///
    /// # Errors
    /// [`DataOrderError`] naming the file.
    pub fn load(path: &Path) -> Result<Self, DataOrderError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| DataOrderError::Read { path: path.to_owned(), source })?;
        serde_json::from_str(&text).map_err(|source| DataOrderError::Parse { path: path.to_owned(), source })
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(sampler: &mut Sampler) -> Vec<Vec<u32>> {
        let mut all = Vec::new();
        while let Some(step) = sampler.next_step() {
            all.push(step.windows.to_vec());
        }
        all
    }

    #[test]
    fn a_run_goes_on_with_the_same_windows() {
        let options = TrainOptions {
            per_device_train_batch_size: 2,
            gradient_accumulation_steps: 2,
            num_train_epochs: 3.0,
            ..TrainOptions::default()
        };
        let whole = steps(&mut Sampler::new(sampler_options(&options, 11)).unwrap());
        assert_eq!(whole.len(), 9);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(DATA_ORDER_FILE);
        for done in 0..=whole.len() {
            DataOrder::after(&options, 11, done as u64).unwrap().save(&path).unwrap();
            let order = DataOrder::load(&path).unwrap();
            let rest = steps(&mut order.sampler(Duration::Epochs(3.0)).unwrap());
            assert_eq!(rest, whole[done..], "after {done} steps");
        }
    }

    #[test]
    fn a_file_of_something_else_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(DATA_ORDER_FILE);
        assert!(DataOrder::load(&path).unwrap_err().to_string().starts_with("cannot read `"));
        std::fs::write(&path, "{\"seed\": 42}").unwrap();
        assert!(DataOrder::load(&path).unwrap_err().to_string().contains("is not an order of data"));
    }
}
