//! A file whose every byte has its place before a value is made.

use crate::weights::WeightDtype;

/// A file to write.
pub(super) struct PlannedFile {
    /// Its name in the directory.
    pub(super) name: String,
    /// Its length.
    pub(super) bytes: u64,
    /// What threads make.
    pub(super) contents: Vec<Content>,
    /// Bytes that are known once the contents are.
    pub(super) frame: Frame,
}

impl PlannedFile {
    /// True if there are tensors in it.
    pub(super) fn has_weights(&self) -> bool {
        !self.contents.is_empty()
    }
}

/// Bytes of one tensor or buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// The tensor.
    pub(super) name: String,
    /// Dimensions, outermost first.
    pub(super) shape: Vec<usize>,
    /// What the bytes are.
    pub(super) kind: ContentKind,
    /// First byte in the file.
    pub(super) offset: u64,
}

/// What the bytes of a [`Content`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentKind {
    /// Random values of this type.
    Random(WeightDtype),
    /// One byte an element of a square matrix: 1 on and below the diagonal.
    CausalMask,
    /// The value that a masked score was replaced by, -1e9, in this type.
    MaskedBias(WeightDtype),
}

impl Content {
    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of an element.
    pub(super) fn element_bytes(&self) -> usize {
        match self.kind {
            ContentKind::Random(dtype) | ContentKind::MaskedBias(dtype) => dtype.size(),
            ContentKind::CausalMask => 1,
        }
    }

    /// Bytes in the file.
    pub(super) fn bytes(&self) -> u64 {
        self.len() as u64 * self.element_bytes() as u64
    }
}

/// What surrounds the contents.
pub(super) enum Frame {
    /// Known bytes at the beginning.
    Header(Vec<u8>),
    /// A zip archive, whose tables hold a checksum of every content.
    Zip(super::zip_file::Archive),
}
