//! Rows of different lengths as one rectangle, padded on the left, with masks and positions.
//!
//! Does not: pad on the right; generation appends there.

use super::engine::EngineError;

/// What every row must respect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) vocabulary: usize,
    pub(super) positions: usize,
}

/// Rows of one length: pad slots on the left, with mask 0 and position 0.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftPadded {
    pub(super) rows: usize,
    /// Slots of every row.
    pub(super) width: usize,
    /// `[rows, width]`
    pub(super) tokens: Vec<i64>,
    /// `[rows, width]`: 1 for tokens, 0 for pad slots.
    pub(super) mask: Vec<i64>,
    /// `[rows, width]`: the number of tokens before each token.
    pub(super) positions: Vec<i64>,
    /// Tokens of each row.
    pub(super) lengths: Vec<usize>,
}

impl LeftPadded {
    /// Pads `rows`, each of which must leave room for `new_tokens` more.
    pub(super) fn new(rows: &[Vec<u32>], new_tokens: usize, limits: Limits) -> Result<Self, EngineError> {
        for (row, tokens) in rows.iter().enumerate() {
            check_row(row, tokens, new_tokens, limits)?;
        }
        let width = rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut padded = LeftPadded {
            rows: rows.len(),
            width,
            tokens: Vec::with_capacity(rows.len() * width),
            mask: Vec::with_capacity(rows.len() * width),
            positions: Vec::with_capacity(rows.len() * width),
            lengths: rows.iter().map(Vec::len).collect(),
        };
        for tokens in rows {
            let pads = width - tokens.len();
            padded.tokens.extend((0..pads).map(|_| 0).chain(tokens.iter().map(|&token| i64::from(token))));
            padded.mask.extend((0..width).map(|slot| i64::from(slot >= pads)));
            padded.positions.extend((0..width).map(|slot| slot.saturating_sub(pads) as i64));
        }
        Ok(padded)
    }

    /// The slots `first..last` of every row, with the mask of all slots before `last`.
    pub(super) fn columns(&self, first: usize, last: usize) -> Columns {
        let cut = |values: &[i64], first: usize| -> Vec<i64> {
            values.chunks_exact(self.width).flat_map(|row| &row[first..last]).copied().collect()
        };
        Columns {
            tokens: cut(&self.tokens, first),
            positions: cut(&self.positions, first),
            mask: cut(&self.mask, 0),
        }
    }
}

/// Some slots of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) tokens: Vec<i64>,
    pub(super) positions: Vec<i64>,
    pub(super) mask: Vec<i64>,
}

fn check_row(row: usize, tokens: &[u32], new_tokens: usize, limits: Limits) -> Result<(), EngineError> {
    if tokens.is_empty() {
        return Err(EngineError::EmptyPrompt { row });
    }
    let needed = tokens.len() + new_tokens;
    if needed > limits.positions {
        return Err(EngineError::TooLong { row, needed, limit: limits.positions });
    }
    check_tokens(tokens, limits)
}

/// Checks that the model knows all tokens.
pub(super) fn check_tokens(tokens: &[u32], limits: Limits) -> Result<(), EngineError> {
    match tokens.iter().find(|&&token| token as usize >= limits.vocabulary) {
        Some(&token) => Err(EngineError::Token { token, vocabulary: limits.vocabulary }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { vocabulary: 10, positions: 4 };

    #[test]
    fn short_rows_are_padded_on_the_left() {
        let padded = LeftPadded::new(&[vec![7, 8, 9], vec![5]], 1, LIMITS).unwrap();
        assert_eq!(padded.tokens, [7, 8, 9, 0, 0, 5]);
        assert_eq!(padded.mask, [1, 1, 1, 0, 0, 1]);
        assert_eq!(padded.positions, [0, 1, 2, 0, 0, 0]);
        assert_eq!((padded.rows, padded.width, padded.lengths), (2, 3, vec![3, 1]));
    }

    #[test]
    fn columns_are_cut_with_the_mask_before_them() {
        let columns = LeftPadded::new(&[vec![7, 8, 9], vec![5]], 0, LIMITS).unwrap().columns(1, 2);
        let expected = Columns { tokens: vec![8, 0], positions: vec![1, 0], mask: vec![1, 1, 0, 0] };
        assert_eq!(columns, expected);
    }

    #[test]
    fn rows_that_do_not_fit_are_refused() {
        let refused = |rows: &[Vec<u32>]| LeftPadded::new(rows, 2, LIMITS).unwrap_err().to_string();
        assert_eq!(
            refused(&[vec![1], vec![]]),
            "row 1 of the batch has no tokens; a prompt needs at least one"
        );
        assert_eq!(
            refused(&[vec![1, 2, 3]]),
            "row 0 of the batch needs 5 positions, the model has 4; shorten the prompt"
        );
        assert_eq!(
            refused(&[vec![10]]),
            "token 10 is outside of the model's vocabulary of 10; is this the model's tokenizer?"
        );
    }
}
