//! The portable product: plain Rust that a compiler can vectorise over outputs.
//!
//! A panel of [`PANEL`] columns of `b` is packed (and widened) for a block of the sum, then rows of `a` pass by,
//! [`ROWS`] at a time. Vectorising over outputs leaves every output its one chain of additions.

use super::Factor;
use std::ops::Range;

/// Columns of a packed panel.
const PANEL: usize = 8;
/// Rows of `a` that share a pass over the panel.
const ROWS: usize = 4;
/// Summed elements of a block: panel and rows of `a` stay in the first-level cache.
const BLOCK: usize = 512;

/// Sizes of a product and how its second operand lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Summed elements.
    pub(super) inner: usize,
    /// Columns of the result.
    pub(super) columns: usize,
    /// `b` is `[columns, inner]`, not `[inner, columns]`.
    pub(super) transposed: bool,
}

/// f32 elements of scratch that [`matmul_tile`] needs.
pub(super) const fn scratch_elements() -> usize {
    BLOCK * PANEL
}

/// Computes `columns` of all rows of `a`.
///
/// # Shapes
/// `a[rows, inner]`, `b` as `layout` says, `row_of_y(row, columns)` the result's elements.
pub(super) fn matmul_tile<'y, A: Factor, B: Factor>(
    a: &[A],
    b: &[B],
    rows: usize,
    layout: Layout,
    columns: Range<usize>,
    row_of_y: impl Fn(usize, Range<usize>) -> &'y mut [f32],
    scratch: &mut [f32],
) {
    for first in (0..layout.inner.max(1)).step_by(BLOCK) {
        let summed = first..(first + BLOCK).min(layout.inner);
        for start in columns.clone().step_by(PANEL) {
            let panel_columns = start..(start + PANEL).min(columns.end);
            let panel = &mut scratch[..summed.len() * PANEL];
            pack(b, layout, summed.clone(), panel_columns.clone(), panel);
            for row in (0..rows).step_by(ROWS) {
                let count = ROWS.min(rows - row);
                let mut sums = [[0.0f32; PANEL]; ROWS];
                if first > 0 {
                    for (index, sums) in sums[..count].iter_mut().enumerate() {
                        let y = row_of_y(row + index, panel_columns.clone());
                        sums[..y.len()].copy_from_slice(y);
                    }
                }
                let block = |index: usize| {
                    let start = (row + index.min(count - 1)) * layout.inner;
                    &a[start + summed.start..start + summed.end]
                };
                multiply(&[0, 1, 2, 3].map(block), panel, &mut sums);
                for (index, sums) in sums[..count].iter().enumerate() {
                    let y = row_of_y(row + index, panel_columns.clone());
                    y.copy_from_slice(&sums[..panel_columns.len()]);
                }
            }
        }
    }
}

/// Packs `b[summed, columns]` as `[summed, PANEL]`, zeros behind the last column.
fn pack<B: Factor>(b: &[B], layout: Layout, summed: Range<usize>, columns: Range<usize>, panel: &mut [f32]) {
    if columns.len() < PANEL {
        panel.fill(0.0);
    }
    for (column, n) in columns.enumerate() {
        if layout.transposed {
            let source = &b[n * layout.inner..][summed.clone()];
            for (row, value) in panel.chunks_exact_mut(PANEL).zip(source) {
                row[column] = value.widen();
            }
        } else {
            for (row, k) in panel.chunks_exact_mut(PANEL).zip(summed.clone()) {
                row[column] = b[k * layout.columns + n].widen();
            }
        }
    }
}

/// `sums[i] += a[i] · panel`, one multiply and one add for each element in ascending order.
fn multiply<A: Factor>(a: &[&[A]; ROWS], panel: &[f32], sums: &mut [[f32; PANEL]; ROWS]) {
    let mut local = *sums;
    for (k, b) in panel.chunks_exact(PANEL).enumerate() {
        for (sums, a) in local.iter_mut().zip(a) {
            let a = a[k].widen();
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum += a * b;
            }
        }
    }
    *sums = local;
}
