//! Rounds f32 values once to the stored type, and lays matrices out as they are stored.
//!
//! Does not: read or write files.

use gptjc_graphs::onnx::ElementType;
use half::{bf16, f16};

use super::error::ExportError;
use crate::weights::WeightDtype;

impl From<WeightDtype> for ElementType {
    fn from(dtype: WeightDtype) -> Self {
        match dtype {
            WeightDtype::F32 => Self::F32,
            WeightDtype::F16 => Self::F16,
            WeightDtype::Bf16 => Self::Bf16,
        }
    }
}

/// Encodes values of one weight.
pub(crate) struct Encoder<'a> {
    /// The weight, for messages.
    pub(crate) initializer: &'a str,
    pub(crate) element: ElementType,
}

impl Encoder<'_> {
    /// Appends `values` to `out`.
    pub(crate) fn append(&self, values: &[f32], out: &mut Vec<u8>) -> Result<(), ExportError> {
        match self.element {
            ElementType::F32 => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            ElementType::Bf16 => {
                out.extend(values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()));
            }
            ElementType::F16 => {
                for &value in values {
                    out.extend(self.f16(value)?.to_le_bytes());
                }
            }
            ElementType::I64 | ElementType::Bool | ElementType::U8 => return Err(self.unsupported()),
        }
        Ok(())
    }

    /// Writes a block of rows, `[block.len() / columns, columns]`, into the columns from `first_row` on of the
    /// transposed matrix `out`, `[columns, rows]`.
    pub(crate) fn scatter(
        &self,
        block: &[f32],
        columns: usize,
        first_row: usize,
        rows: usize,
        out: &mut [u8],
    ) -> Result<(), ExportError> {
        match self.element {
            ElementType::F32 => {
                scatter(block, columns, first_row, rows, out, |value| Ok(value.to_le_bytes()))
            }
            ElementType::Bf16 => {
                scatter(block, columns, first_row, rows, out, |value| Ok(bf16::from_f32(value).to_le_bytes()))
            }
            ElementType::F16 => {
                scatter(block, columns, first_row, rows, out, |value| Ok(self.f16(value)?.to_le_bytes()))
            }
            ElementType::I64 | ElementType::Bool | ElementType::U8 => Err(self.unsupported()),
        }
    }

    /// The values that are read back of stored `values`, in their place.
    pub(crate) fn round(&self, values: &mut [f32]) -> Result<(), ExportError> {
        match self.element {
            ElementType::F32 => {}
            ElementType::Bf16 => values.iter_mut().for_each(|value| *value = bf16::from_f32(*value).to_f32()),
            ElementType::F16 => {
                for value in values {
                    *value = self.f16(*value)?.to_f32();
                }
            }
            ElementType::I64 | ElementType::Bool | ElementType::U8 => return Err(self.unsupported()),
        }
        Ok(())
    }

    fn f16(&self, value: f32) -> Result<f16, ExportError> {
        let rounded = f16::from_f32(value);
        if rounded.is_infinite() && value.is_finite() {
            return Err(ExportError::Overflow { initializer: self.initializer.into(), value });
        }
        Ok(rounded)
    }

    fn unsupported(&self) -> ExportError {
        ExportError::Element { initializer: self.initializer.into(), element: self.element.name() }
    }
}

fn scatter<const BYTES: usize>(
    block: &[f32],
    columns: usize,
    first_row: usize,
    rows: usize,
    out: &mut [u8],
    encode: impl Fn(f32) -> Result<[u8; BYTES], ExportError>,
) -> Result<(), ExportError> {
    // Columns outside, so that what is written is contiguous; the block is small enough to stay in a cache.
    for column in 0..columns {
        let begin = (column * rows + first_row) * BYTES;
        let run = out[begin..].chunks_exact_mut(BYTES);
        for (slot, &value) in run.zip(block[column..].iter().step_by(columns)) {
            slot.copy_from_slice(&encode(value)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder(element: ElementType) -> Encoder<'static> {
        Encoder { initializer: "w", element }
    }

    #[test]
    fn values_are_rounded_once_to_nearest_even() {
        let mut bytes = Vec::new();
        encoder(ElementType::Bf16).append(&[1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0], &mut bytes).unwrap();
        assert_eq!(bytes, [0x80, 0x3f, 0x82, 0x3f], "ties go to even");
        bytes.clear();
        encoder(ElementType::F16).append(&[65504.0, -0.5, f32::INFINITY], &mut bytes).unwrap();
        assert_eq!(bytes, [0xff, 0x7b, 0x00, 0xb8, 0x00, 0x7c]);
    }

    #[test]
    fn what_f16_cannot_hold_is_refused() {
        let error = encoder(ElementType::F16).append(&[1.0, 65520.0], &mut Vec::new()).unwrap_err();
        let expected =
            "`w` holds 65520, which float16 cannot hold (largest: 65504); export as float or bfloat16";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn blocks_of_rows_land_in_columns() {
        // [[0, 1, 2], [3, 4, 5], [6, 7, 8]] in blocks of two rows and one.
        let mut out = vec![0; 9 * 2];
        let encoder = encoder(ElementType::Bf16);
        encoder.scatter(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 3, 0, 3, &mut out).unwrap();
        encoder.scatter(&[6.0, 7.0, 8.0], 3, 2, 3, &mut out).unwrap();
        let found: Vec<f32> =
            out.chunks_exact(2).map(|pair| bf16::from_le_bytes([pair[0], pair[1]]).to_f32()).collect();
        assert_eq!(found, [0.0, 3.0, 6.0, 1.0, 4.0, 7.0, 2.0, 5.0, 8.0]);
    }
}
