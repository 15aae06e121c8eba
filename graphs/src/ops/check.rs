//! Checks that the shape rules share, and the error that they give.

use crate::dtype::DType;
use crate::layout::MAX_MEMBERS;
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

/// An operand's type with its index.
pub(crate) type Numbered<'t> = (usize, &'t TensorType);

/// The operands with their indices.
pub(crate) fn numbered<'t>(operands: &[&'t TensorType]) -> Vec<Numbered<'t>> {
    operands.iter().copied().enumerate().collect()
}

/// A fused op has so many members, and its sets (name, bits) are sets of them.
pub(crate) fn members(members: usize, sets: &[(&'static str, usize)]) -> Result<(), TypeError> {
    if !(1..=MAX_MEMBERS).contains(&members) {
        return Err(attribute("members", members, format!("there are between 1 and {MAX_MEMBERS}")));
    }
    match sets.iter().find(|(_, set)| set >> members != 0) {
        Some(&(name, set)) => Err(attribute(name, set, format!("a bit is no member of {members}"))),
        None => Ok(()),
    }
}

/// The attribute is a finite number.
pub(crate) fn finite(name: &'static str, value: f64) -> Result<(), TypeError> {
    if value.is_finite() { Ok(()) } else { Err(attribute(name, value, "it must be a finite number")) }
}

/// The operand is a floating-point matrix of these dimensions, of the dtype of `first` if that is given.
pub(crate) fn matrix(
    (operand, found): Numbered<'_>,
    dims: [Dim; 2],
    first: Option<&TensorType>,
) -> Result<(), TypeError> {
    float(operand, found, 2)?;
    same(operand, found, &TensorType::new(first.map_or(found.dtype, |first| first.dtype), dims))
}

/// The operand is a weight `[N, inputs]` of the dtype of `first`; gives N.
pub(crate) fn weight(
    (operand, found): Numbered<'_>,
    inputs: Dim,
    first: &TensorType,
) -> Result<Dim, TypeError> {
    match found.dims.as_slice() {
        [outputs, found_inputs]
            if *found_inputs == inputs
                && outputs.extent == Extent::Fixed
                && found.dtype.is_float()
                && found.dtype == first.dtype =>
        {
            Ok(*outputs)
        }
        _ => {
            let dtype = if first.dtype.is_float() { first.dtype } else { DType::F32 };
            Err(mismatch(operand, format!("a weight {dtype}[N, {inputs}]"), found))
        }
    }
}

/// The operand is an f32 matrix of `rows` rows and as many columns as the others of its kind: `columns`, which it sets
/// if it is the first.
pub(crate) fn thin(
    (operand, found): Numbered<'_>,
    rows: Dim,
    columns: &mut Option<Dim>,
) -> Result<Dim, TypeError> {
    float(operand, found, 2)?;
    let columns = *columns.get_or_insert(found.dims[1]);
    f32_of(operand, found, &[rows, columns])?;
    Ok(columns)
}

/// The operand is a matrix of labelled rows.
pub(crate) fn rows((operand, found): Numbered<'_>) -> Result<(), TypeError> {
    if found.dims[0].extent == Extent::Rows {
        return Ok(());
    }
    Err(mismatch(operand, "labelled rows, since `labelled` is given", found))
}
