//! Logits of prompts as a safetensors file, to be held against those of other programs.
//!
//! A prompt `i` of `n` tokens is two tensors: `tokens.i`, I32 `[n]`, and `logits.i`, F32 `[n, vocabulary]`.

use super::RowLogits;
use crate::files::FileError;
use crate::files::atomic::write_bytes;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError};
use std::path::Path;
use thiserror::Error;

/// Why there is no such file.
#[derive(Debug, Error)]
pub enum LogitsFileError {
    /// It was not written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The engine gave fewer or more logits than a tensor of tokens by vocabulary has.
    #[error("logits are not one row a token: {0}")]
    Shape(#[from] SafeTensorError),
}

/// Writes `path`, whole or not at all: `prompts[i]` with the logits that an engine gave for it, `rows[i]`.
///
/// # Errors
/// [`LogitsFileError`]; a file that was there before stays.
pub fn write(path: &Path, prompts: &[Vec<u32>], rows: &[RowLogits]) -> Result<(), LogitsFileError> {
    let bytes: Vec<(Vec<u8>, Vec<u8>)> = prompts
        .iter()
        .zip(rows)
        .map(|(tokens, row)| {
            let tokens = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
            (tokens, row.values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let mut tensors = Vec::with_capacity(2 * bytes.len());
    for (index, (tokens, logits)) in bytes.iter().enumerate() {
        let length = prompts[index].len();
        tensors.push((format!("tokens.{index}"), TensorView::new(Dtype::I32, vec![length], tokens)?));
        let shape = vec![length, rows[index].vocabulary];
        tensors.push((format!("logits.{index}"), TensorView::new(Dtype::F32, shape, logits)?));
    }
    write_bytes(path, &safetensors::serialize(tensors, None)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    #[test]
    fn tokens_and_logits_are_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logits.safetensors");
        let rows = [RowLogits { vocabulary: 3, values: vec![0.5, -1.0, 2.0, 4.0, 5.0, 6.0] }];
        write(&path, &[vec![7, 1]], &rows).unwrap();
        let file = std::fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&file).unwrap();
        let (tokens, logits) = (tensors.tensor("tokens.0").unwrap(), tensors.tensor("logits.0").unwrap());
        assert_eq!((tokens.shape(), logits.shape()), (&[2][..], &[2, 3][..]));
        assert_eq!(tokens.data(), [7, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(logits.data()[20..24], 6.0_f32.to_le_bytes());
    }

    #[test]
    fn logits_of_another_number_of_tokens_are_refused_and_a_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logits.safetensors");
        std::fs::write(&path, "before").unwrap();
        let rows = [RowLogits { vocabulary: 3, values: vec![0.5, -1.0, 2.0] }];
        assert!(matches!(write(&path, &[vec![7, 1]], &rows), Err(LogitsFileError::Shape(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before");
    }
}
