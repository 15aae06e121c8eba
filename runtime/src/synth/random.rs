//! Values of a tensor: a function of seed, name and index.
//!
//! An element is the sum of four 16-bit uniforms out of one 64-bit word, scaled: nearly normal, bounded by 3.46 standard
//! deviations, and a few nanoseconds each. The word is SplitMix64's of the element's index from a start that is a
//! SHA-256 of seed and name.

use sha2::{Digest, Sha256};

/// Step between two states of SplitMix64: 2^64 over the golden ratio.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// The distribution of one tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Values {
    start: u64,
    mean: f32,
    /// Standard deviation over that of the sum of four uniforms on `0..65536`.
    scale: f32,
}

impl Values {
    /// The values of the tensor `name`: a layer norm's weight, a vector called `….ln_….weight`, is around 1.
    pub(super) fn new(seed: u64, name: &str, std: f64) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"gptjc synth 1");
        hash.update(seed.to_le_bytes());
        hash.update(name.as_bytes());
        let digest = hash.finalize();
        let start = digest.iter().take(8).fold(0, |word, &byte| word << 8 | u64::from(byte));
        let module = name.strip_suffix(".weight").and_then(|path| path.rsplit('.').next());
        let is_norm = module.is_some_and(|module| module.starts_with("ln_"));
        // Variance of one uniform on 65536 integers: (65536² - 1) / 12; of four: a third of 65536² - 1.
        let spread = ((65536f64 * 65536.0 - 1.0) / 3.0).sqrt();
        Self { start, mean: if is_norm { 1.0 } else { 0.0 }, scale: (std / spread) as f32 }
    }

    /// The elements from `first` on.
    pub(super) fn fill(&self, first: u64, out: &mut [f32]) {
        for (index, value) in (first..).zip(out) {
            *value = self.element(index);
        }
    }

    fn element(&self, index: u64) -> f32 {
        let word = mix(self.start.wrapping_add(index.wrapping_add(1).wrapping_mul(GAMMA)));
        let sum = (word & 0xffff) + (word >> 16 & 0xffff) + (word >> 32 & 0xffff) + (word >> 48);
        // Exact: less than 2^18. The mean of the sum is 131070.
        let centred = sum as i32 - 131_070;
        self.mean + centred as f32 * self.scale
    }
}

/// SplitMix64's output function.
fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHT: &str = "transformer.h.0.attn.q_proj.weight";

    fn moments(values: &[f32]) -> (f64, f64) {
        let count = values.len() as f64;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let variance = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
        (mean, variance.sqrt())
    }

    #[test]
    fn mean_and_deviation_are_those_asked_for() {
        let mut values = vec![0.0; 1 << 18];
        for (name, expected) in [
            (WEIGHT, 0.0),
            ("transformer.h.3.ln_1.weight", 1.0),
            ("transformer.ln_f.weight", 1.0),
            ("transformer.ln_f.bias", 0.0),
        ] {
            Values::new(7, name, 0.02).fill(0, &mut values);
            let (mean, deviation) = moments(&values);
            assert!((mean - expected).abs() < 2e-4, "{name}: mean {mean}");
            assert!((deviation - 0.02).abs() < 1e-4, "{name}: deviation {deviation}");
        }
    }

    #[test]
    fn neighbours_are_not_correlated() {
        let mut values = vec![0.0; 1 << 18];
        Values::new(7, WEIGHT, 1.0).fill(0, &mut values);
        for lag in [1, 2, 4096] {
            let pairs = values.iter().zip(&values[lag..]);
            let sum: f64 = pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            let correlation = sum / (values.len() - lag) as f64;
            assert!(correlation.abs() < 0.01, "lag {lag}: {correlation}");
        }
    }

    #[test]
    fn a_value_depends_on_seed_name_and_index_only() {
        let mut whole = [0.0; 100];
        let values = Values::new(1, WEIGHT, 0.5);
        values.fill(0, &mut whole);
        let mut part = [0.0; 30];
        values.fill(41, &mut part);
        assert_eq!(whole[41..71], part);
        for other in [Values::new(2, WEIGHT, 0.5), Values::new(1, "transformer.h.1.attn.q_proj.weight", 0.5)]
        {
            let mut found = [0.0; 100];
            other.fill(0, &mut found);
            assert!(whole.iter().zip(found).filter(|(a, b)| **a == *b).count() < 5);
        }
    }

    /// A change here changes every checkpoint that somebody has named by its seed.
    #[test]
    fn the_values_of_a_seed_stay() {
        let mut found = [0.0; 3];
        Values::new(42, "lm_head.weight", 0.02).fill(0, &mut found);
        assert_eq!(found.map(f32::to_bits), KNOWN);
    }

    const KNOWN: [u32; 3] = [0xbcd6829a, 0x3b8b9ee1, 0xbb4446a8];
}
