//! Validation: a model answers MNLI rows, and a report says how often it is right.
//!
//! An [`Engine`] runs token ids. Exports run by the steps of a [`cached_engine::CachedEngine`], under ONNX Runtime
//! ([`ort_engine::OrtEngine`]), loaded at run time from a library that [`library`] finds and [`fetch`] can get, or under tract,
//! in programs that are built with the feature `tract`. The compiled plan ([`native_engine::NativeEngine`]) is another.
//! [`mnli`] asks an engine and counts what [`questions`] makes of rows of text; [`compare`] holds two engines against each other.
//!
//! Does not: read data, nor write files, but [`logits_file`].

pub mod cached_engine;
pub mod compare;
pub mod engine;
pub mod fetch;
pub mod library;
pub mod logits_file;
pub mod mnli;
pub mod native_engine;
pub mod nodes;
pub mod onnx_directory;
pub mod ort_engine;
pub mod questions;
pub mod report;
pub mod step;
#[cfg(feature = "tract")]
pub mod tract_engine;

mod batch;
mod distribution;
mod ort_probe;
mod ort_session;
#[cfg(feature = "tract")]
mod tract_session;
#[cfg(feature = "tract")]
mod tract_trilu;

pub use engine::{Engine, EngineError, RowLogits};
