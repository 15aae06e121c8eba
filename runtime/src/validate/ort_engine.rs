//! ONNX Runtime as an engine.
//!
//! Does not: find the library, or decide what is asked; see [`super::library`] and [`super::cached_engine`].

use std::path::Path;

use super::cached_engine::CachedEngine;
use super::engine::EngineError;
use super::library::OnnxRuntime;
use super::onnx_directory::{OnnxDirectory, OpenError};
use super::ort_session::OrtSession;

/// Why a model was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OrtOpenError {
    /// The directory is not one that can be opened.
    #[error(transparent)]
    Directory(#[from] OpenError),
    /// ONNX Runtime refuses the model.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A model in ONNX Runtime.
pub type OrtEngine = CachedEngine<OrtSession>;

impl OrtEngine {
    /// Checks an export directory and loads it; `threads` of `None` leaves their number to ONNX Runtime.
    ///
    /// # Errors
    /// [`OrtOpenError`] if the directory is damaged or foreign, or ONNX Runtime refuses the model.
    pub fn open(
        directory: &Path,
        runtime: &OnnxRuntime,
        threads: Option<usize>,
    ) -> Result<Self, OrtOpenError> {
        let directory = OnnxDirectory::open(directory)?;
        let library = runtime.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = format!("ONNX Runtime ({library})");
        Ok(CachedEngine::new(OrtSession::open(&directory, runtime, threads, name)?))
    }
}
