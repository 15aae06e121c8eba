//! Sizes of blocks, and how packed panels lie.
//!
//! A packed left panel has its rows [`LEFT_STRIDE`] lanes apart, so that a kernel finds row `r` at a constant distance.
//! A packed right panel has, for each lane of the summed index, one lane for each of the panel's columns, zeros behind the
//! last column; panels follow each other, [`padded`] lanes of the summed index each. A lane is an f32, or a pair of
//! bf16, the lower index in the lower half. Lanes up to the next multiple of [`LANE_STEP`] exist in both; of pairs they
//! are zero.

use super::Format;
use std::ops::Range;

/// Lanes of a block of the summed index: a left panel stays in the first-level cache (12 rows · 1 KiB), and a tile of sums
/// is loaded and stored only once in so many steps.
pub(super) const DEPTH: usize = 256;

/// Lanes from one row of a packed left panel to the next: rows begin in different sets of the cache.
pub(super) const LEFT_STRIDE: usize = DEPTH + 16;

/// Packing writes whole steps of so many lanes.
pub(super) const LANE_STEP: usize = 32;

/// Most rows of a tile whose sums wait in scratch; more are computed one part after the other.
pub(super) const ROWS: usize = 1024;

/// Most columns whose right panels are packed together; more are computed one part after the other. The compiler asks for
/// fewer where the second-level cache is small.
pub(crate) const COLUMNS: usize = 512;

/// Elements of a cache line: what alignment may cost.
pub(super) const LINE: usize = 16;

/// Lanes that `depth` lanes take when packed.
pub(super) const fn padded(depth: usize) -> usize {
    depth.next_multiple_of(LANE_STEP)
}

/// Summed elements of a lane.
pub(super) const fn elements_of_lane(format: Format) -> usize {
    match format {
        Format::F32 => 1,
        Format::Pairs => 2,
    }
}

/// Columns of a part of `columns` columns, a whole number of panels of `panel`.
pub(super) fn part_of_columns(columns: usize, panel: usize) -> usize {
    columns.next_multiple_of(panel).clamp(panel, COLUMNS)
}

/// f32 elements of scratch that a tile of at most `rows` times `columns` needs, with any instruction set.
pub(crate) fn scratch_elements(rows: usize, columns: usize) -> usize {
    let columns = part_of_columns(columns, WIDEST_PANEL);
    let sums = rows.clamp(1, ROWS) * columns;
    let left = MOST_ROWS * LEFT_STRIDE;
    let right = DEPTH * columns;
    LINE + left + right + sums + columns
}

/// Columns of the widest panel.
pub(super) const WIDEST_PANEL: usize = 32;
/// Rows of the highest left panel.
pub(super) const MOST_ROWS: usize = 32;

/// Part `index` when `length` rows are cut into the fewest parts of at most `most`, as equal as can be.
pub(super) fn even_part(length: usize, most: usize, index: usize) -> Range<usize> {
    let parts = length.div_ceil(most);
    index * length / parts..(index + 1) * length / parts
}
