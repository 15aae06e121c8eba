//! Files that options come from: a model's config, a plan.

use crate::error::CliError;
use crate::flags::ModelFlags;
use gptjc_graphs::models::gptj::config;
use gptjc_graphs::plan::artifact::{self, ArtifactError};
use gptjc_graphs::plan::{CompileOptions, ModelConfig, Plan};
use std::path::{Path, PathBuf};

/// The model directory that was given, if it is one.
pub(crate) fn model_dir(flags: &ModelFlags) -> Result<&Path, CliError> {
    let path = flags.model.as_deref().ok_or(CliError::NoModel)?;
    if path.is_dir() {
        return Ok(path);
    }
    Err(CliError::ModelNotFound { path: path.to_owned() })
}

/// The model's dimensions: of `--config-name`, or of config.json in the model directory.
pub(crate) fn model_config(flags: &ModelFlags) -> Result<ModelConfig, CliError> {
    let path: PathBuf = match &flags.config_name {
        Some(path) if path.is_dir() => path.join("config.json"),
        Some(path) => path.clone(),
        None => model_dir(flags)?.join("config.json"),
    };
    let json =
        std::fs::read_to_string(&path).map_err(|source| CliError::Read { path: path.clone(), source })?;
    config::parse(&json).map_err(|source| CliError::Config { path, source: source.into() })
}

/// The plan in a file, proved to hold.
pub(crate) fn read_plan(path: &Path) -> Result<Plan, CliError> {
    decode_file(path, artifact::decode)
}

/// What the plan in a file was compiled for, whatever version it has.
pub(crate) fn read_plan_options(path: &Path) -> Result<CompileOptions, CliError> {
    decode_file(path, artifact::decode_options)
}

fn decode_file<T>(path: &Path, decode: fn(&[u8]) -> Result<T, ArtifactError>) -> Result<T, CliError> {
    let bytes = std::fs::read(path).map_err(|source| CliError::PlanFile { path: path.to_owned(), source })?;
    decode(&bytes).map_err(|source| CliError::Plan { path: path.to_owned(), source: source.into() })
}
