//! Batches that were tokenised elsewhere, used in the order given.
//!
//! A safetensors file with `input_ids`, and optionally `attention_mask` and `labels`, each int64 or int32 of
//! shape `[STEPS, B, S]`. Without a mask every slot is used; without labels they are the ids, -100 where
//! masked. As in transformers, labels are not shifted: the label at `t` is what slot `t - 1` should predict, so the
//! label of a row's first slot is never used.
//! All values are checked when the file is opened, except the size of the vocabulary ([`TokenBatches::check`]).
//! Does not: shuffle, pack, or judge a label whose predicting slot is masked; who lays out the slots does.
//!
//! Memory: 9 bytes a slot.

use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use thiserror::Error;

use crate::weights::{SafetensorsError, SafetensorsFile};

/// The label that takes no part in the loss.
pub const IGNORED: i32 = -100;

const IDS: &str = "input_ids";
const MASK: &str = "attention_mask";
const LABELS: &str = "labels";

/// Why a file of batches cannot be used. A place is step, row, column, each from 0.
#[derive(Debug, Error)]
pub enum PretokenizedError {
    /// The file is missing, truncated or no safetensors file.
    #[error(transparent)]
    File(#[from] SafetensorsError),
    /// There are no ids.
    #[error("`{}` has no tensor `input_ids`: expected int64 [STEPS, B, S]", path.display())]
    NoIds {
        /// The file.
        path: PathBuf,
    },
    /// A tensor that would have been passed over in silence.
    #[error(
        "`{}` has tensor `{name}`, which is not used: expected input_ids, attention_mask and labels only; remove it (positions follow from the mask)",
        path.display()
    )]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// Not int64 or int32.
    #[error("`{}`: tensor `{name}`: expected dtype I64 or I32, found {found:?}; convert it", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: &'static str,
        /// Its dtype.
        found: Dtype,
    },
    /// Not three dimensions of at least 1.
    #[error(
        "`{}`: tensor `{name}`: expected shape [STEPS, B, S], none of them 0, found {found:?}; reshape it",
        path.display()
    )]
    Rank {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: &'static str,
        /// Its shape.
        found: Vec<usize>,
    },
    /// Shapes differ.
    #[error(
        "`{}`: tensor `{name}`: expected the shape of input_ids, {expected:?}, found {found:?}",
        path.display()
    )]
    ShapesDiffer {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: &'static str,
        /// Shape of input_ids.
        expected: Vec<usize>,
        /// Its shape.
        found: Vec<usize>,
    },
    /// A value outside its range.
    #[error(
        "`{}`: {name} at step {step}, row {row}, column {column}: expected {expected}, found {found}; correct the file",
        path.display()
    )]
    Value {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: &'static str,
        /// Step.
        step: usize,
        /// Row of the batch.
        row: usize,
        /// Column of the row.
        column: usize,
        /// What is allowed there.
        expected: String,
        /// What stands there.
        found: i64,
    },
    /// The used slots of a row are not one run at its left or right end.
    #[error(
        "`{}`: attention_mask at step {step}, row {row}: {found}; expected padding at one end of the row only, and a token in every row",
        path.display()
    )]
    MaskShape {
        /// The file.
        path: PathBuf,
        /// Step.
        step: usize,
        /// Row of the batch.
        row: usize,
        /// What the row looks like.
        found: String,
    },
}

/// One row of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PretokenizedRow<'a> {
    /// Token ids, padding included: `[S]`.
    pub tokens: &'a [u32],
    /// 1 where a slot is used, 0 where it is padding: `[S]`.
    pub mask: &'a [u8],
    /// Token id or [`IGNORED`], not shifted: `[S]`.
    pub labels: &'a [i32],
    /// The used slots: not empty, and touching one end of the row.
    pub used: Range<usize>,
}

/// All batches of a file.
#[derive(Clone, Debug)]
pub struct TokenBatches {
    path: PathBuf,
    shape: [usize; 3],
    ids: Vec<u32>,
    mask: Vec<u8>,
    labels: Vec<i32>,
    used: Vec<Range<usize>>,
}

impl TokenBatches {
    /// Reads and checks the file `path`.
    ///
    /// # Errors
    /// [`PretokenizedError`] for a file or tensor that is not as the module says; values are named by their place.
    pub fn open(path: &Path) -> Result<TokenBatches, PretokenizedError> {
        let file = SafetensorsFile::open(path)?;
        if let Some(name) = file.entries().keys().find(|name| ![IDS, MASK, LABELS].contains(&name.as_str())) {
            return Err(PretokenizedError::Unknown { path: path.to_owned(), name: name.clone() });
        }
        let (shape, ids) =
            read(&file, IDS, None)?.ok_or_else(|| PretokenizedError::NoIds { path: path.to_owned() })?;
        let places = Places { path, shape };
        let ids = places.convert(IDS, &ids, "an id of 0 or more", |id| {
            u32::try_from(id).ok().filter(|id| *id <= i32::MAX as u32)
        })?;
        let mask = match read(&file, MASK, Some(shape))? {
            Some((_, mask)) => {
                places.convert(MASK, &mask, "0 or 1", |bit| u8::try_from(bit).ok().filter(|bit| *bit <= 1))?
            }
            None => vec![1; ids.len()],
        };
        let labels = match read(&file, LABELS, Some(shape))? {
            Some((_, labels)) => {
                let allowed = |label: &i32| *label >= 0 || *label == IGNORED;
                places.convert(LABELS, &labels, "an id of 0 or more, or -100", |label| {
                    i32::try_from(label).ok().filter(allowed)
                })?
            }
            // Ids were checked to fit above.
            None => {
                ids.iter().zip(&mask).map(|(id, bit)| if *bit == 1 { *id as i32 } else { IGNORED }).collect()
            }
        };
        let used = places.used_slots(&mask)?;
        Ok(TokenBatches { path: path.to_owned(), shape, ids, mask, labels, used })
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.shape[0]
    }

