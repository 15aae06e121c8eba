//! The portable product: plain Rust that a compiler can vectorise over outputs.
//!
//! A panel of [`PANEL`] columns of `b` is packed (and widened) for a block of the sum, then rows of `a` pass by,
//! [`ROWS`] at a time. Vectorising over outputs leaves every output its one chain of additions.

use super::Factor;
use std::ops::Range;

/// Columns of a packed panel.
pub(in crate::kernels) const PANEL: usize = 8;
/// Rows of `a` that share a pass over the panel.
const ROWS: usize = 4;
/// Summed elements of a block: panel and rows of `a` stay in the first-level cache.
const BLOCK: usize = 512;
/// f32 elements of scratch that [`accumulate`] needs.
pub(in crate::kernels) const PACKED: usize = BLOCK * PANEL;

/// Sizes of a product and how its second operand lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernels) struct Layout {
    /// Summed elements.
    pub(in crate::kernels) inner: usize,
    /// Columns of the result.
    pub(in crate::kernels) columns: usize,
    /// `b` is `[columns, inner]`, not `[inner, columns]`.
    pub(in crate::kernels) transposed: bool,
}

/// The panels of a range of columns.
pub(in crate::kernels) fn panels(columns: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = columns.end;
    columns.step_by(PANEL).map(move |start| start..(start + PANEL).min(end))
}

/// Goes on with the sums of one panel of columns: `sums += a · b`, in ascending order.
///
/// # Shapes
/// `a[rows, inner]`, `b` as `layout` says, `sums[rows, PANEL]`, of which the first `columns.len()` columns count; `packed`
/// has [`PACKED`] elements.
pub(in crate::kernels) fn accumulate<A: Factor, B: Factor>(
    a: &[A],
    b: &[B],
    layout: Layout,
    columns: Range<usize>,
    sums: &mut [f32],
    packed: &mut [f32],
) {
    let inner = layout.inner;
    for first in (0..inner).step_by(BLOCK) {
        let summed = first..(first + BLOCK).min(inner);
        let panel = &mut packed[..summed.len() * PANEL];
        pack(b, layout, summed.clone(), columns.clone(), panel);
        for (group, sums) in sums.chunks_mut(ROWS * PANEL).enumerate() {
            let count = sums.len() / PANEL;
            let block = |index: usize| {
                let start = (group * ROWS + index.min(count - 1)) * inner;
                &a[start + summed.start..start + summed.end]
            };
            let mut local = [[0.0f32; PANEL]; ROWS];
            for (local, sums) in local.iter_mut().zip(sums.chunks_exact(PANEL)) {
                local.copy_from_slice(sums);
            }
            multiply(&[0, 1, 2, 3].map(block), panel, &mut local);
            for (local, sums) in local.iter().zip(sums.chunks_exact_mut(PANEL)) {
                sums.copy_from_slice(local);
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
