//! What a conversion did, as numbers for programs and as text for people.
//!
//! Does not: print; the text is this type's `Display`.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::{Rounding, TensorRounding};

/// What a conversion wrote, and what it cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConvertReport {
    /// The directory.
    pub directory: PathBuf,
    /// Names of the files of weights.
    pub files: Vec<String>,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// The type of the weights, as transformers names it.
    pub dtype: &'static str,
    /// Every tensor, in the order of the files.
    pub tensors: Vec<TensorRounding>,
    /// Wall time.
    pub seconds: f64,
}

impl ConvertReport {
    /// What rounding changed in all tensors.
    pub fn rounding(&self) -> Rounding {
        self.tensors.iter().map(|tensor| &tensor.rounding).sum()
    }

    /// The types of the source.
    fn sources(&self) -> String {
        let mut names: Vec<&str> = self.tensors.iter().map(|tensor| tensor.source).collect();
        names.sort_unstable();
        names.dedup();
        names.join(", ")
    }

    /// The first tensor with a number above 0.
    fn first(&self, number: fn(&Rounding) -> u64) -> &str {
        let found = self.tensors.iter().find(|tensor| number(&tensor.rounding) > 0);
        found.map_or("", |tensor| &tensor.name)
    }
}

impl fmt::Display for ConvertReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "wrote      {}: {} tensors, {} bytes of {} in {} file(s), from {}, {:.1} s",
            self.directory.display(),
            self.tensors.len(),
            self.bytes,
            self.dtype,
            self.files.len(),
            self.sources(),
            self.seconds
        )?;
        let all = self.rounding();
        let mean = |tensor: &TensorRounding| tensor.rounding.mean_relative_error();
        let worst = self.tensors.iter().max_by(|one, other| mean(one).total_cmp(&mean(other)));
        match worst.filter(|_| all.changed > 0) {
            None => writeln!(f, "rounding   none: {} holds every value", self.dtype)?,
            Some(worst) => {
                writeln!(
                    f,
                    "rounding   changed {:.1} % of {} elements; relative error {:.2e} in the mean, {:.2e} at most",
                    100.0 * all.changed as f64 / all.elements as f64,
                    all.elements,
                    all.mean_relative_error(),
                    all.largest_relative_error
                )?;
                writeln!(f, "           worst tensor: {:.2e} in the mean, `{}`", mean(worst), worst.name)?;
            }
        }
        if all.overflowed > 0 {
            let first = self.first(|rounding| rounding.overflowed);
            writeln!(f, "overflow   {} elements became infinite, the first in `{first}`", all.overflowed)?;
        }
        if all.not_finite > 0 {
            let first = self.first(|rounding| rounding.not_finite);
            let count = all.not_finite;
            writeln!(f, "source     {count} elements were infinite or NaN before, the first in `{first}`")?;
        }
        Ok(())
    }
}
