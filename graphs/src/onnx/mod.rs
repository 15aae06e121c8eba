//! The inference graph as ONNX: the messages, a small builder, GPT-J with key/value cache, and a reader of what a
//! model file declares.
//!
//! A model is written without its weights: every weight is an [`Initializer`] with a [`Recipe`] that says from which
//! tensors of the checkpoint and the adapter it is made, and has its place in one external data file. Whoever holds
//! the tensors streams them there; this module never sees a tensor's contents.
//!
//! Does not: read weights, write files, run a model, or read graphs back (only their declarations).

mod builder;
pub mod gptj;
mod operators;
#[expect(unreachable_pub, clippy::enum_variant_names, reason = "made by a program from onnx.proto")]
#[rustfmt::skip]
mod proto;
mod reader;
mod recipe;
mod rotary_table;

pub use builder::{BuildError, Dim, ModelBuilder, Value};
pub use reader::{DeclaredDim, DeclaredValue, ExternalEntry, ModelSummary, ReadError};
pub use recipe::{ElementType, Initializer, OnnxModel, PlacedInitializer, Recipe, Source};

/// Version of the default operator set that the models use.
pub const OPSET: i64 = 18;
/// Version of the ONNX format: the oldest that has everything of [`OPSET`].
pub const IR_VERSION: i64 = 8;
/// File name of a model, as Optimum names it.
pub const MODEL_FILE: &str = "model.onnx";
/// File name of a model's weights, as Optimum names it.
pub const DATA_FILE: &str = "model.onnx_data";
/// Weights start at multiples of this many bytes, so that a reader can map them into memory.
pub const DATA_ALIGNMENT: u64 = 4096;
