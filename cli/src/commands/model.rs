//! A model, its adapter and its tokenizer, as `export` and `merge` read them: all checked before anything is written.

use super::weights::tensors;
use crate::console::Console;
use crate::error::CliError;
use crate::flags::{MadeDirectory, ModelFlags};
use crate::settings;
use gptjc_graphs::plan::ModelConfig;
use gptjc_runtime::adapter::Adapter;
use gptjc_runtime::merge::{AdapterFit, AdapterMismatch, check_adapter};
use gptjc_runtime::weights::{Checkpoint, TensorSpec, WeightsError};
use std::path::Path;

/// An opened model.
pub(crate) struct Model {
    /// Its dimensions.
    pub(crate) config: ModelConfig,
    /// Its weights: all of them are there with their shapes.
    pub(crate) checkpoint: Checkpoint,
    /// Names and shapes of its weights, in the model's order.
    pub(crate) tensors: Vec<TensorSpec>,
}

impl Model {
    /// Opens the model in `path`.
    pub(crate) fn open(path: &Path, console: Console) -> Result<Self, CliError> {
        let flags = ModelFlags { model: Some(path.to_owned()), ..ModelFlags::default() };
        let directory = settings::model_dir(&flags)?;
        let config = settings::model_config(&flags)?;
        let failed =
            |source: WeightsError| CliError::Weights { path: directory.to_owned(), source: source.into() };
        let checkpoint = Checkpoint::open(directory).map_err(failed)?;
        let tensors = tensors(&config);
        checkpoint.check(&tensors).map_err(failed)?.iter().for_each(|warning| console.warn(warning));
        Ok(Self { config, checkpoint, tensors })
    }

    /// Reads the adapter in `path` and checks it against the model.
    pub(crate) fn adapter(&self, path: &Path) -> Result<(Adapter, AdapterFit), CliError> {
        let adapter = load_adapter(path)?;
        let fit = check_adapter(&self.checkpoint, &adapter, &path.display().to_string());
        let fit = fit.map_err(|source: AdapterMismatch| CliError::AdapterFit(source.into()))?;
        Ok((adapter, fit))
    }
}

/// Reads the adapter in `path`.
pub(crate) fn load_adapter(path: &Path) -> Result<Adapter, CliError> {
    Adapter::load(path).map_err(|source| CliError::Adapter { path: path.to_owned(), source: source.into() })
}

/// Says that an adapter covers some layers only.
pub(crate) fn note_left_out(fit: &AdapterFit, console: Console) {
    if let Some(module) = fit.left_out.first() {
        let count = fit.left_out.len();
        console.note(&format!(
            "the adapter leaves out `{module}` ({count} modules in all), as its settings say"
        ));
    }
}

/// Says or refuses that there is no tokenizer to copy.
pub(crate) fn check_tokenizer(model: &Path, made: &MadeDirectory, console: Console) -> Result<(), CliError> {
    let directory = made.tokenizer.as_deref().unwrap_or(model);
    let is_there = |name: &str| directory.join(name).is_file();
    if is_there("tokenizer.json") || (is_there("vocab.json") && is_there("merges.txt")) {
        return Ok(());
    }
    let what = format!("there is no tokenizer in `{}`", directory.display());
    let advice = "give a directory with tokenizer.json, or with vocab.json and merges.txt: --tokenizer DIR";
    match made.tokenizer {
        Some(_) => Err(CliError::Usage { what, advice: advice.to_owned() }),
        None => {
            console.warn(&format!("{what}, so none is copied; {advice}"));
            Ok(())
        }
    }
}
