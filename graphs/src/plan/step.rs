//! Steps of a plan.

use crate::attributes::{AttributeValue, Attributes};
use std::fmt;

/// Name of a kernel: `<op>-<dtype>-<isa>`, such as `matmul-f32-portable`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KernelId {
    /// The op that it computes.
    pub op: String,
    /// Element types that it takes: of the first floating-point operand, and of the second where that differs.
    pub dtype: String,
    /// Instruction set that it needs.
    pub isa: String,
}

impl fmt::Display for KernelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.op, self.dtype, self.isa)
    }
}

impl KernelId {
    /// The id that prints like `text`, or none if it is not of the form.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-').map(str::to_owned);
        let id = Self { op: parts.next()?, dtype: parts.next()?, isa: parts.next()? };
        parts.next().is_none().then_some(id)
    }
}

/// An attribute of a step.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Attribute {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value.
    #[prost(oneof = "attribute::Value", tags = "2, 3, 4")]
    pub value: Option<attribute::Value>,
}

/// Values of an [`Attribute`].
pub mod attribute {
    /// A value.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Value {
        /// An integer.
        #[prost(sint64, tag = "2")]
        Int(i64),
        /// A real number.
        #[prost(double, tag = "3")]
        Float(f64),
        /// A word.
        #[prost(string, tag = "4")]
        Word(String),
    }
}

/// How the work of a step is cut into tiles that threads claim. Results do not depend on it.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Partition {
    /// Rows (of the result's first dimension, or of a flat view of an optimizer step) in a tile; at least 1.
    #[prost(uint32, tag = "1")]
    pub rows: u32,
    /// Columns in a tile of a matrix product; 0 for all.
    #[prost(uint32, tag = "2")]
    pub columns: u32,
}

/// One kernel call.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Step {
    /// [`KernelId`] as text.
    #[prost(string, tag = "1")]
    pub kernel: String,
    /// The op's attributes.
    #[prost(message, repeated, tag = "2")]
    pub attributes: Vec<Attribute>,
    /// Buffers read, by index, in the op's order.
    #[prost(uint32, repeated, tag = "3")]
    pub operands: Vec<u32>,
    /// Buffers written, by index, in the op's order.
    #[prost(uint32, repeated, tag = "4")]
    pub results: Vec<u32>,
    /// Tiles.
    #[prost(message, required, tag = "5")]
    pub partition: Partition,
    /// Module of the model that it belongs to.
    #[prost(string, tag = "6")]
    pub module: String,
    /// Floating-point operations at the bounds.
    #[prost(uint64, tag = "7")]
    pub flops: u64,
    /// Bytes read and written at the bounds, each operand and result once.
    #[prost(uint64, tag = "8")]
    pub bytes: u64,
    /// Temporaries that the step alone uses, by index: [`Operation::workspace`](crate::ops::Operation::workspace).
    #[prost(uint32, repeated, tag = "9")]
    pub workspace: Vec<u32>,
    /// Seconds that it is expected to take on the target, at the bounds.
    #[prost(double, tag = "10")]
    pub seconds: f64,
}

impl Step {
    /// The op's attributes.
    pub fn attributes(&self) -> Attributes {
        let mut attributes = Attributes::new();
        for attribute in &self.attributes {
            let value = match &attribute.value {
                Some(attribute::Value::Int(value)) => AttributeValue::Int(*value),
                Some(attribute::Value::Float(value)) => AttributeValue::Float(*value),
                Some(attribute::Value::Word(word)) => AttributeValue::Word(word.clone()),
                None => continue,
            };
            attributes.push(&attribute.name, value);
        }
        attributes
    }

    /// An op's attributes as a step carries them.
    pub fn encode_attributes(attributes: &Attributes) -> Vec<Attribute> {
        let encode = |value: &AttributeValue| match value {
            AttributeValue::Int(value) => attribute::Value::Int(*value),
            AttributeValue::Float(value) => attribute::Value::Float(*value),
            AttributeValue::Word(word) => attribute::Value::Word(word.clone()),
        };
        attributes
            .iter()
            .map(|(name, value)| Attribute { name: name.to_owned(), value: Some(encode(value)) })
            .collect()
    }
}

/// A frozen tensor to be read from the checkpoint into the stream region.
///
/// Loads of an entry point are carried out in their order, those of a run after all those of the run before. A load may
/// start when the first `after_step` steps of its own run and the first `previous_after_step` steps of the previous run
/// of the same entry point are finished; with `after_step` 0 that may be before its own run starts. In the first run
/// only its own run counts. A run of another entry point that has loads leaves the region with other content, so that
/// what was read ahead of it is lost and is read again.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Load {
    /// The buffer, of [`Memory::Stream`](super::Memory::Stream); its name is the tensor's.
    #[prost(uint32, tag = "1")]
    pub buffer: u32,
    /// Index of the first step that reads it: it must be there before that step starts.
    #[prost(uint32, tag = "2")]
    pub before_step: u32,
    /// Number of steps of the same run that must be finished before reading may start.
    #[prost(uint32, tag = "3")]
    pub after_step: u32,
    /// Number of steps of the previous run of the entry point that must be finished before reading may start.
    #[prost(uint32, tag = "4")]
    pub previous_after_step: u32,
}

/// A named list of steps.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EntryPoint {
    /// `setup`, `micro_step`, `apply` or `forward`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Steps in the order in which they run.
    #[prost(message, repeated, tag = "2")]
    pub steps: Vec<Step>,
    /// The largest sum of bytes of temporaries that live at one time: the least that any arena needs.
    #[prost(uint64, tag = "3")]
    pub live_bytes: u64,
    /// What is read into the stream region, in the order of reading.
    #[prost(message, repeated, tag = "4")]
    pub loads: Vec<Load>,
    /// Seconds that a run is expected to take at the bounds, waiting for loads included, when the same entry point ran
    /// before.
    #[prost(double, tag = "5")]
    pub seconds: f64,
    /// Bytes that a run reads into the stream region.
    #[prost(uint64, tag = "6")]
    pub read_bytes: u64,
}

impl EntryPoint {
    /// Floating-point operations at the bounds.
    pub fn flops(&self) -> u64 {
        self.steps.iter().map(|step| step.flops).sum()
    }

    /// Seconds that the steps alone are expected to take, without waiting for loads.
    pub fn step_seconds(&self) -> f64 {
        self.steps.iter().map(|step| step.seconds).sum()
    }

    /// Bytes moved at the bounds.
    pub fn bytes(&self) -> u64 {
        self.steps.iter().map(|step| step.bytes).sum()
    }
}
