//! What will be packed next, fetched into the cache while products are computed.
//!
//! Packing reads short pieces of many rows, a page or more apart, which the hardware's own prefetching does not follow.
//! The lines are asked for in small shares, one before each tile of sums, so that they do not hold up one another.

use super::{Elements, Form, Left, Right};
use std::ops::Range;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Pieces of rows of an operand.
#[derive(Clone, Copy, Debug)]
struct Pieces {
    first: *const u8,
    /// Bytes from one row to the next.
    stride: usize,
    rows: usize,
    /// Lines of a piece.
    lines: usize,
}

impl Pieces {
    const NONE: Self = Self { first: std::ptr::null(), stride: 0, rows: 0, lines: 0 };

    /// `columns` of `rows` of a matrix.
    fn new(elements: Elements, stride: usize, rows: Range<usize>, columns: Range<usize>) -> Self {
        if rows.is_empty() || columns.is_empty() {
            return Self::NONE;
        }
        let (address, size) = match elements {
            Elements::F32(elements) => (elements.as_ptr().cast::<u8>(), 4),
            Elements::Bf16(elements) => (elements.as_ptr().cast::<u8>(), 2),
        };
        let start = (rows.start * stride + columns.start) * size;
        // A piece may begin inside of a line.
        let lines = (columns.len() * size).div_ceil(LINE) + usize::from(!start.is_multiple_of(LINE));
        Self { first: address.wrapping_add(start), stride: stride * size, rows: rows.len(), lines }
    }

    /// Part `index` of `parts` of the rows.
    fn part(self, index: usize, parts: usize) -> Self {
        let (first, end) = (index * self.rows / parts, (index + 1) * self.rows / parts);
        Self { first: self.first.wrapping_add(first * self.stride), rows: end - first, ..self }
    }

    /// Asks for share `index` of `shares` of the lines.
    fn fetch(self, index: usize, shares: usize) {
        let all = self.rows * self.lines;
        let (first, end) = (index * all / shares, (index + 1) * all / shares);
        if first == end {
            return;
        }
        let (mut row, mut line) = (first / self.lines, first % self.lines);
        for _ in first..end {
            prefetch(self.first.wrapping_add(row * self.stride + line * LINE));
            line += 1;
            if line == self.lines {
                (row, line) = (row + 1, 0);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch(line: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    // SAFETY: a prefetch has no effect but on the cache, and does not fault whatever the address is.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
fn prefetch(_line: *const u8) {}

/// What a row panel's multiplication fetches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    left: Pieces,
    right: Pieces,
}

impl Ahead {
    /// Nothing.
    pub(super) const NONE: Self = Self { left: Pieces::NONE, right: Pieces::NONE };

    /// The rows of the left operand that will be packed next.
    pub(super) fn with_left(self, left: &Left, rows: Range<usize>, inner: Range<usize>) -> Self {
        let (slow, fast) = if left.transposed { (inner, rows) } else { (rows, inner) };
        Self { left: Pieces::new(left.elements, left.stride, slow, fast), ..self }
    }

    /// Part `index` of `parts` of the right operand's block that will be packed next.
    pub(super) fn with_right(
        self,
        right: &Right,
        columns: Range<usize>,
        inner: Range<usize>,
        index: usize,
        parts: usize,
    ) -> Self {
        let (slow, fast) = if right.form == Form::Nt { (columns, inner) } else { (inner, columns) };
        let pieces = Pieces::new(right.elements, right.stride, slow, fast);
        Self { right: pieces.part(index, parts), ..self }
    }

    /// Asks for share `index` of `shares`.
    pub(super) fn fetch(&self, index: usize, shares: usize) {
        self.left.fetch(index, shares);
        self.right.fetch(index, shares);
    }
}
