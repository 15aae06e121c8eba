//! The product that everything is made of: factors times vectors, in blocks of registers.

use super::super::super::simd::{Body, LANES, Simd};
use std::ops::Range;

/// `c[row][vector] (+)= Σ w[row, term] · x[vector, term]`: a factor times a vector of [`LANES`] numbers.
///
/// Terms come in groups. Each element is one chain of fused multiply-adds in ascending order of group and term, from 0
/// or from what `c` holds; how rows and vectors are blocked does not show.
pub(super) struct Product<'a, const ROWS: usize, const VECTORS: usize> {
    /// Factor of group g, row r, term t: `w[g * w_steps[0] + r * w_steps[1] + t * w_steps[2]]`.
    pub(super) w: &'a [f32],
    pub(super) w_steps: [usize; 3],
    /// Vector v of group g, term t, begins at `x[g * x_steps[0] + v * x_steps[1] + t * LANES]`.
    pub(super) x: &'a [f32],
    pub(super) x_steps: [usize; 2],
    pub(super) groups: usize,
    /// Vector v of row r begins at `c[r * c_steps[0] + v * c_steps[1]]`.
    pub(super) c: &'a mut [f32],
    pub(super) c_steps: [usize; 2],
    pub(super) rows: usize,
    pub(super) vectors: usize,
    /// Whether the chain begins with what `c` holds.
    pub(super) add: bool,
    pub(super) terms: Terms<'a>,
}

/// Which terms a block of rows needs, by how many keys of the tile each query sees (ascending).
#[derive(Clone, Copy)]
pub(super) enum Terms<'a> {
    /// Rows are queries, vectors are keys: all terms, for the vectors that the last row sees.
    Scores { seen: &'a [usize], terms: usize },
    /// Rows are queries, terms are keys: those that the last row sees.
    Keys { seen: &'a [usize] },
    /// Rows are keys, terms are queries: those that see the first row.
    Queries { seen: &'a [usize] },
}

impl Terms<'_> {
    /// Terms of a block of rows for the vectors from `vector` on.
    #[inline(always)]
    fn of(&self, rows: Range<usize>, vector: usize) -> Range<usize> {
        match *self {
            Terms::Scores { seen, terms } if seen[rows.end - 1] > vector * LANES => 0..terms,
            Terms::Scores { .. } => 0..0,
            Terms::Keys { seen } => 0..seen[rows.end - 1],
            Terms::Queries { seen } => seen.partition_point(|&seen| seen <= rows.start)..seen.len(),
        }
    }

    /// The end of all terms.
    fn end(&self) -> usize {
        match *self {
            Terms::Scores { terms, .. } => terms,
            Terms::Keys { seen } => seen.last().copied().unwrap_or(0),
            Terms::Queries { seen } => seen.len(),
        }
    }
}

/// Rows, vectors and terms of one block.
struct Block {
    row: usize,
    vector: usize,
    terms: Range<usize>,
}

impl<const ROWS: usize, const VECTORS: usize> Product<'_, ROWS, VECTORS> {
    /// Panics if a step leads out of a slice.
    fn check(&self) {
        let (rows, vectors, groups, terms) = (self.rows, self.vectors, self.groups, self.terms.end());
        if rows == 0 || vectors == 0 || groups == 0 || terms == 0 {
            return;
        }
        let w = (groups - 1) * self.w_steps[0] + (rows - 1) * self.w_steps[1] + (terms - 1) * self.w_steps[2];
        let x = (groups - 1) * self.x_steps[0] + (vectors - 1) * self.x_steps[1] + terms * LANES;
        let c = (rows - 1) * self.c_steps[0] + (vectors - 1) * self.c_steps[1] + LANES;
        assert!(w < self.w.len() && x <= self.x.len() && c <= self.c.len(), "a product beyond its operands");
    }

    /// A block of `R` rows and `V` vectors in registers.
    ///
    /// # Safety
    /// The block lies inside of what [`check`](Self::check) allows.
    #[inline(always)]
    unsafe fn block<S: Simd, const R: usize, const V: usize>(&mut self, s: S, block: &Block) {
        let mut sums = [[s.splat(0.0); V]; R];
        // SAFETY: the caller's promise: each address is inside of its slice.
        unsafe {
            let c = self.c.as_mut_ptr().add(block.row * self.c_steps[0] + block.vector * self.c_steps[1]);
            if self.add {
                for r in 0..R {
                    for v in 0..V {
                        sums[r][v] = s.load(&*c.add(r * self.c_steps[0] + v * self.c_steps[1]).cast());
                    }
                }
            }
            for group in 0..self.groups {
                let w = self.w.as_ptr().add(group * self.w_steps[0] + block.row * self.w_steps[1]);
                let x = self.x.as_ptr().add(group * self.x_steps[0] + block.vector * self.x_steps[1]);
                for term in block.terms.clone() {
                    let mut vectors = [s.splat(0.0); V];
                    for v in 0..V {
                        vectors[v] = s.load(&*x.add(v * self.x_steps[1] + term * LANES).cast());
                    }
                    for r in 0..R {
                        let factor = s.splat(*w.add(r * self.w_steps[1] + term * self.w_steps[2]));
                        for v in 0..V {
                            sums[r][v] = s.fma(factor, vectors[v], sums[r][v]);
                        }
                    }
                }
            }
            for r in 0..R {
                for v in 0..V {
                    s.store(sums[r][v], &mut *c.add(r * self.c_steps[0] + v * self.c_steps[1]).cast());
                }
            }
        }
    }

    /// All rows of `V` vectors.
    #[inline(always)]
    fn column<S: Simd, const V: usize>(&mut self, s: S, vector: usize) {
        let mut row = 0;
        while row < self.rows {
            let rows = match self.rows - row {
                left if left >= ROWS => ROWS,
                left if left >= 4 => 4,
                left if left >= 2 => 2,
                _ => 1,
            };
            let block = Block { row, vector, terms: self.terms.of(row..row + rows, vector) };
            // SAFETY: rows and vectors are below the numbers that were checked, and so are terms.
            unsafe {
                match rows {
                    _ if block.terms.is_empty() => {}
                    rows if rows == ROWS => self.block::<S, ROWS, V>(s, &block),
                    4 => self.block::<S, 4, V>(s, &block),
                    2 => self.block::<S, 2, V>(s, &block),
                    _ => self.block::<S, 1, V>(s, &block),
                }
            }
            row += rows;
        }
    }
}

impl<const ROWS: usize, const VECTORS: usize> Body for Product<'_, ROWS, VECTORS> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        self.check();
        let mut vector = 0;
        while vector + VECTORS <= self.vectors {
            self.column::<S, VECTORS>(s, vector);
            vector += VECTORS;
        }
        while vector < self.vectors {
            self.column::<S, 1>(s, vector);
            vector += 1;
        }
    }
}
