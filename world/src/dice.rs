//! Random choices that depend on seed and stream alone.
//!
//! Written out here on top of ChaCha8's words, because a library's `choose` and `shuffle` may change with its version,
//! and with them every row of a seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A stream of random choices.
#[derive(Clone, Debug)]
pub struct Dice {
    random: ChaCha8Rng,
}

impl Dice {
    /// The choices of `seed` in `stream`; streams of one seed are independent.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut random = ChaCha8Rng::from_seed(key);
        random.set_stream(stream);
        Self { random }
    }

    /// A number below `bound`, all equally likely; 0 if `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // 64 random bits over a small bound: the bias is below bound / 2^64, far under what could be seen.
        let product = u128::from(self.random.next_u64()) * bound as u128;
        (product >> 64) as usize
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of `items`, all equally likely; none if there is none.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        items.get(self.below(items.len())).copied()
    }

    /// The index of one of `weights`, with the probability that its weight has; 0 if all are 0.
    pub fn weighted(&mut self, weights: &[usize]) -> usize {
        let mut left = self.below(weights.iter().sum());
        for (index, &weight) in weights.iter().enumerate() {
            if left < weight {
                return index;
            }
            left -= weight;
        }
        0
    }

    /// Puts `items` into a random order (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_depend_on_seed_and_stream_only() {
        let draw = |seed, stream| {
            let mut dice = Dice::new(seed, stream);
            (0..20).map(|_| dice.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 2));
    }

    #[test]
    fn weights_are_kept() {
        let mut dice = Dice::new(7, 0);
        let mut counts = [0usize; 3];
        for _ in 0..9000 {
            counts[dice.weighted(&[1, 0, 2])] += 1;
        }
        assert_eq!(counts[1], 0);
        // Three standard deviations of a binomial of 9000 draws at 1/3 are 134.
        assert!(counts[0].abs_diff(3000) < 135, "{counts:?}");
    }

    #[test]
    fn shuffling_keeps_the_items() {
        let mut items: Vec<usize> = (0..50).collect();
        Dice::new(3, 1).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
