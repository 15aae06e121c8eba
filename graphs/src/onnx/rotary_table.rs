//! The tables of GPT-J's rotary embedding, in the form in which the ONNX graph reads them.
//!
//! With lanes paired as `(2i, 2i + 1)`, rotating a head is `x · cos + swap(x) · sin`, where `swap` exchanges the lanes of
//! each pair and `sin` is negative on even lanes. Lanes that are not rotated have cosine 1 and sine 0, so that whole
//! heads go through the same four nodes without being cut apart. All products with 1 and 0 are exact.
//!
//! `swap` is a product with a permutation matrix and not a Gather along the last axis, which ONNX Runtime copies value by
//! value: in a small model that took a quarter of a step. At GPT-J's size the product is under 1 % of the work.
//!
//! Does not: depend on the model's weights.

/// `cos` and signed `sin`, `[positions, head_dim]` each, and the matrix of `swap`, `[head_dim, head_dim]`.
#[derive(Debug, PartialEq)]
pub(super) struct RotaryTable {
    pub(super) cos: Vec<f32>,
    pub(super) sin: Vec<f32>,
    pub(super) swap: Vec<f32>,
}

impl RotaryTable {
    /// Tables for positions `0..positions`; `rotary_dim` is even and at most `head_dim`.
    ///
    /// # Numerics
    /// Angles as transformers computes them: the frequency `1 / 10000^(2i / rotary_dim)` and its product with the
    /// position are rounded to f32 at each step; sine and cosine of that f32 angle are rounded once.
    pub(super) fn new(positions: usize, head_dim: usize, rotary_dim: usize) -> Self {
        let mut cos = vec![1.0; positions * head_dim];
        let mut sin = vec![0.0; positions * head_dim];
        for position in 0..positions {
            for pair in 0..rotary_dim / 2 {
                let angle = f64::from(position as f32 * inverse_frequency(pair, rotary_dim));
                let even = position * head_dim + 2 * pair;
                cos[even] = angle.cos() as f32;
                cos[even + 1] = cos[even];
                sin[even] = -angle.sin() as f32;
                sin[even + 1] = angle.sin() as f32;
            }
        }
        let mut swap = vec![0.0; head_dim * head_dim];
        for lane in 0..head_dim {
            let read = if lane < rotary_dim { lane ^ 1 } else { lane };
            swap[read * head_dim + lane] = 1.0;
        }
        RotaryTable { cos, sin, swap }
    }
}

fn inverse_frequency(pair: usize, rotary_dim: usize) -> f32 {
    let exponent = (2 * pair) as f32 / rotary_dim as f32;
    1.0 / (10000_f64.powf(f64::from(exponent)) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_zero_rotates_nothing() {
        let table = RotaryTable::new(1, 6, 4);
        assert_eq!(table.cos, [1.0; 6]);
        assert_eq!(table.sin, [0.0; 6]);
    }

    #[test]
    fn pairs_turn_by_their_frequency_and_other_lanes_stay() {
        let table = RotaryTable::new(4, 6, 4);
        let row = |values: &[f32]| values[3 * 6..4 * 6].to_vec();
        // Position 3: the first pair turns by 3 radians, the second by 3 / 100.
        let (c0, s0, c1, s1) = (-0.989_992_5, 0.141_120, 0.999_550, 0.029_995_5);
        for (lane, (&found, expected)) in row(&table.cos).iter().zip([c0, c0, c1, c1, 1.0, 1.0]).enumerate() {
            assert!((found - expected).abs() < 1e-6, "cos of lane {lane}: {found}, expected {expected}");
        }
        for (lane, (&found, expected)) in row(&table.sin).iter().zip([-s0, s0, -s1, s1, 0.0, 0.0]).enumerate()
        {
            assert!((found - expected).abs() < 1e-6, "sin of lane {lane}: {found}, expected {expected}");
        }
        let product = |lane: usize| (0..6).map(|read| read as f32 * table.swap[read * 6 + lane]).sum::<f32>();
        assert_eq!([0, 1, 2, 3, 4, 5].map(product), [1.0, 0.0, 3.0, 2.0, 4.0, 5.0]);
        assert_eq!(table.swap.iter().sum::<f32>(), 6.0);
    }
}
