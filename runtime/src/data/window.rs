//! Windows: rows of at most `max_seq_length` token slots.
//!
//! Does: drop padding, number positions from 0 inside each segment, shift labels so that every slot holds what it is
//! to predict, and refuse what a plan could not run (too long, an id outside the vocabulary).
//!
//! Does not: decide which examples share a window; [`super::packing`] does.
//!
//! Invariants of every [`Window`] made here: `positions` and `targets` are as long as `tokens`; no segment is empty
//! and their lengths sum to `tokens.len()`; no target crosses a segment's end.

use thiserror::Error;

/// Label value that takes a token out of the loss, as in Hugging Face.
pub const IGNORED_LABEL: i64 = -100;

/// One row of at most `max_seq_length` token slots: what a training step's sums are taken over first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Token ids, used slots only; no padding is stored.
    pub tokens: Vec<u32>,
    /// Position id of each slot, from 0 in each segment.
    pub positions: Vec<u32>,
    /// Length of each segment, in order; they sum to `tokens.len()`. Attention is causal inside a segment.
    pub segments: Vec<u32>,
    /// What each slot is to predict (the next token of its segment, already shifted); `None` = not in the loss.
    pub targets: Vec<Option<u32>>,
}

/// What a window must fit: taken from the plan (window length) and the model's config (the other two).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLimits {
    /// Most token slots a window may have (`max_seq_length`).
    pub window_length: usize,
    /// Positions that the model knows (`n_positions`).
    pub n_positions: usize,
    /// Rows of the embedding (`vocab_size`); every id must be below.
    pub vocab_size: usize,
}

/// Why a row is no window.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WindowError {
    /// `input_ids`, `attention_mask` and `labels` differ in length.
    #[error("expected {ids} {what}, as many as input_ids, found {found}")]
    Lengths {
        /// Which of the other two.
        what: &'static str,
        /// Number of input ids.
        ids: usize,
        /// Number found.
        found: usize,
    },
    /// More real tokens than the window has slots.
    #[error(
        "{found} tokens do not fit a window of {window_length}; shorten the row or compile with a larger --max-seq-length"
    )]
    TooLong {
        /// Real tokens of the row.
        found: usize,
        /// Slots of a window.
        window_length: usize,
    },
    /// A segment has more tokens than the model has positions.
    #[error(
        "a sequence of {found} tokens needs {found} positions, the model has {n_positions} (n_positions); shorten the row"
    )]
    TooManyPositions {
        /// Tokens of the segment.
        found: usize,
        /// The model's positions.
        n_positions: usize,
    },
    /// An id that the embedding does not have.
    #[error("{what} {id} at column {column} is not in the vocabulary of {vocab_size} (expected 0 to {}); was the row made with another tokenizer?", vocab_size.saturating_sub(1))]
    NotInVocabulary {
        /// `input_ids` or `labels`.
        what: &'static str,
        /// The id found.
        id: i64,
        /// Column of the row, padding counted.
        column: usize,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// A mask value other than 0 and 1.
    #[error("attention_mask at column {column} is {found}, expected 0 or 1")]
    Mask {
        /// Column of the row.
        column: usize,
        /// The value found.
        found: i64,
    },
}

impl Window {
    /// Makes a window of one segment from a padded row as Hugging Face's collators write it.
    ///
    /// # Shapes
    /// - `ids`, `mask`, `labels`: as many columns each; `labels` aligned with `ids`, `-100` = not in the loss.
    ///
    /// Slots with mask 0 are dropped wherever they are; positions count from 0 over the slots that remain. The
    /// loss shifts as in Hugging Face: the slot of column `t` predicts `labels[t + 1]`, so `labels[0]` is never used.
    ///
    /// **Dropped:** a label that a pad slot would predict, in practice one on the first real token of a left-padded
    /// row. Hugging Face would count it, predicted from a pad token that attends to nothing real.
    /// [`labels_predicted_by_padding`] counts them.
    ///
    /// A row without a real token gives an empty window, which adds nothing to any sum.
    ///
    /// # Errors
    /// Lengths that differ, a mask that is not 0 or 1, more real tokens than the window or the positions allow, an
    /// id (or a label other than `-100`) outside the vocabulary. Ids of pad slots are not looked at.
    pub fn from_padded_row(
        ids: &[i64],
        mask: &[i64],
        labels: &[i64],
        limits: &WindowLimits,
    ) -> Result<Self, WindowError> {
        check_lengths(ids, mask, labels)?;
        let mut window = Self::default();
        for column in 0..ids.len() {
            let label = checked_label(labels[column], column, limits)?;
            match mask[column] {
                0 | 1 => {}
                found => return Err(WindowError::Mask { column, found }),
            }
            if column > 0 && mask[column - 1] == 1 {
                // The slot before is the last one pushed: it predicts this column, real or pad.
                if let Some(target) = window.targets.last_mut() {
                    *target = label;
                }
            }
            if mask[column] == 1 {
                window.positions.push(window.tokens.len() as u32);
                window.tokens.push(checked_id("input_ids", ids[column], column, limits)?);
                window.targets.push(None);
            }
        }
        let used = window.tokens.len();
        check_room(used, used, limits)?;
        if used > 0 {
            window.segments.push(used as u32);
        }
        Ok(window)
    }

