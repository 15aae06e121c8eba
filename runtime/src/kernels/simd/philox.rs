//! The random words of dropout, [`WORDS`] columns at a time; the same as of [`gptjc_graphs::philox`].

use super::{LANES, Simd};
use gptjc_graphs::philox::{DropoutSite, MULTIPLIERS, ROUNDS, WEYL};

/// Columns that one call makes the words of: a vector of counters, four words each.
pub(crate) const WORDS: usize = 4 * LANES;

/// Block of four columns that each lane computes, so that transposing quarters puts the columns in order.
const BLOCKS: [u32; LANES] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];

/// The words of a row: of one slot at one site.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowWords {
    key: [u32; 2],
    place: u32,
    window: u32,
    step: u32,
}

impl RowWords {
    /// The words of the slot at `offset` of global window `window`.
    pub(crate) fn new(site: &DropoutSite, window: u32, offset: u16) -> Self {
        let place = u32::from(site.site) << 16 | u32::from(offset);
        Self { key: site.seed, place, window, step: site.step }
    }

    /// The words of columns `WORDS * index ..` `WORDS * (index + 1)`, as four vectors in order.
    #[inline(always)]
    pub(crate) fn of<S: Simd>(&self, s: S, index: usize) -> [S::Words; 4] {
        let first = (index * LANES) as u32; // blocks of four columns in a group of WORDS
        let blocks = s.add_words(s.load_words(&BLOCKS), s.splat_words(first));
        // Lanes 2i and lanes 2i + 1 are computed apart, each in the low half of a u64: upper halves are never read.
        let rest = [self.place, self.window, self.step].map(|word| s.splat_words(word));
        let mut even = [blocks, rest[0], rest[1], rest[2]];
        let mut odd = [s.high(blocks), rest[0], rest[1], rest[2]];
        let mut key = self.key;
        let multipliers = MULTIPLIERS.map(|word| s.splat_words(word));
        for _ in 0..ROUNDS {
            let keys = key.map(|word| s.splat_words(word));
            even = round(s, even, keys, multipliers);
            odd = round(s, odd, keys, multipliers);
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        s.transpose([
            s.merge(even[0], odd[0]),
            s.merge(even[1], odd[1]),
            s.merge(even[2], odd[2]),
            s.merge(even[3], odd[3]),
        ])
    }
}

/// One round on the low halves of the u64 lanes.
#[inline(always)]
fn round<S: Simd>(s: S, c: [S::Words; 4], key: [S::Words; 2], multipliers: [S::Words; 2]) -> [S::Words; 4] {
    let (a, b) = (s.wide_products(c[0], multipliers[0]), s.wide_products(c[2], multipliers[1]));
    [s.xor(s.high(b), c[1], key[0]), b, s.xor(s.high(a), c[3], key[1]), a]
}