    /// Rows of a step (B).
    pub fn batch_size(&self) -> usize {
        self.shape[1]
    }

    /// Slots of a row (S), padding included.
    pub fn sequence_length(&self) -> usize {
        self.shape[2]
    }

    /// Row `b` of `step`, or none beyond the last.
    pub fn row(&self, step: usize, b: usize) -> Option<PretokenizedRow<'_>> {
        let [steps, rows, slots] = self.shape;
        if step >= steps || b >= rows {
            return None;
        }
        let row = step * rows + b;
        let range = row * slots..(row + 1) * slots;
        Some(PretokenizedRow {
            tokens: &self.ids[range.clone()],
            mask: &self.mask[range.clone()],
            labels: &self.labels[range],
            used: self.used[row].clone(),
        })
    }

    /// The rows of `step` in order; none beyond the last step.
    pub fn rows(&self, step: usize) -> impl Iterator<Item = PretokenizedRow<'_>> {
        (0..self.batch_size()).map_while(move |b| self.row(step, b))
    }

    /// Checks that every id and label is below `vocab_size`. Ids of padding count too: they are looked up by others.
    ///
    /// # Errors
    /// [`PretokenizedError::Value`] with the first place.
    pub fn check(&self, vocab_size: usize) -> Result<(), PretokenizedError> {
        let places = Places { path: &self.path, shape: self.shape };
        let expected = || format!("an id below the vocabulary's size {vocab_size}");
        if let Some(index) = self.ids.iter().position(|id| *id as usize >= vocab_size) {
            return Err(places.value(IDS, index, expected(), self.ids[index].into()));
        }
        let outside = |label: &i32| usize::try_from(*label).is_ok_and(|label| label >= vocab_size);
        if let Some(index) = self.labels.iter().position(outside) {
            return Err(places.value(LABELS, index, expected(), self.labels[index].into()));
        }
        Ok(())
    }
}

/// The values of the tensor `name` with its shape, or none if it is absent.
#[expect(clippy::type_complexity, reason = "shape and values of one tensor")]
fn read(
    file: &SafetensorsFile,
    name: &'static str,
    expected: Option<[usize; 3]>,
) -> Result<Option<([usize; 3], Vec<i64>)>, PretokenizedError> {
    let path = file.path().to_owned();
    let Some(entry) = file.entries().get(name) else { return Ok(None) };
    let found = entry.shape.clone();
    let bytes = file.bytes(entry);
    let shape = match <[usize; 3]>::try_from(found.as_slice()) {
        Ok(shape) if !shape.contains(&0) => shape,
        _ => return Err(PretokenizedError::Rank { path, name, found }),
    };
    if let Some(expected) = expected.filter(|expected| *expected != shape) {
        return Err(PretokenizedError::ShapesDiffer { path, name, expected: expected.to_vec(), found });
    }
    let values = match entry.dtype {
        Dtype::I64 => bytes.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect(),
        Dtype::I32 => {
            bytes.as_chunks::<4>().0.iter().map(|bytes| i32::from_le_bytes(*bytes).into()).collect()
        }
        found => return Err(PretokenizedError::Dtype { path, name, found }),
    };
    Ok(Some((shape, values)))
}

/// Turns an index into a place, for errors.
struct Places<'a> {
    path: &'a Path,
    shape: [usize; 3],
}

impl Places<'_> {
    fn convert<T>(
        &self,
        name: &'static str,
        values: &[i64],
        expected: &str,
        convert: impl Fn(i64) -> Option<T>,
    ) -> Result<Vec<T>, PretokenizedError> {
        let wrong = |index: usize| self.value(name, index, expected.to_owned(), values[index]);
        (0..values.len()).map(|index| convert(values[index]).ok_or_else(|| wrong(index))).collect()
    }

    fn value(&self, name: &'static str, index: usize, expected: String, found: i64) -> PretokenizedError {
        let [_, rows, slots] = self.shape;
        let (step, row, column) = (index / (rows * slots), index / slots % rows, index % slots);
        PretokenizedError::Value { path: self.path.to_owned(), name, step, row, column, expected, found }
    }

    /// The run of ones in every row.
    fn used_slots(&self, mask: &[u8]) -> Result<Vec<Range<usize>>, PretokenizedError> {
        let [_, rows, slots] = self.shape;
        let wrong = |index: usize, found: String| PretokenizedError::MaskShape {
            path: self.path.to_owned(),
            step: index / rows,
            row: index % rows,
            found,
        };
        let mut used = Vec::with_capacity(mask.len() / slots);
        for (index, row) in mask.chunks_exact(slots).enumerate() {
            let Some(start) = row.iter().position(|bit| *bit == 1) else {
                return Err(wrong(index, "all slots are padding".to_owned()));
            };
            let end = row.iter().rposition(|bit| *bit == 1).map_or(start, |last| last + 1);
            if let Some(hole) = row[start..end].iter().position(|bit| *bit == 0) {
                return Err(wrong(index, format!("padding inside the row, at column {}", start + hole)));
            }
            if start > 0 && end < slots {
                return Err(wrong(
                    index,
                    format!("padding at both ends (used columns {start} to {})", end - 1),
                ));
            }
            used.push(start..end);
        }
        Ok(used)
    }
}

#[cfg(test)]
#[path = "pretokenized_tests.rs"]
mod tests;
