//! Shapes: static upper bounds, some of which a batch fills only in part.
//!
//! A dimension has a *bound*, known when the graph is built and used to plan memory, and an *extent*, which says what
//! the number of used elements is at run time: always the bound, or a count that comes with the batch (slots, labelled
//! rows, windows, segments). Kernels loop to the extent. In text: `f32[slots:1024, 64]`.

use crate::dtype::DType;
use std::fmt;

/// What fills a dimension at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Extent {
    /// The bound itself.
    Fixed,
    /// Token slots in use in this micro-batch.
    Slots,
    /// Slots that have a label in this micro-batch.
    Rows,
    /// Windows (rows of at most max_seq_length tokens) in this micro-batch.
    Windows,
    /// Segments (documents that attend to themselves only) in this micro-batch.
    Segments,
}

impl Extent {
    /// Every extent, in the order of its wire number.
    pub const ALL: [Extent; 5] =
        [Extent::Fixed, Extent::Slots, Extent::Rows, Extent::Windows, Extent::Segments];

    /// Name in the text form; a fixed dimension has none.
    pub const fn name(self) -> &'static str {
        match self {
            Extent::Fixed => "fixed",
            Extent::Slots => "slots",
            Extent::Rows => "rows",
            Extent::Windows => "windows",
            Extent::Segments => "segments",
        }
    }
}

/// How much of each extent a micro-batch uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Extents {
    /// Token slots.
    pub slots: usize,
    /// Labelled slots.
    pub rows: usize,
    /// Windows.
    pub windows: usize,
    /// Segments.
    pub segments: usize,
}

impl Extents {
    /// Used elements of a dimension.
    pub fn of(&self, dim: Dim) -> usize {
        match dim.extent {
            Extent::Fixed => dim.bound,
            Extent::Slots => self.slots,
            Extent::Rows => self.rows,
            Extent::Windows => self.windows,
            Extent::Segments => self.segments,
        }
    }
}

/// One dimension of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dim {
    /// Largest number of elements.
    pub bound: usize,
    /// What says how many of them are used.
    pub extent: Extent,
}

impl Dim {
    /// A dimension that is always full.
    pub const fn fixed(bound: usize) -> Self {
        Self { bound, extent: Extent::Fixed }
    }

    /// At most `bound` token slots.
    pub const fn slots(bound: usize) -> Self {
        Self { bound, extent: Extent::Slots }
    }

    /// At most `bound` labelled rows.
    pub const fn rows(bound: usize) -> Self {
        Self { bound, extent: Extent::Rows }
    }

    /// At most `bound` windows.
    pub const fn windows(bound: usize) -> Self {
        Self { bound, extent: Extent::Windows }
    }

    /// At most `bound` segments.
    pub const fn segments(bound: usize) -> Self {
        Self { bound, extent: Extent::Segments }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.extent {
            Extent::Fixed => write!(f, "{}", self.bound),
            extent => write!(f, "{}:{}", extent.name(), self.bound),
        }
    }
}

impl From<usize> for Dim {
    fn from(bound: usize) -> Self {
        Dim::fixed(bound)
    }
}

/// Dtype and shape of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first; storage is row-major over the bounds' trailing dimensions.
    pub dims: Vec<Dim>,
}

impl TensorType {
    /// A tensor type.
    pub fn new(dtype: DType, dims: impl Into<Vec<Dim>>) -> Self {
        Self { dtype, dims: dims.into() }
    }

    /// An f32 tensor type.
    pub fn f32(dims: impl Into<Vec<Dim>>) -> Self {
        Self::new(DType::F32, dims)
    }

    /// An i32 tensor type.
    pub fn i32(dims: impl Into<Vec<Dim>>) -> Self {
        Self::new(DType::I32, dims)
    }

    /// The same shape with another dtype.
    pub fn with_dtype(&self, dtype: DType) -> Self {
        Self { dtype, dims: self.dims.clone() }
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Elements at the bounds.
    pub fn elements(&self) -> usize {
        self.dims.iter().map(|dim| dim.bound).product()
    }

    /// Bytes at the bounds.
    pub fn bytes(&self) -> usize {
        self.elements() * self.dtype.size()
    }

    /// Dimensions in use for these extents.
    pub fn used(&self, extents: &Extents) -> Vec<usize> {
        self.dims.iter().map(|&dim| extents.of(dim)).collect()
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (index, dim) in self.dims.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{dim}")?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_print_bounds_and_extents() {
        let ty = TensorType::f32([Dim::slots(1024), Dim::fixed(64)]);
        assert_eq!(ty.to_string(), "f32[slots:1024, 64]");
        assert_eq!(ty.bytes(), 1024 * 64 * 4);
    }

    #[test]
    fn a_batch_says_how_much_of_a_bound_is_used() {
        let ty = TensorType::f32([Dim::windows(8), Dim::rows(100), Dim::fixed(3)]);
        let extents = Extents { windows: 2, rows: 7, slots: 11, segments: 2 };
        assert_eq!(ty.used(&extents), [2, 7, 3]);
    }
}
