//! The plan: what the compiler hands to the runtime, and nothing else passes between them.
//!
//! A plan is a few named entry points over one set of buffers. An entry point is a list of steps; a step names a kernel,
//! its operands and results, and how its work is cut into tiles. The file is a protobuf message ([`artifact`]);
//! [`verify`] proves from the steps alone that no two live buffers overlap; [`text`] prints a plan for people.
//!
//! Does not: know how a kernel works, or what is in a tensor.

pub mod artifact;
mod buffer;
mod isa;
mod options;
mod prediction;
pub mod state;
mod step;
mod stream;
mod target;
pub mod target_file;
pub mod text;
pub mod verify;
mod wire_layout;

pub use buffer::{Buffer, Dimension, Memory, UnknownKind};
pub use isa::Isa;
pub use options::{
    CompileOptions, LoraOptions, ModelConfig, Packing, Precision, TargetLayers, Trainable, ranges,
};
pub use prediction::Prediction;
pub use step::{Attribute, EntryPoint, KernelId, Load, Partition, Step, attribute};
pub use target::Target;

/// Version of the plan format; a plan of another version is refused.
pub const FORMAT_VERSION: u32 = 3;

/// Alignment in bytes of every buffer: a cache line, and the widest vector register.
pub const ALIGNMENT: u64 = 64;

/// Alignment in bytes of a buffer in the stream region: a page.
pub const STREAM_ALIGNMENT: u64 = 4096;

/// A compiled plan.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Plan {
    /// [`FORMAT_VERSION`] of the compiler that wrote it.
    #[prost(uint32, tag = "1")]
    pub format_version: u32,
    /// Version of the compiler that wrote it.
    #[prost(string, tag = "2")]
    pub compiler_version: String,
    /// What it was compiled for.
    #[prost(message, required, tag = "3")]
    pub options: CompileOptions,
    /// Buffers; a step names them by index.
    #[prost(message, repeated, tag = "4")]
    pub buffers: Vec<Buffer>,
    /// Entry points.
    #[prost(message, repeated, tag = "5")]
    pub entries: Vec<EntryPoint>,
    /// Bytes of the arena that all entry points share for temporaries.
    #[prost(uint64, tag = "6")]
    pub arena_bytes: u64,
    /// Bytes of parameters, state, batch, control and results, which are kept between runs.
    #[prost(uint64, tag = "7")]
    pub persistent_bytes: u64,
    /// Bytes of the frozen weights that stay in memory ([`Memory::Weight`]), in the type that the kernels read.
    #[prost(uint64, tag = "8")]
    pub weight_bytes: u64,
    /// What the passes did: one line each, for `inspect`.
    #[prost(string, repeated, tag = "9")]
    pub remarks: Vec<String>,
    /// Bytes of the region that [`Memory::Stream`] buffers are read into; all entry points share it.
    #[prost(uint64, tag = "10")]
    pub stream_bytes: u64,
    /// Memory and time that the compiler expects.
    #[prost(message, required, tag = "11")]
    pub prediction: Prediction,
}

impl Plan {
    /// The entry point called `name`.
    pub fn entry(&self, name: &str) -> Option<&EntryPoint> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Index and buffer called `name`, of those that have a name to the outside.
    pub fn find_buffer(&self, name: &str) -> Option<(usize, &Buffer)> {
        self.buffers.iter().enumerate().find(|(_, buffer)| buffer.name == name && buffer.is_named())
    }

    /// A buffer of each frozen tensor of the checkpoint, resident or streamed, in order.
    pub fn frozen_tensors(&self) -> impl Iterator<Item = &Buffer> {
        let mut seen = std::collections::BTreeSet::new();
        self.buffers.iter().filter(move |buffer| {
            matches!(buffer.memory(), Memory::Weight | Memory::Stream) && seen.insert(buffer.name.as_str())
        })
    }

    /// Buffers of one kind of memory, in order.
    pub fn buffers_in(&self, memory: Memory) -> impl Iterator<Item = &Buffer> {
        self.buffers.iter().filter(move |buffer| buffer.memory() == memory)
    }
}

#[cfg(test)]
mod tests;
