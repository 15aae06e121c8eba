//! Steps over pairs of bf16, as a vector instruction or a tile of them does.
//!
//! The loops around the instructions are written once, over [`PairVector`] and [`PairTiles`]; the hardware implements
//! them in [`super::avx512bf16`] and [`super::amx`], and plain Rust in [`super::software`] for machines without.

use super::Ahead;
use super::blocking::{LEFT_STRIDE, even_part, padded};

/// Rows of a tile of vectors.
pub(super) const ROWS: usize = 12;
/// Columns of a tile: two vectors of 16, or two matrix tiles.
pub(super) const COLUMNS: usize = 32;
/// Rows and lanes of a matrix tile.
pub(super) const TILE: usize = 16;

/// 16 f32 lanes, and 16 pairs of bf16.
pub(super) trait PairVector: Copy {
    /// 16 sums.
    type Sums: Copy;
    /// 16 pairs.
    type Pairs: Copy;

    /// 16 zeros.
    fn zero() -> Self::Sums;

    /// 16 sums from memory.
    ///
    /// # Safety
    /// There are 16 elements.
    unsafe fn load(from: *const f32) -> Self::Sums;

    /// 16 sums to memory.
    ///
    /// # Safety
    /// There are 16 elements.
    unsafe fn store(sums: Self::Sums, to: *mut f32);

    /// 16 pairs from memory.
    ///
    /// # Safety
    /// There are 16 pairs.
    unsafe fn pairs(from: *const f32) -> Self::Pairs;

    /// 16 times the pair there.
    ///
    /// # Safety
    /// There is a pair.
    unsafe fn broadcast(from: *const f32) -> Self::Pairs;

    /// Adds to each lane the two products of its pairs.
    fn dot(sums: Self::Sums, a: Self::Pairs, b: Self::Pairs) -> Self::Sums;
}

/// `ROWS` rows of pairs times one panel of [`COLUMNS`] columns.
///
/// # Safety
/// As for [`super::Steps::multiply`] with one panel; the CPU has the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn vector_tile<V: PairVector, const ROWS: usize>(
    depth: usize,
    left: *const f32,
    right: *const f32,
    sums: *mut f32,
    fresh: bool,
) {
    // SAFETY: the caller's promise: a left panel of ROWS rows, a right panel of `depth` lanes, sums of ROWS rows.
    unsafe {
        let mut chains = [[V::zero(); 2]; ROWS];
        if !fresh {
            for (row, chains) in chains.iter_mut().enumerate() {
                chains[0] = V::load(sums.add(row * COLUMNS));
                chains[1] = V::load(sums.add(row * COLUMNS + 16));
            }
        }
        let mut right = right;
        for lane in 0..depth {
            let b = [V::pairs(right), V::pairs(right.add(16))];
            for (row, chains) in chains.iter_mut().enumerate() {
                let a = V::broadcast(left.add(row * LEFT_STRIDE + lane));
                chains[0] = V::dot(chains[0], a, b[0]);
                chains[1] = V::dot(chains[1], a, b[1]);
            }
            right = right.add(COLUMNS);
        }
        for (row, chains) in chains.iter().enumerate() {
            V::store(chains[0], sums.add(row * COLUMNS));
            V::store(chains[1], sums.add(row * COLUMNS + 16));
        }
    }
}

/// The vector tiles of a panel of `rows` rows, `tile(rows, left, right, sums)` of at most [`ROWS`] each.
#[inline(always)]
pub(super) fn vector_tiles(
    rows: usize,
    depth: usize,
    panels: usize,
    ahead: &Ahead,
    mut tile: impl FnMut(usize, usize, usize, usize),
) {
    for panel in 0..panels {
        ahead.fetch(panel, panels);
        for part in 0..rows.div_ceil(ROWS) {
            let part = even_part(rows, ROWS, part);
            let right = panel * padded(depth) * COLUMNS;
            tile(part.len(), part.start * LEFT_STRIDE, right, (panel * rows + part.start) * COLUMNS);
        }
    }
}

/// Matrix tiles of pairs: 16 rows of 16 lanes.
pub(super) trait PairTiles: Copy {
    /// `sums[panels, rows, 32] += left[rows, lanes] · right[panels, lanes, 32]` over pairs; `rows` at most 32, `lanes` a
    /// multiple of 16.
    ///
    /// Rows of `left` are [`LEFT_STRIDE`] lanes apart, panels of `right` as many lanes as [`padded`] says.
    ///
    /// # Safety
    /// The memory is there, and the CPU has the instructions.
    unsafe fn multiply(
        self,
        rows: usize,
        lanes: usize,
        left: *const f32,
        right: *const f32,
        panels: usize,
        sums: *mut f32,
    );
}

/// [`super::Steps::multiply`] of pairs, by matrix tiles.
///
/// # Safety
/// As there; the CPU has the instructions of `T`. Lanes behind `depth` are zero in both panels up to a whole tile.
pub(super) unsafe fn tiles<T: PairTiles>(
    tiles: T,
    rows: usize,
    depth: usize,
    left: *const f32,
    right: *const f32,
    panels: usize,
    sums: *mut f32,
    fresh: bool,
    ahead: &Ahead,
) {
    ahead.fetch(0, 1);
    // SAFETY: the caller's promise; padding leaves room for whole tiles.
    unsafe {
        if fresh {
            sums.write_bytes(0, panels * rows * COLUMNS);
        }
        tiles.multiply(rows, depth.next_multiple_of(TILE), left, right, panels, sums);
    }
}
