//! The inference graph as ONNX: the messages, a small builder, GPT-J with key/value cache, and a reader of what a
//! model file declares, and changes of a model in memory.
//!
//! A model is written without its weights: every weight is an [`Initializer`] with a [`Recipe`] that says from which
//! tensors of the checkpoint and the adapter it is made, and has its place in one external data file. Whoever holds
//! the tensors streams them there; this module never sees a tensor's contents.
//!
//! Does not: read weights, write files, or run a model.

mod builder;
mod decode;
mod edit;
pub mod gptj;
mod operators;
mod options;
#[expect(unreachable_pub, clippy::enum_variant_names, reason = "made by a program from onnx.proto")]
#[rustfmt::skip]
mod proto;
mod reader;
mod recipe;
mod rotary_table;
mod storage;

pub use builder::{BuildError, Dim, ModelBuilder, Value};
pub use edit::{EditedModel, NodeValue};
pub use reader::{DeclaredDim, DeclaredValue, ExternalEntry, ModelSummary, ReadError, Uncommon};
pub use recipe::{
    ElementType, Form, Initializer, OnnxModel, PlacedInitializer, QuantizedPart, Recipe, Source,
};
pub use storage::{Blockwise, CodeBits, Storage, StorageError};

/// Version of the default operator set that the models use.
pub const OPSET: i64 = 18;
/// Domain of ONNX Runtime's own operators, of which a quantised model uses MatMulNBits.
pub const CONTRIB_DOMAIN: &str = "com.microsoft";
/// Version of those operators.
const CONTRIB_OPSET: i64 = 1;
/// Version of the ONNX format: the oldest that has everything of [`OPSET`].
pub const IR_VERSION: i64 = 8;
/// File name of a model, as Optimum names it.
pub const MODEL_FILE: &str = "model.onnx";
/// File name of a model's weights, as Optimum names it.
pub const DATA_FILE: &str = "model.onnx_data";
/// Weights start at multiples of this many bytes, so that a reader can map them into memory.
pub const DATA_ALIGNMENT: u64 = 4096;
