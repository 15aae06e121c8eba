//! What an initializer is made of, and where it lies in the external data file.
//!
//! Does not: read or compute anything; the runtime follows the recipes.

use super::proto::tensor_proto::DataType;

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
}

impl ElementType {
    /// Every element type.
    pub const ALL: [ElementType; 5] =
        [ElementType::F32, ElementType::F16, ElementType::Bf16, ElementType::I64, ElementType::Bool];

    /// Bytes of one element.
    pub const fn size(self) -> u64 {
        match self {
            ElementType::I64 => 8,
            ElementType::F32 => 4,
            ElementType::F16 | ElementType::Bf16 => 2,
            ElementType::Bool => 1,
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

/// How an initializer is made: read, merge in f32, transpose, then round once to the initializer's element type.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Where the values come from.
    pub source: Source,
    /// Whether the matrix is stored as its transpose: a checkpoint holds `[out, in]`, MatMul reads `[in, out]`.
    pub transposed: bool,
}

/// A weight of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Initializer {
    /// Name in the graph: that of the parameter in the checkpoint.
    pub name: String,
    /// How its elements are stored.
    pub element: ElementType,
    /// Its shape in the graph, after transposition.
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
        let mut shape = self.shape.clone();
        if self.recipe.transposed {
            shape.reverse();
        }
        shape
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
        assert_eq!(numbers, [1, 10, 16, 7, 9]);
        assert_eq!(ElementType::from_number(16), Some(ElementType::Bf16));
        assert_eq!(ElementType::from_number(8), None);
    }
}
