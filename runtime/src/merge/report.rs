//! What merging and rounding changed, as numbers for programs and as text for people.
//!
//! Does not: print; the text is this type's `Display`.

use std::fmt;
use std::path::PathBuf;

use half::{bf16, f16};
use serde::Serialize;

use super::compare::Comparison;
use crate::weights::WeightDtype;

/// What a merge wrote, and what it changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MergeReport {
    /// The directory.
    pub directory: PathBuf,
    /// Names of the files of weights.
    pub files: Vec<String>,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// The type of the weights (of most of them), as transformers names it.
    pub dtype: &'static str,
    /// Weights that the adapter changed.
    pub merged: usize,
    /// Every tensor, in the order of the files.
    pub tensors: Vec<TensorChange>,
    /// Wall time.
    pub seconds: f64,
    /// The merged model against the model with its adapter, if it was asked for.
    pub comparison: Option<Comparison>,
}

/// What became of a tensor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TensorChange {
    /// Its name.
    pub name: String,
    /// The adapter's part: `‖scaling · B·A‖ / ‖W‖` with Frobenius norms; none if no adapter was merged into it.
    pub change: Option<f64>,
    /// Largest difference that rounding made.
    pub rounding_largest: f64,
    /// `‖rounded - exact‖ / ‖exact‖`; 0 if nothing was rounded.
    pub rounding: f64,
    /// `‖rounded - exact‖ / ‖scaling · B·A‖`: how much of the adapter's part rounding may have cost.
    pub rounding_of_change: Option<f64>,
}

/// Sums over the blocks of a tensor.
pub(super) struct ChangeSums {
    dtype: WeightDtype,
    merged: bool,
    /// Σ W², Σ (W' - W)², Σ W'², Σ (rounded - W')².
    before: f64,
    change: f64,
    after: f64,
    rounding: f64,
    largest: f64,
}

impl ChangeSums {
    /// No blocks yet of a tensor that is stored as `dtype`.
    pub(super) fn new(dtype: WeightDtype) -> Self {
        let zero = 0.0;
        ChangeSums {
            dtype,
            merged: false,
            before: zero,
            change: zero,
            after: zero,
            rounding: zero,
            largest: zero,
        }
    }

    /// Adds a block: its values, those before the merge, and its bytes in the file.
    pub(super) fn add(&mut self, values: &[f32], before: Option<&[f32]>, encoded: &[u8]) {
        let square = |value: f64| value * value;
        if let Some(before) = before {
            self.merged = true;
            for (&old, &new) in before.iter().zip(values) {
                self.before += square(f64::from(old));
                self.change += square(f64::from(new) - f64::from(old));
            }
        }
        // f32 holds a merged value as it is.
        let round: fn(&[u8]) -> f32 = match self.dtype {
            WeightDtype::F32 => return,
            WeightDtype::F16 => |bytes| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
            WeightDtype::Bf16 => |bytes| bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
        };
        for (&exact, bytes) in values.iter().zip(encoded.chunks_exact(2)) {
            let difference = f64::from(round(bytes)) - f64::from(exact);
            self.after += square(f64::from(exact));
            self.rounding += square(difference);
            self.largest = self.largest.max(difference.abs());
        }
    }

    /// The tensor's numbers.
    pub(super) fn finish(&self, name: &str) -> TensorChange {
        let norm_ratio = |part: f64, whole: f64| match part {
            0.0 => 0.0,
            part => (part / whole).sqrt(),
        };
        TensorChange {
            name: name.to_owned(),
            change: self.merged.then(|| norm_ratio(self.change, self.before)),
            rounding_largest: self.largest,
            rounding: norm_ratio(self.rounding, self.after),
            rounding_of_change: self
                .merged
                .then(|| norm_ratio(self.rounding, self.change))
                .filter(|ratio| ratio.is_finite()),
        }
    }
}

impl MergeReport {
    /// The tensor with the largest of a number, and the number.
    fn worst(&self, number: impl Fn(&TensorChange) -> Option<f64>) -> Option<(&str, f64)> {
        let numbers = self.tensors.iter().filter_map(|tensor| Some((tensor.name.as_str(), number(tensor)?)));
        numbers.max_by(|one, other| one.1.total_cmp(&other.1))
    }
}

impl fmt::Display for MergeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tensors, bytes, files) = (self.tensors.len(), self.bytes, self.files.len());
        writeln!(
            f,
            "wrote      {}: {tensors} tensors, {bytes} bytes of {} in {files} file(s), {:.1} s",
            self.directory.display(),
            self.dtype,
            self.seconds
        )?;
        writeln!(f, "merged     {} weights, in f32", self.merged)?;
        if let Some((name, change)) = self.worst(|tensor| tensor.change) {
            writeln!(f, "           largest change: {change:.2e} of `{name}` (relative L2)")?;
        }
        match self.worst(|tensor| Some(tensor.rounding)).filter(|(_, rounding)| *rounding > 0.0) {
            None => writeln!(f, "rounding   none: the stored type holds every value")?,
            Some((name, rounding)) => {
                writeln!(f, "rounding   once; worst tensor: {rounding:.2e} of `{name}` (relative L2)")?;
            }
        }
        if let Some((name, largest)) =
            self.worst(|tensor| Some(tensor.rounding_largest)).filter(|w| w.1 > 0.0)
        {
            writeln!(f, "           largest difference: {largest:.2e} in `{name}`")?;
        }
        if let Some((name, ratio)) = self.worst(|tensor| tensor.rounding_of_change).filter(|w| w.1 > 0.0) {
            writeln!(
                f,
                "           against what the adapter changed, at most {:.1} %: `{name}`",
                100.0 * ratio
            )?;
        }
        match &self.comparison {
            Some(comparison) => write!(f, "{comparison}"),
            None => Ok(()),
        }
    }
}
