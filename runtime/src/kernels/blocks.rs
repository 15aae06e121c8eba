//! How a matrix is cut into tiles of rows and columns.

use super::tile_range;
use gptjc_graphs::plan::Partition;
use std::ops::Range;

/// Sizes of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    /// Rows of a tile; at least 1.
    pub(crate) rows: usize,
    /// Columns of a tile; none for all.
    columns: Option<usize>,
}

impl Blocks {
    /// As the partition says, for a matrix of at most `rows` rows.
    pub(crate) fn new(partition: Partition, rows: usize) -> Self {
        let columns = Some(partition.columns as usize).filter(|&columns| columns > 0);
        Self { rows: (partition.rows as usize).min(rows).max(1), columns }
    }

    /// Tiles of `rows` rows.
    pub(crate) fn row_tiles(self, rows: usize) -> usize {
        rows.div_ceil(self.rows)
    }

    /// Tiles of `columns` columns.
    pub(crate) fn column_tiles(self, columns: usize) -> usize {
        self.columns.map_or(usize::from(columns > 0), |size| columns.div_ceil(size))
    }

    /// Most columns of a tile of a matrix of `columns` columns.
    pub(crate) fn most_columns(self, columns: usize) -> usize {
        self.columns.map_or(columns, |size| size.min(columns))
    }

    /// Tiles of a matrix of these sizes.
    pub(crate) fn count(self, rows: usize, columns: usize) -> usize {
        self.row_tiles(rows) * self.column_tiles(columns)
    }

    /// Columns of column tile `tile`.
    pub(crate) fn columns(self, tile: usize, columns: usize) -> Range<usize> {
        tile_range(tile, self.columns.unwrap_or(columns), columns)
    }

    /// Rows and columns of tile `tile` of a matrix of these sizes. Columns change slowest: threads that run at the same
    /// time share the columns of a second operand.
    pub(crate) fn tile(self, tile: usize, rows: usize, columns: usize) -> (Range<usize>, Range<usize>) {
        let row_tiles = self.row_tiles(rows);
        (tile_range(tile % row_tiles, self.rows, rows), self.columns(tile / row_tiles, columns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_in_one_tile() {
        for (rows, columns) in [(1, 0), (2, 3), (5, 4), (9, 100)] {
            let blocks = Blocks::new(Partition { rows, columns }, 7);
            let mut seen = vec![0; 7 * 11];
            for tile in 0..blocks.count(7, 11) {
                let (rows, columns) = blocks.tile(tile, 7, 11);
                assert!(!rows.is_empty() && !columns.is_empty());
                rows.for_each(|row| columns.clone().for_each(|column| seen[row * 11 + column] += 1));
            }
            assert_eq!(seen, vec![1; 7 * 11], "tiles of {blocks:?}");
            assert_eq!((blocks.count(0, 11), blocks.count(7, 0)), (0, 0));
        }
    }
}
