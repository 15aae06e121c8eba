//! What an initializer is made of, and where it lies in the external data file.
//!
//! Does not: read or compute anything; the runtime follows the recipes.

use super::proto::tensor_proto::DataType;
use super::storage::{Blockwise, Storage};

/// How an element of an ONNX tensor is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    Bf16,
    /// Signed 64-bit integer.
    I64,
    /// Truth value, one byte.
    Bool,
    /// Unsigned byte: quantised values, packed.
    U8,
}

impl ElementType {
    /// Every element type.
    pub const ALL: [ElementType; 6] = [
        ElementType::F32,
        ElementType::F16,
        ElementType::Bf16,
        ElementType::I64,
        ElementType::Bool,
        ElementType::U8,
    ];

    /// Bytes of one element.
    pub const fn size(self) -> u64 {
        match self {
            ElementType::I64 => 8,
            ElementType::F32 => 4,
            ElementType::F16 | ElementType::Bf16 => 2,
            ElementType::Bool | ElementType::U8 => 1,
        }
    }

    /// Name as ONNX Runtime writes it.
    pub const fn name(self) -> &'static str {
        match self {
            ElementType::F32 => "float",
            ElementType::F16 => "float16",
            ElementType::Bf16 => "bfloat16",
            ElementType::I64 => "int64",
            ElementType::Bool => "bool",
            ElementType::U8 => "uint8",
        }
    }

    /// Number in ONNX's messages.
    pub(super) fn number(self) -> i32 {
        let data_type = match self {
            ElementType::F32 => DataType::Float,
            ElementType::F16 => DataType::Float16,
            ElementType::Bf16 => DataType::Bfloat16,
            ElementType::I64 => DataType::Int64,
            ElementType::Bool => DataType::Bool,
            ElementType::U8 => DataType::Uint8,
        };
        data_type.into()
    }

    /// The element type with this number in ONNX's messages, if it is one that we write.
    pub(super) fn from_number(number: i32) -> Option<Self> {
        ElementType::ALL.into_iter().find(|element| element.number() == number)
    }
}

/// Where the values of an initializer come from, in f32 and in the layout of the checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A tensor of the checkpoint, by its name there.
    Tensor(String),
    /// `base + scaling · B·A`, computed in f32: a frozen weight `[out, in]` with its adapter, `A [r, in]`, `B [out, r]`.
    LoraMerged {
        /// Name of the weight in the checkpoint.
        base: String,
        /// Name of A in the adapter file.
        a: String,
        /// Name of B in the adapter file.
        b: String,
        /// `lora_alpha / r`, or `lora_alpha / sqrt(r)` for rsLoRA.
        scaling: f64,
    },
}

impl Source {
    /// The checkpoint's name of the tensor.
    pub fn base(&self) -> &str {
        match self {
            Source::Tensor(base) | Source::LoraMerged { base, .. } => base,
        }
    }
}

/// How an initializer lies, as seen from its tensor in the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As in the checkpoint.
    AsStored,
    /// As the transpose: a checkpoint holds `[out, in]`, MatMul reads `[in, out]`.
    Transposed,
    /// One of the three parts of a matrix that is quantised in blocks.
    Quantized {
        /// Which one.
        part: QuantizedPart,
        /// The quantisation.
        blockwise: Blockwise,
        /// Columns of the matrix in the checkpoint.
        columns: usize,
    },
}

/// Parts of a quantised matrix of `rows` rows. They stand next to each other in this order, and are made in one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantizedPart {
    /// Codes, `[rows, blocks, bytes of a block]`: the first of two codes of four bits is the lower half of its byte.
    Codes,
    /// Scales in f32, `[rows, blocks]`.
    Scales,
    /// Zero points, `[rows, bytes]`, packed as codes are.
    ZeroPoints,
}

/// How an initializer is made: read, merge in f32, round, and lay out.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Where the values come from.
    pub source: Source,
    /// What is lost of them before they are rounded, once, to the initializer's element type; `None` for nothing. So a
    /// model in f32 can have the very values of one that stores less.
    pub rounded_as: Option<Storage>,
    /// How they lie.
    pub form: Form,
}

impl Recipe {
    /// The values of `source`, as they lie in the checkpoint.
    pub fn as_stored(source: Source) -> Self {
        Recipe { source, rounded_as: None, form: Form::AsStored }
    }
}

/// A weight of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Initializer {
    /// Name in the graph: that of the parameter in the checkpoint.
    pub name: String,
    /// How its elements are stored.
    pub element: ElementType,
    /// Its shape in the graph.
    pub shape: Vec<usize>,
    /// How it is made.
    pub recipe: Recipe,
}

impl Initializer {
    /// Bytes of the tensor.
    pub fn byte_length(&self) -> u64 {
        self.shape.iter().map(|&dim| dim as u64).product::<u64>() * self.element.size()
    }

    /// Shape of the tensor in the checkpoint.
    pub fn source_shape(&self) -> Vec<usize> {
        match self.recipe.form {
            Form::AsStored => self.shape.clone(),
            Form::Transposed => self.shape.iter().rev().copied().collect(),
            Form::Quantized { columns, .. } => vec![self.shape.first().copied().unwrap_or(0), columns],
        }
    }
}

/// An initializer with its place in the external data file.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacedInitializer {
    /// What to write.
    pub initializer: Initializer,
    /// First byte in the file, a multiple of [`super::DATA_ALIGNMENT`].
    pub offset: u64,
}

/// A finished model: the bytes of `model.onnx`, and what the file of its weights must hold.
#[derive(Clone, Debug)]
pub struct OnnxModel {
    /// The encoded `ModelProto`; it refers to the weights by file name, offset and length.
    pub bytes: Vec<u8>,
    /// The weights in ascending order of their offsets, without overlap. Bytes between them are zero.
    pub initializers: Vec<PlacedInitializer>,
    /// Length of the data file.
    pub data_length: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn element_numbers_are_those_of_the_onnx_format() {
        let numbers = ElementType::ALL.map(ElementType::number);
        assert_eq!(numbers, [1, 10, 16, 7, 9, 2]);
        assert_eq!(ElementType::from_number(16), Some(ElementType::Bf16));
        assert_eq!(ElementType::from_number(8), None);
    }
}
