//! How the values of a matrix are kept in a model, and so what is lost of them.
//!
//! Does not: round anything; the runtime does.

use std::fmt;
use std::str::FromStr;

use super::recipe::ElementType;

/// Bits of a quantised value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CodeBits {
    /// 16 levels, two to a byte.
    Four,
    /// 256 levels.
    Eight,
}

impl CodeBits {
    /// Their number.
    pub const fn number(self) -> usize {
        match self {
            CodeBits::Four => 4,
            CodeBits::Eight => 8,
        }
    }

    /// The largest code.
    pub const fn largest(self) -> u8 {
        match self {
            CodeBits::Four => 15,
            CodeBits::Eight => 255,
        }
    }
}

/// Quantisation of a matrix `[out, in]` in blocks of consecutive values of a row: each block has a scale (f32) and a zero
/// point (a code), and a value is `(code - zero point) · scale`. This is what the operator MatMulNBits of ONNX Runtime
/// (`com.microsoft`) multiplies with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Blockwise {
    /// Bits of a code.
    pub bits: CodeBits,
    /// Values of a block, one of [`Blockwise::SIZES`]; the last block of a row may have fewer.
    pub size: usize,
}

impl Blockwise {
    /// Sizes that a block can have: powers of two from 16, as the operator asks; from 512 on ONNX Runtime 1.26 gave zeros
    /// on CPUs without saying so.
    pub const SIZES: [usize; 5] = [16, 32, 64, 128, 256];

    /// Blocks of a row of `columns` values.
    pub const fn blocks(self, columns: usize) -> usize {
        columns.div_ceil(self.size)
    }

    /// Bytes of the codes of a block.
    pub const fn blob(self) -> usize {
        self.size * self.bits.number() / 8
    }

    /// Bytes of the zero points of a row of `columns` values: packed as codes are.
    pub const fn zero_point_bytes(self, columns: usize) -> usize {
        (self.blocks(columns) * self.bits.number()).div_ceil(8)
    }
}

/// How the values of a matrix are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// Each value by itself: f32, f16 or bf16.
    Plain(ElementType),
    /// In blocks with a scale and a zero point.
    Blocks(Blockwise),
}

/// As it is written in a model's metadata and in reports: `float16`, or `int4/32` for blocks of 32.
impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Storage::Plain(element) => f.write_str(element.name()),
            Storage::Blocks(blocks) => write!(f, "int{}/{}", blocks.bits.number(), blocks.size),
        }
    }
}

/// A text that names no storage.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is no storage of weights; expected float, float16, bfloat16, or int4 or int8 with a block size, such as int4/32"
)]
pub struct StorageError(String);

impl StorageError {
    pub(super) fn new(text: &str) -> Self {
        StorageError(text.into())
    }
}

impl FromStr for Storage {
    type Err = StorageError;

    fn from_str(text: &str) -> Result<Self, StorageError> {
        let refuse = || StorageError::new(text);
        let plain = [ElementType::F32, ElementType::F16, ElementType::Bf16];
        if let Some(element) = plain.into_iter().find(|element| element.name() == text) {
            return Ok(Storage::Plain(element));
        }
        let (bits, size) = text.split_once('/').ok_or_else(refuse)?;
        let bits = match bits {
            "int4" => CodeBits::Four,
            "int8" => CodeBits::Eight,
            _ => return Err(refuse()),
        };
        let size = size.parse().ok().filter(|size| Blockwise::SIZES.contains(size)).ok_or_else(refuse)?;
        Ok(Storage::Blocks(Blockwise { bits, size }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storages_read_as_they_are_written() {
        let blocks = |bits, size| Storage::Blocks(Blockwise { bits, size });
        let cases = [
            (Storage::Plain(ElementType::F32), "float"),
            (Storage::Plain(ElementType::Bf16), "bfloat16"),
            (blocks(CodeBits::Four, 32), "int4/32"),
            (blocks(CodeBits::Eight, 256), "int8/256"),
        ];
        for (storage, text) in cases {
            assert_eq!(storage.to_string(), text);
            assert_eq!(text.parse(), Ok(storage));
        }
        for text in ["int64", "int4", "int4/48", "int4/512", "int2/32", ""] {
            assert_eq!(text.parse::<Storage>(), Err(StorageError(text.into())));
        }
    }

    #[test]
    fn sizes_are_those_of_the_operator() {
        let blocks = |bits, size| Blockwise { bits, size };
        let four = blocks(CodeBits::Four, 32);
        assert_eq!((four.blocks(33), four.blob(), four.zero_point_bytes(33)), (2, 16, 1));
        assert_eq!((four.blocks(65), four.zero_point_bytes(65)), (3, 2));
        let eight = blocks(CodeBits::Eight, 16);
        assert_eq!((eight.blocks(16), eight.blob(), eight.zero_point_bytes(17)), (1, 16, 2));
    }
}
