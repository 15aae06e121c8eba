//! Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
//! 1, 2, 3" (2011), and the words of it that decide what dropout keeps.
//!
//! A word depends on a key and a counter and on nothing else, so a mask needs no memory and is the same for whoever
//! computes it: forward and backward, any thread, any cut of the step into micro-batches.
//!
//! Does not: keep state or give real numbers.

/// Factors of a round.
pub const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// Added to the key between rounds: the golden ratio and the root of three minus one.
pub const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
/// Rounds of a block of words.
pub const ROUNDS: usize = 10;

/// Sites (dropout calls of a graph) that a counter can tell apart.
pub const MAX_SITES: usize = 1 << 16;

/// Slots of a window that a counter can tell apart.
pub const MAX_WINDOW: usize = 1 << 16;

/// Four random words for `counter` under `key`.
#[inline]
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut c, mut k) = (counter, key);
    for round in 0..ROUNDS {
        if round > 0 {
            k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
        }
        let (high0, low0) = wide_product(MULTIPLIERS[0], c[0]);
        let (high1, low1) = wide_product(MULTIPLIERS[1], c[2]);
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0];
    }
    c
}

/// The product of two words as (high, low).
#[inline]
fn wide_product(a: u32, b: u32) -> (u32, u32) {
    let product = u64::from(a) * u64::from(b);
    ((product >> 32) as u32, product as u32)
}

/// What the masks of one dropout site in one optimizer step have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropoutSite {
    /// Seed of the run: low word, high word.
    pub seed: [u32; 2],
    /// Optimizer step.
    pub step: u32,
    /// Which dropout of the graph it is.
    pub site: u16,
}

impl DropoutSite {
    /// The site of a step; `counter` is (seed low, seed high, optimizer step, first global window of the micro-batch),
    /// bit patterns of u32, of which the last is not used here.
    #[inline]
    pub fn new(counter: [i32; 4], site: u16) -> Self {
        let [low, high, step, _] = counter.map(i32::cast_unsigned);
        Self { seed: [low, high], step, site }
    }

    /// The words of columns `4 * block .. 4 * block + 4` of the slot at `offset` of global window `window`.
    #[inline]
    pub fn keep_words(&self, window: u32, offset: u16, block: u32) -> [u32; 4] {
        let place = u32::from(self.site) << 16 | u32::from(offset);
        philox4x32_10([block, place, window, self.step], self.seed)
    }

    /// The word of one column. The element is kept if the word is at least [`keep_threshold`].
    #[inline]
    pub fn keep_word(&self, window: u32, offset: u16, column: u32) -> u32 {
        self.keep_words(window, offset, column / 4)[(column % 4) as usize]
    }
}

/// First word that keeps an element when `p` of the elements are dropped: `floor(p * 2^32)`, for `p` in `0..1`.
#[inline]
pub fn keep_threshold(p: f64) -> u32 {
    (p * 2f64.powi(32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that the authors publish with their Random123 library.
    #[test]
    fn the_published_vectors_come_out() {
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        for (counter, key, expected) in [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (pi, [0xa409_3822, 0x299f_31d0], [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]),
        ] {
            assert_eq!(philox4x32_10(counter, key), expected, "counter {counter:08x?}, key {key:08x?}");
        }
    }

    #[test]
    fn a_threshold_is_the_dropped_share_of_all_words() {
        assert_eq!(keep_threshold(0.0), 0);
        assert_eq!(keep_threshold(0.5), 1 << 31);
        assert_eq!(keep_threshold(0.05), 214_748_364);
        assert_eq!(keep_threshold(1.0 - 1e-12), u32::MAX);
    }

    #[test]
    fn a_word_is_found_by_its_place() {
        let site = DropoutSite::new([-1, 2, 3, 99], 0xabcd);
        assert_eq!(site, DropoutSite { seed: [u32::MAX, 2], step: 3, site: 0xabcd });
        let words = philox4x32_10([1, 0xabcd_0102, 7, 3], [u32::MAX, 2]);
        assert_eq!(site.keep_words(7, 0x0102, 1), words);
        assert_eq!([4, 5, 6, 7].map(|column| site.keep_word(7, 0x0102, column)), words);
    }
}
