//! What an export lost: for each weight, and for all weights of a storage.
//!
//! Does not: compare what models say; see [`crate::validate::compare`].

use std::fmt;
use std::path::PathBuf;

use gptjc_graphs::onnx::{Recipe, Storage};
use serde::{Serialize, Serializer};

use crate::validate::compare::Comparison;

/// Name of the report in an export directory.
pub const REPORT_FILE: &str = "export_report.json";

/// What became of one weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WeightReport {
    /// Its name in the checkpoint.
    pub tensor: String,
    /// How it is stored.
    #[serde(serialize_with = "as_text")]
    pub storage: Storage,
    /// Whether an adapter was merged into it.
    pub merged: bool,
    /// Number of its values.
    pub values: u64,
    /// Bytes in the export.
    pub bytes: u64,
    /// Relative RMS error: √(Σ (stored - merged)² / Σ merged²).
    #[serde(serialize_with = "as_relative_rms", rename = "relative_rms_error")]
    pub loss: Loss,
}

/// Sums that errors are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    squared_error: f64,
    squared: f64,
}

impl Loss {
    /// The relative root mean square error; 0 if all values are 0.
    pub fn relative_rms(self) -> f64 {
        if self.squared > 0.0 { (self.squared_error / self.squared).sqrt() } else { 0.0 }
    }

    fn add(&mut self, other: Loss) {
        self.squared_error += other.squared_error;
        self.squared += other.squared;
    }
}

fn as_text<S: Serializer>(storage: &Storage, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(storage)
}

fn as_relative_rms<S: Serializer>(loss: &Loss, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(loss.relative_rms())
}

impl WeightReport {
    pub(super) fn new(recipe: &Recipe, storage: Storage, bytes: u64) -> Self {
        let tensor = recipe.source.base().to_owned();
        WeightReport { tensor, storage, merged: false, values: 0, bytes, loss: Loss::default() }
    }

    /// Counts values and what is stored of them.
    pub(super) fn count(&mut self, values: &[f32], stored: &[f32]) {
        self.values += values.len() as u64;
        for (&value, &stored) in values.iter().zip(stored) {
            self.loss.squared += f64::from(value) * f64::from(value);
            let error = f64::from(stored) - f64::from(value);
            self.loss.squared_error += error * error;
        }
    }
}

/// All weights of one storage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StorageReport {
    /// The storage.
    #[serde(serialize_with = "as_text")]
    pub storage: Storage,
    /// Number of weights.
    pub tensors: usize,
    /// Number of their values.
    pub values: u64,
    /// Their bytes in the export.
    pub bytes: u64,
    /// Relative RMS error over all of them.
    pub relative_rms_error: f64,
    /// The weight with the largest relative error, if one has any.
    pub worst: Option<WorstWeight>,
}

/// A weight with its error.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorstWeight {
    /// Its name in the checkpoint.
    pub tensor: String,
    /// Its relative RMS error.
    pub relative_rms_error: f64,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExportReport {
    /// The program that wrote it.
    pub writer: String,
    /// The directory.
    #[serde(skip)]
    pub directory: PathBuf,
    /// Bytes of `model.onnx`.
    pub model_bytes: u64,
    /// Bytes of the weights' file.
    pub data_bytes: u64,
    /// Weights by their storage, in the order in which they come first.
    pub storages: Vec<StorageReport>,
    /// What the export says beside the merged model in f32, if that was asked for.
    pub check: Option<Comparison>,
    /// Each weight.
    pub weights: Vec<WeightReport>,
}

impl ExportReport {
    pub(super) fn new(
        directory: PathBuf,
        model_bytes: u64,
        data_bytes: u64,
        weights: Vec<WeightReport>,
    ) -> Self {
        let writer = concat!("gptjc ", env!("CARGO_PKG_VERSION")).to_owned();
        let storages = storages(&weights);
        ExportReport { writer, directory, model_bytes, data_bytes, storages, check: None, weights }
    }

    /// Number of weights.
    pub fn tensors(&self) -> usize {
        self.weights.len()
    }

    /// Of them, how many were merged with an adapter.
    pub fn merged(&self) -> usize {
        self.weights.iter().filter(|weight| weight.merged).count()
    }
}

fn storages(weights: &[WeightReport]) -> Vec<StorageReport> {
    let mut seen: Vec<Storage> = Vec::new();
    for weight in weights {
        if !seen.contains(&weight.storage) {
            seen.push(weight.storage);
        }
    }
    seen.into_iter().map(|storage| sum(storage, weights)).collect()
}

fn sum(storage: Storage, weights: &[WeightReport]) -> StorageReport {
    let of_storage = || weights.iter().filter(|weight| weight.storage == storage);
    let mut loss = Loss::default();
    of_storage().for_each(|weight| loss.add(weight.loss));
    let worst = of_storage().max_by(|a, b| a.loss.relative_rms().total_cmp(&b.loss.relative_rms()));
    let worst = worst.filter(|weight| weight.loss.relative_rms() > 0.0).map(|weight| WorstWeight {
        tensor: weight.tensor.clone(),
        relative_rms_error: weight.loss.relative_rms(),
    });
    StorageReport {
        storage,
        tensors: of_storage().count(),
        values: of_storage().map(|weight| weight.values).sum(),
        bytes: of_storage().map(|weight| weight.bytes).sum(),
        relative_rms_error: loss.relative_rms(),
        worst,
    }
}

/// A line for each storage: tensors, size, error.
impl fmt::Display for StorageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = 8.0 * self.bytes as f64 / self.values.max(1) as f64;
        write!(
            f,
            "{:<9} {} tensors, {:.1} MB, {bits:.2} bits a value, ",
            self.storage.to_string(),
            self.tensors,
            self.bytes as f64 / 1e6
        )?;
        match &self.worst {
            None => f.write_str("exact"),
            Some(worst) => write!(
                f,
                "error {:.3} % (worst: {:.3} %, {})",
                100.0 * self.relative_rms_error,
                100.0 * worst.relative_rms_error,
                worst.tensor
            ),
        }
    }
}
