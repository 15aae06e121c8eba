//! Checks that the shape rules share, and the error that they give.

use crate::dtype::DType;
use crate::shape::{Dim, Extent, TensorType};

/// Operands that an op does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TypeError {
    /// Another number of operands.
    #[error("expected {expected} operands, found {found}")]
    Count {
        /// Number that the op takes.
        expected: usize,
        /// Number given.
        found: usize,
    },
    /// An operand of another type.
    #[error("operand {operand}: expected {expected}, found {found}")]
    Operand {
        /// Index of the operand.
        operand: usize,
        /// What the op takes, as a type or in words.
        expected: String,
        /// The type given.
        found: TensorType,
    },
    /// An attribute that does not fit the operands.
    #[error("attribute `{name}` = {value}: {reason}")]
    Attribute {
        /// Name of the attribute.
        name: &'static str,
        /// Its value.
        value: String,
        /// Why it does not fit.
        reason: String,
    },
}

/// The operands as an array of `N`.
pub(crate) fn operands<'t, const N: usize>(
    operands: &[&'t TensorType],
) -> Result<[&'t TensorType; N], TypeError> {
    operands.try_into().map_err(|_| TypeError::Count { expected: N, found: operands.len() })
}

/// The error that says what operand `operand` should have been.
pub(crate) fn mismatch(operand: usize, expected: impl ToString, found: &TensorType) -> TypeError {
    TypeError::Operand { operand, expected: expected.to_string(), found: found.clone() }
}

/// The operand has exactly this type.
pub(crate) fn same(operand: usize, found: &TensorType, expected: &TensorType) -> Result<(), TypeError> {
    if found == expected { Ok(()) } else { Err(mismatch(operand, expected, found)) }
}

/// The operand has a floating-point type and this rank.
pub(crate) fn float(operand: usize, found: &TensorType, rank: usize) -> Result<(), TypeError> {
    if found.dtype.is_float() && found.rank() == rank {
        Ok(())
    } else {
        Err(mismatch(operand, format!("a floating-point tensor of rank {rank}"), found))
    }
}

/// The operand is f32 of this shape.
pub(crate) fn f32_of(operand: usize, found: &TensorType, dims: &[Dim]) -> Result<(), TypeError> {
    same(operand, found, &TensorType::f32(dims))
}

/// The operand is one number for each element of `dim`, of dtype i32.
pub(crate) fn index_vector(operand: usize, found: &TensorType, dim: Dim) -> Result<(), TypeError> {
    same(operand, found, &TensorType::i32([dim]))
}

/// The operand is a table of (first, count) pairs: one for each window or segment.
pub(crate) fn range_table(operand: usize, found: &TensorType, extent: Extent) -> Result<Dim, TypeError> {
    match found.dims.as_slice() {
        [dim, pair] if found.dtype == DType::I32 && dim.extent == extent && *pair == Dim::fixed(2) => {
            Ok(*dim)
        }
        _ => Err(mismatch(operand, format!("a table i32[{}:_, 2]", extent.name()), found)),
    }
}

/// An attribute that does not fit.
pub(crate) fn attribute(name: &'static str, value: impl ToString, reason: impl Into<String>) -> TypeError {
    TypeError::Attribute { name, value: value.to_string(), reason: reason.into() }
}
