//! Rounds f32 values as a storage does, and leaves them f32: what is read back of a stored weight.
//!
//! Does not: encode; what is rounded by this is encoded without a further loss.

use gptjc_graphs::onnx::Storage;

use super::encode::Encoder;
use super::error::ExportError;
use super::quantize::{Quantised, Quantizer};

/// Rounds the rows of one weight.
pub(super) struct Rounding<'a> {
    initializer: &'a str,
    columns: usize,
    how: How<'a>,
}

enum How<'a> {
    Plain(Encoder<'a>),
    Blocks(Box<Quantizer>, Quantised),
}

impl<'a> Rounding<'a> {
    /// For rows of `columns` values; `initializer` is for messages.
    pub(super) fn new(initializer: &'a str, storage: Storage, columns: usize) -> Self {
        let how = match storage {
            Storage::Plain(element) => How::Plain(Encoder { initializer, element }),
            Storage::Blocks(blockwise) => {
                How::Blocks(Box::new(Quantizer::new(blockwise, columns)), Quantised::default())
            }
        };
        Rounding { initializer, columns, how }
    }

    /// Rounds whole rows, the first of which has this index in its tensor.
    pub(super) fn round(&mut self, first_row: usize, values: &mut [f32]) -> Result<(), ExportError> {
        match &mut self.how {
            How::Plain(encoder) => encoder.round(values),
            How::Blocks(quantizer, parts) => {
                check_finite(self.initializer, first_row, self.columns, values)?;
                let source = values.to_vec();
                let rows = source.chunks_exact(self.columns).zip(values.chunks_exact_mut(self.columns));
                for (row, rounded) in rows {
                    parts.clear();
                    quantizer.append(row, rounded, parts);
                }
                Ok(())
            }
        }
    }
}

/// Refuses values that no scale has a code for.
pub(super) fn check_finite(
    initializer: &str,
    first_row: usize,
    columns: usize,
    values: &[f32],
) -> Result<(), ExportError> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(ExportError::NotFinite {
            initializer: initializer.into(),
            row: first_row + at / columns,
            value: values[at],
        }),
    }
}
