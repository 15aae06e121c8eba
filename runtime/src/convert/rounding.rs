//! What rounding costs, counted block by block.
//!
//! The relative error of an element is `|rounded - exact| / |exact|`. An element that is 0 has none, and one that is
//! infinite, NaN, or becomes infinite is counted apart: its error is no number.

use std::iter::Sum;

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use crate::weights::WeightDtype;

/// What rounding changed in some elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rounding {
    /// All elements.
    pub elements: u64,
    /// Those that are not what they were.
    pub changed: u64,
    /// The largest relative error.
    pub largest_relative_error: f64,
    /// Sum of the relative errors.
    pub sum_of_relative_errors: f64,
    /// Elements of the source that are infinite or NaN.
    pub not_finite: u64,
    /// Elements that are beyond the type, and became infinite.
    pub overflowed: u64,
}

impl Rounding {
    /// Mean relative error of all elements.
    pub fn mean_relative_error(&self) -> f64 {
        self.sum_of_relative_errors / self.elements.max(1) as f64
    }

    /// Adds a block: its values, and its bytes in the file, in `dtype`.
    pub(super) fn add(&mut self, values: &[f32], dtype: WeightDtype, encoded: &[u8]) {
        match dtype {
            WeightDtype::F32 => {
                self.add_each(values, encoded.as_chunks::<4>().0, |bytes| f32::from_le_bytes(*bytes))
            }
            WeightDtype::F16 => {
                self.add_each(values, encoded.as_chunks::<2>().0, |bytes| {
                    f16::from_le_bytes(*bytes).to_f32()
                });
            }
            WeightDtype::Bf16 => {
                self.add_each(values, encoded.as_chunks::<2>().0, |bytes| {
                    bf16::from_le_bytes(*bytes).to_f32()
                });
            }
        }
    }

    fn add_each<B>(&mut self, values: &[f32], encoded: &[B], decode: impl Fn(&B) -> f32) {
        self.elements += values.len() as u64;
        let (mut largest, mut sum) = (0.0f32, 0.0f64);
        for (&exact, bytes) in values.iter().zip(encoded) {
            let rounded = decode(bytes);
            if rounded == exact {
                continue;
            }
            if !exact.is_finite() {
                continue; // NaN is not equal to itself
            }
            self.changed += 1;
            if rounded.is_infinite() {
                self.overflowed += 1;
                continue;
            }
            // The difference of neighbours is exact.
            let error = ((rounded - exact) / exact).abs();
            largest = largest.max(error);
            sum += f64::from(error);
        }
        self.not_finite += values.iter().filter(|value| !value.is_finite()).count() as u64;
        self.largest_relative_error = self.largest_relative_error.max(f64::from(largest));
        self.sum_of_relative_errors += sum;
    }
}

impl<'a> Sum<&'a Rounding> for Rounding {
    fn sum<I: Iterator<Item = &'a Rounding>>(parts: I) -> Rounding {
        parts.fold(Rounding::default(), |all, part| Rounding {
            elements: all.elements + part.elements,
            changed: all.changed + part.changed,
            largest_relative_error: all.largest_relative_error.max(part.largest_relative_error),
            sum_of_relative_errors: all.sum_of_relative_errors + part.sum_of_relative_errors,
            not_finite: all.not_finite + part.not_finite,
            overflowed: all.overflowed + part.overflowed,
        })
    }
}

/// What rounding changed in a tensor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TensorRounding {
    /// Its name.
    pub name: String,
    /// Its type in the source, as transformers names it.
    pub source: &'static str,
    /// What changed.
    #[serde(flatten)]
    pub rounding: Rounding,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_element_is_counted() {
        let exact =
            [1.0, 1.0 + 1.0 / 256.0, 0.0, -0.0, f32::INFINITY, f32::NAN, f32::MAX, -3.0 - 1.0 / 128.0];
        let encoded: Vec<u8> = exact.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect();
        let mut found = Rounding::default();
        found.add(&exact, WeightDtype::Bf16, &encoded);
        let second = (1.0 / 256.0) / (1.0 + 1.0 / 256.0f32); // a tie, to even
        let last = f32::abs(-3.0 - (-3.0 - 1.0 / 128.0)) / (3.0 + 1.0 / 128.0);
        assert_eq!((found.elements, found.changed, found.not_finite, found.overflowed), (8, 3, 2, 1));
        assert_eq!(found.largest_relative_error, f64::from(second.max(last)));
        assert_eq!(found.sum_of_relative_errors, f64::from(second) + f64::from(last));
        let twice: Rounding = [found, found].iter().sum();
        assert_eq!((twice.elements, twice.changed), (16, 6));
        assert_eq!(twice.mean_relative_error(), found.mean_relative_error());
    }

    #[test]
    fn what_a_type_holds_costs_nothing() {
        let exact = [1.5, -0.25, 1024.0];
        for dtype in [WeightDtype::F32, WeightDtype::F16, WeightDtype::Bf16] {
            let encoded: Vec<u8> = match dtype {
                WeightDtype::F32 => exact.iter().flat_map(|value: &f32| value.to_le_bytes()).collect(),
                WeightDtype::F16 => {
                    exact.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect()
                }
                WeightDtype::Bf16 => {
                    exact.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect()
                }
            };
            let mut found = Rounding::default();
            found.add(&exact, dtype, &encoded);
            assert_eq!(found, Rounding { elements: 3, ..Rounding::default() });
        }
    }
}
