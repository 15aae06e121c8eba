//! Element types of tensors.

use std::fmt;
use std::str::FromStr;

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// bfloat16: the upper half of a binary32.
    Bf16,
    /// Signed 32-bit integer: token ids, positions, tables.
    I32,
}

impl DType {
    /// Every dtype, in the order of its wire number.
    pub const ALL: [DType; 3] = [DType::F32, DType::Bf16, DType::I32];

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::F32 | DType::I32 => 4,
            DType::Bf16 => 2,
        }
    }

    /// True for the types that a gradient can have.
    pub const fn is_float(self) -> bool {
        match self {
            DType::F32 | DType::Bf16 => true,
            DType::I32 => false,
        }
    }

    /// Name in the text form.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::Bf16 => "bf16",
            DType::I32 => "i32",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no dtype.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected a dtype (f32, bf16 or i32), found `{0}`")]
pub struct UnknownDType(pub String);

impl FromStr for DType {
    type Err = UnknownDType;
    fn from_str(word: &str) -> Result<Self, UnknownDType> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == word).ok_or_else(|| UnknownDType(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for dtype in DType::ALL {
            assert_eq!(dtype.name().parse(), Ok(dtype));
        }
        assert!("f64".parse::<DType>().is_err());
    }
}