    /// Adds a segment of its own behind what the window holds, with positions from 0.
    ///
    /// # Shapes
    /// - `ids`, `labels`: `[n]` each, aligned; `None` = not in the loss. The slot of `ids[t]` predicts
    ///   `labels[t + 1]`; the last slot predicts nothing, so that no target crosses into the next segment.
    ///
    /// An empty segment changes nothing. On an error the window is as it was.
    ///
    /// # Errors
    /// As [`Window::from_padded_row`]; columns are counted inside the segment.
    pub fn push_segment(
        &mut self,
        ids: &[u32],
        labels: &[Option<u32>],
        limits: &WindowLimits,
    ) -> Result<(), WindowError> {
        if labels.len() != ids.len() {
            return Err(WindowError::Lengths { what: "labels", ids: ids.len(), found: labels.len() });
        }
        check_room(self.tokens.len() + ids.len(), ids.len(), limits)?;
        for (column, (&id, label)) in ids.iter().zip(labels).enumerate() {
            checked_id("input_ids", id.into(), column, limits)?;
            if let Some(label) = *label {
                checked_id("labels", label.into(), column, limits)?;
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        self.tokens.extend_from_slice(ids);
        self.positions.extend(0..ids.len() as u32);
        self.segments.push(ids.len() as u32);
        self.targets.extend_from_slice(&labels[1..]);
        self.targets.push(None);
        Ok(())
    }

    /// Number of slots with a target.
    pub fn labelled(&self) -> usize {
        self.targets.iter().flatten().count()
    }
}

/// Counts the labels of a padded row that only a pad slot would predict, and that
/// [`Window::from_padded_row`] therefore drops. Columns beyond the shorter slice are not looked at.
pub fn labels_predicted_by_padding(mask: &[i64], labels: &[i64]) -> usize {
    mask.iter()
        .zip(labels.iter().skip(1))
        .filter(|&(&mask, &label)| mask == 0 && label != IGNORED_LABEL)
        .count()
}

fn check_lengths(ids: &[i64], mask: &[i64], labels: &[i64]) -> Result<(), WindowError> {
    for (what, found) in [("values of attention_mask", mask.len()), ("labels", labels.len())] {
        if found != ids.len() {
            return Err(WindowError::Lengths { what, ids: ids.len(), found });
        }
    }
    Ok(())
}

fn check_room(window: usize, segment: usize, limits: &WindowLimits) -> Result<(), WindowError> {
    if window > limits.window_length {
        return Err(WindowError::TooLong { found: window, window_length: limits.window_length });
    }
    if segment > limits.n_positions {
        return Err(WindowError::TooManyPositions { found: segment, n_positions: limits.n_positions });
    }
    Ok(())
}

fn checked_label(label: i64, column: usize, limits: &WindowLimits) -> Result<Option<u32>, WindowError> {
    if label == IGNORED_LABEL { Ok(None) } else { checked_id("labels", label, column, limits).map(Some) }
}

fn checked_id(what: &'static str, id: i64, column: usize, limits: &WindowLimits) -> Result<u32, WindowError> {
    let refused = WindowError::NotInVocabulary { what, id, column, vocab_size: limits.vocab_size };
    // Kernels take ids as i32.
    match i32::try_from(id) {
        Ok(small) if small >= 0 && (small as usize) < limits.vocab_size => Ok(small as u32),
        _ => Err(refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: WindowLimits = WindowLimits { window_length: 6, n_positions: 5, vocab_size: 100 };

    fn row(ids: &[i64], mask: &[i64], labels: &[i64]) -> Result<Window, WindowError> {
        Window::from_padded_row(ids, mask, labels, &LIMITS)
    }

    #[test]
    fn right_padding_is_dropped_and_labels_shift() {
        let window = row(&[10, 11, 12, 0, 0], &[1, 1, 1, 0, 0], &[10, 11, 12, -100, -100]).unwrap();
        assert_eq!(window.tokens, [10, 11, 12]);
        assert_eq!(window.positions, [0, 1, 2]);
        assert_eq!(window.segments, [3]);
        assert_eq!(window.targets, [Some(11), Some(12), None]);
        assert_eq!(window.labelled(), 2);
    }

    #[test]
    fn left_padding_is_dropped_with_the_label_that_padding_would_predict() {
        let (mask, labels) = ([0, 0, 1, 1, 1], [-100, -100, 10, -100, 12]);
        let window = row(&[0, 0, 10, 11, 12], &mask, &labels).unwrap();
        assert_eq!(window.tokens, [10, 11, 12]);
        assert_eq!(window.positions, [0, 1, 2]);
        assert_eq!(window.targets, [None, Some(12), None]);
        assert_eq!(labels_predicted_by_padding(&mask, &labels), 1, "the label 10 is lost, 12 is kept");
        assert_eq!(labels_predicted_by_padding(&[1, 1, 0], &[5, 5, -100]), 0);
    }

    #[test]
    fn padding_in_the_middle_keeps_the_shift_of_the_columns() {
        let window = row(&[10, 0, 12, 13], &[1, 0, 1, 1], &[10, -100, 12, 13]).unwrap();
        assert_eq!(window.tokens, [10, 12, 13]);
        assert_eq!(window.positions, [0, 1, 2]);
        assert_eq!(window.targets, [None, Some(13), None], "12 would be predicted by the pad slot");
    }

    #[test]
    fn a_label_on_padding_belongs_to_the_real_slot_before_it() {
        let window = row(&[10, 11, 0], &[1, 1, 0], &[-100, -100, 50]).unwrap();
        assert_eq!(window.targets, [None, Some(50)]);
    }

    #[test]
    fn a_row_of_padding_is_an_empty_window() {
        assert_eq!(row(&[0, 0], &[0, 0], &[-100, -100]).unwrap(), Window::default());
    }

    #[test]
    fn bad_rows_are_refused_with_the_place() {
        let lengths = row(&[1, 2], &[1], &[1, 2]).unwrap_err();
        assert_eq!(lengths.to_string(), "expected 2 values of attention_mask, as many as input_ids, found 1");
        let mask = row(&[1, 2], &[1, 2], &[1, 2]).unwrap_err();
        assert_eq!(mask, WindowError::Mask { column: 1, found: 2 });
        let id = row(&[1, 100], &[1, 1], &[1, 2]).unwrap_err();
        assert_eq!(
            id,
            WindowError::NotInVocabulary { what: "input_ids", id: 100, column: 1, vocab_size: 100 }
        );
        assert!(
            id.to_string()
                .contains("input_ids 100 at column 1 is not in the vocabulary of 100 (expected 0 to 99)")
        );
        let label = row(&[1, 2], &[1, 1], &[1, -1]).unwrap_err();
        assert_eq!(
            label,
            WindowError::NotInVocabulary { what: "labels", id: -1, column: 1, vocab_size: 100 }
        );
        let positions = row(&[1; 6], &[1; 6], &[1; 6]).unwrap_err();
        assert_eq!(positions, WindowError::TooManyPositions { found: 6, n_positions: 5 });
        let long = row(&[1; 7], &[1; 7], &[1; 7]).unwrap_err();
        assert_eq!(long, WindowError::TooLong { found: 7, window_length: 6 });
        let padded = row(&[1, 1, 1, 999, 999, 999, 999], &[1, 1, 1, 0, 0, 0, 0], &[-100; 7]);
        assert_eq!(
            padded.unwrap().tokens.len(),
            3,
            "pad slots count neither for length nor for the vocabulary"
        );
    }

    #[test]
    fn segments_have_their_own_positions_and_no_target_crosses() {
        let mut window = Window::default();
        window.push_segment(&[1, 2, 3], &[Some(1), Some(2), Some(3)], &LIMITS).unwrap();
        window.push_segment(&[4, 5], &[Some(4), Some(5)], &LIMITS).unwrap();
        window.push_segment(&[], &[], &LIMITS).unwrap();
        assert_eq!(window.positions, [0, 1, 2, 0, 1]);
        assert_eq!(window.segments, [3, 2]);
        assert_eq!(window.targets, [Some(2), Some(3), None, Some(5), None]);
        let before = window.clone();
        let error = window.push_segment(&[6, 7], &[None, None], &LIMITS).unwrap_err();
        assert_eq!(error, WindowError::TooLong { found: 7, window_length: 6 });
        assert_eq!(window, before);
    }
}
