//! tract as an engine: a runtime in Rust, which shares no code with ONNX Runtime.
//!
//! Does not: read bf16 weights or operators of other domains than the standard's; such exports are refused before tract
//! sees them.

use std::path::{Path, PathBuf};

use super::cached_engine::CachedEngine;
use super::engine::EngineError;
use super::onnx_directory::{OnnxDirectory, OpenError};
use super::tract_session::TractSession;

/// Why a model was not opened.
#[derive(Debug, thiserror::Error)]
pub enum TractOpenError {
    /// The directory is not one that can be opened.
    #[error(transparent)]
    Directory(#[from] OpenError),
    /// tract does not know something that the model has.
    #[error(
        "tract cannot run `{}`: {found}; expected an export with weights in f32 or f16 and operators of the standard. \
         Export with `--dtype f32`, or leave it to ONNX Runtime: `--engine ort`",
        path.display()
    )]
    Unknown {
        /// The model file.
        path: PathBuf,
        /// What it has.
        found: String,
    },
    /// tract refuses the model.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A model in tract.
pub type TractEngine = CachedEngine<TractSession>;

impl TractEngine {
    /// Checks an export directory and loads it, with `threads` threads for its products.
    ///
    /// # Errors
    /// [`TractOpenError`] if the directory is damaged or foreign, or has what tract does not know.
    pub fn open(directory: &Path, threads: usize) -> Result<Self, TractOpenError> {
        let directory = OnnxDirectory::open(directory)?;
        check_known(&directory)?;
        Ok(CachedEngine::new(TractSession::open(&directory, threads)?))
    }
}

fn check_known(directory: &OnnxDirectory) -> Result<(), TractOpenError> {
    let refuse = |found| Err(TractOpenError::Unknown { path: directory.model.clone(), found });
    let uncommon = &directory.uncommon;
    if let Some(operator) = uncommon.operators.first() {
        return refuse(format!("it has the operator {operator}"));
    }
    match &uncommon.bf16_weight {
        Some(weight) => refuse(format!("weight `{weight}` is stored in bf16")),
        None => Ok(()),
    }
}
