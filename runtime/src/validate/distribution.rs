//! The distribution of many differences, without keeping them.
//!
//! Does not: give exact quantiles: those are the upper ends of bins, 64 to a factor of two, so at most 1.6 % too large. The
//! largest difference is exact.

use serde::Serialize;

/// Bits of an f32 that a bin ignores: what is left are sign, exponent and six bits of the mantissa.
const IGNORED_BITS: u32 = 17;
const BINS: usize = 1 << (32 - IGNORED_BITS - 1);

/// Counts differences.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    bins: Vec<u64>,
    count: u64,
    largest: f32,
}

/// Quantiles of absolute differences.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Distribution {
    /// Half of the differences are at most this.
    pub p50: f64,
    /// 99 of 100 differences are at most this.
    pub p99: f64,
    /// No difference is larger.
    pub max: f64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Histogram { bins: vec![0; BINS], count: 0, largest: 0.0 }
    }

    /// Counts the difference of two numbers; one that is not finite counts as infinite.
    pub(super) fn add(&mut self, one: f32, other: f32) {
        let difference = (one - other).abs();
        let difference = if difference.is_finite() { difference } else { f32::INFINITY };
        self.bins[(difference.to_bits() >> IGNORED_BITS) as usize] += 1;
        self.count += 1;
        self.largest = self.largest.max(difference);
    }

    /// The distribution of what was counted; zeros if nothing was.
    pub(super) fn distribution(&self) -> Distribution {
        Distribution { p50: self.quantile(0.5), p99: self.quantile(0.99), max: self.largest.into() }
    }

    fn quantile(&self, share: f64) -> f64 {
        let wanted = (share * self.count as f64).ceil() as u64;
        let mut seen = 0;
        for (bin, count) in (0_u32..).zip(&self.bins) {
            seen += count;
            if seen >= wanted && *count > 0 {
                let upper = f32::from_bits(((bin + 1) << IGNORED_BITS) - 1);
                return if bin == 0 { 0.0 } else { upper.min(self.largest).into() };
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_numbers() {
        let mut histogram = Histogram::new();
        for number in 1..=1000 {
            histogram.add(number as f32 / 8.0, 0.0);
        }
        let Distribution { p50, p99, max } = histogram.distribution();
        assert!((62.5..62.5 * 1.016).contains(&p50), "{p50}");
        assert!((123.75..=125.0).contains(&p99), "{p99}");
        assert_eq!(max, 125.0);
    }

    #[test]
    fn equal_numbers_differ_by_nothing_and_nan_by_everything() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.distribution(), Distribution { p50: 0.0, p99: 0.0, max: 0.0 });
        (0..99).for_each(|_| histogram.add(1.5, 1.5));
        assert_eq!(histogram.distribution(), Distribution { p50: 0.0, p99: 0.0, max: 0.0 });
        histogram.add(f32::NAN, 1.0);
        let Distribution { p50, p99, max } = histogram.distribution();
        assert_eq!((p50, p99, max), (0.0, 0.0, f64::INFINITY));
    }
}
