//! Buffers of a plan.

use crate::dtype::DType;
use crate::shape::{Dim, Extent, TensorType};

/// Where a buffer lives and who writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Memory {
    /// A temporary: an offset in the arena, shared with others that live at other times.
    Arena = 0,
    /// A frozen tensor of the checkpoint.
    Weight = 1,
    /// A tensor that training changes.
    Parameter = 2,
    /// Kept between runs: moments, partial gradient sums, tables.
    State = 3,
    /// Data of a micro-batch, written by the runtime before a run.
    Batch = 4,
    /// Small numbers of a run, written by the runtime.
    Control = 5,
    /// Read by the runtime after a run.
    Result = 6,
    /// A frozen tensor that is read from the checkpoint into the stream region before it is used; several buffers may
    /// be of one tensor.
    Stream = 7,
}

impl Memory {
    /// Name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Memory::Arena => "arena",
            Memory::Weight => "weight",
            Memory::Parameter => "parameter",
            Memory::State => "state",
            Memory::Batch => "batch",
            Memory::Control => "control",
            Memory::Result => "result",
            Memory::Stream => "stream",
        }
    }

    /// True if the buffer has an offset in the persistent region.
    pub const fn is_persistent(self) -> bool {
        match self {
            Memory::Parameter | Memory::State | Memory::Batch | Memory::Control | Memory::Result => true,
            Memory::Arena | Memory::Weight | Memory::Stream => false,
        }
    }
}

/// One dimension: its bound, and what says how much of it is used.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Dimension {
    /// Largest number of elements.
    #[prost(uint64, tag = "1")]
    pub bound: u64,
    /// Wire number of the [`Extent`].
    #[prost(uint32, tag = "2")]
    pub extent: u32,
}

/// A planned region of memory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Buffer {
    /// Name to the outside (a tensor's, a batch field's); of a temporary, the module that it belongs to.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Where it lives.
    #[prost(enumeration = "Memory", tag = "2")]
    pub memory: i32,
    /// Wire number of the element type.
    #[prost(uint32, tag = "3")]
    pub dtype: u32,
    /// Dimensions, outermost first.
    #[prost(message, repeated, tag = "4")]
    pub dims: Vec<Dimension>,
    /// Offset in bytes in the arena, in the persistent or in the stream region; 0 for a weight.
    #[prost(uint64, tag = "5")]
    pub offset: u64,
    /// Of a weight: every NUMA node gets a copy of its own.
    #[prost(bool, tag = "6")]
    pub copied: bool,
}

/// A buffer whose dtype or extent is of no kind that this version knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("buffer `{name}`: {what} number {number} is unknown to this version")]
pub struct UnknownKind {
    /// Name of the buffer.
    pub name: String,
    /// What is unknown.
    pub what: &'static str,
    /// Its wire number.
    pub number: u32,
}

impl Buffer {
    /// A buffer of this type.
    pub fn new(name: &str, memory: Memory, ty: &TensorType, offset: u64) -> Self {
        let dtype = DType::ALL.iter().position(|&dtype| dtype == ty.dtype).unwrap_or_default() as u32;
        let extent =
            |extent: Extent| Extent::ALL.iter().position(|&e| e == extent).unwrap_or_default() as u32;
        let dims = ty
            .dims
            .iter()
            .map(|dim| Dimension { bound: dim.bound as u64, extent: extent(dim.extent) })
            .collect();
        Self { name: name.to_owned(), memory: memory.into(), dtype, dims, offset, copied: false }
    }

    /// Dtype and shape.
    ///
    /// # Errors
    /// [`UnknownKind`] if this version does not know them.
    pub fn ty(&self) -> Result<TensorType, UnknownKind> {
        let unknown = |what, number| UnknownKind { name: self.name.clone(), what, number };
        let dtype =
            *DType::ALL.get(self.dtype as usize).ok_or_else(|| unknown("element type", self.dtype))?;
        let dims: Result<Vec<Dim>, UnknownKind> = self
            .dims
            .iter()
            .map(|dim| {
                let extent =
                    *Extent::ALL.get(dim.extent as usize).ok_or_else(|| unknown("extent", dim.extent))?;
                Ok(Dim { bound: dim.bound as usize, extent })
            })
            .collect();
        Ok(TensorType::new(dtype, dims?))
    }

    /// Elements at the bounds.
    pub fn elements(&self) -> u64 {
        self.dims.iter().map(|dim| dim.bound).product()
    }

    /// Bytes at the bounds; nothing if they are more than can be counted.
    pub fn bytes(&self) -> Option<u64> {
        let size = DType::ALL.get(self.dtype as usize)?.size() as u64;
        self.dims.iter().try_fold(size, |bytes, dim| bytes.checked_mul(dim.bound))
    }

    /// First byte behind the buffer; nothing if that is more than can be counted.
    pub fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.bytes()?)
    }

    /// True if the outside knows the buffer by its name.
    pub fn is_named(&self) -> bool {
        self.memory() != Memory::Arena
    }
}
