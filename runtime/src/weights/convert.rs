//! Elements of a checkpoint as f32 or bf16.
//!
//! Widening to f32 is exact. Rounding to bf16 is to nearest, ties to even, once: an f16 is widened first, which is
//! exact, so no value is rounded twice. NaN stays NaN. An f32 beyond the largest bf16 becomes infinite, as everywhere.
//! Reading streams through a small buffer: nothing but the destination is allocated.

use half::bf16;
use half::f16;
use half::slice::HalfFloatSliceExt;
use thiserror::Error;

use super::{TensorView, WeightDtype};

/// Elements converted at a time: the buffer stays in the first-level cache.
const BLOCK: usize = 1024;

/// The destination has not the length of the tensor.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("tensor `{name}` has {expected} elements, the destination has room for {found}")]
pub struct LengthError {
    /// The tensor.
    pub name: String,
    /// Its number of elements.
    pub expected: usize,
    /// Elements of the destination.
    pub found: usize,
}

/// The elements of `view` as f32, exactly.
pub fn read_f32(view: &TensorView<'_>) -> Vec<f32> {
    let mut values = vec![0.0; view.len()];
    fill_f32(view, &mut values);
    values
}

/// The elements of `view` rounded to bf16 (to nearest, ties to even).
pub fn read_bf16(view: &TensorView<'_>) -> Vec<bf16> {
    let mut values = vec![bf16::ZERO; view.len()];
    fill_bf16(view, &mut values);
    values
}

/// As [`read_f32`], into `out`.
///
/// # Errors
/// [`LengthError`] if `out` has another length than the tensor; nothing is written then.
pub fn read_f32_into(view: &TensorView<'_>, out: &mut [f32]) -> Result<(), LengthError> {
    check_length(view, out.len())?;
    fill_f32(view, out);
    Ok(())
}

/// As [`read_bf16`], into `out`.
///
/// # Errors
/// [`LengthError`] if `out` has another length than the tensor; nothing is written then.
pub fn read_bf16_into(view: &TensorView<'_>, out: &mut [bf16]) -> Result<(), LengthError> {
    check_length(view, out.len())?;
    fill_bf16(view, out);
    Ok(())
}

fn check_length(view: &TensorView<'_>, found: usize) -> Result<(), LengthError> {
    if found == view.len() {
        return Ok(());
    }
    Err(LengthError { name: view.name.to_owned(), expected: view.len(), found })
}

fn fill_f32(view: &TensorView<'_>, out: &mut [f32]) {
    match view.dtype {
        WeightDtype::F32 => copy_f32(view.bytes, out),
        WeightDtype::Bf16 => {
            for (bytes, value) in view.bytes.chunks_exact(2).zip(out) {
                *value = bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
            }
        }
        WeightDtype::F16 => {
            for (bytes, values) in view.bytes.chunks(2 * BLOCK).zip(out.chunks_mut(BLOCK)) {
                widen_f16(bytes, values);
            }
        }
    }
}

fn fill_bf16(view: &TensorView<'_>, out: &mut [bf16]) {
    let mut block = [0.0f32; BLOCK];
    match view.dtype {
        WeightDtype::F32 => {
            for (bytes, values) in view.bytes.chunks(4 * BLOCK).zip(out.chunks_mut(BLOCK)) {
                let wide = &mut block[..values.len()];
                copy_f32(bytes, wide);
                values.convert_from_f32_slice(wide);
            }
        }
        WeightDtype::Bf16 => {
            for (bytes, value) in view.bytes.chunks_exact(2).zip(out) {
                *value = bf16::from_le_bytes([bytes[0], bytes[1]]);
            }
        }
        WeightDtype::F16 => {
            for (bytes, values) in view.bytes.chunks(2 * BLOCK).zip(out.chunks_mut(BLOCK)) {
                let wide = &mut block[..values.len()];
                widen_f16(bytes, wide);
                values.convert_from_f32_slice(wide);
            }
        }
    }
}

/// The bytes may be unaligned, so they are read one by one; the compiler makes whole vectors of it.
fn copy_f32(bytes: &[u8], out: &mut [f32]) {
    for (bytes, value) in bytes.chunks_exact(4).zip(out) {
        *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
}

/// At most [`BLOCK`] elements, through an aligned copy so that the conversion runs on whole vectors.
fn widen_f16(bytes: &[u8], out: &mut [f32]) {
    let mut narrow = [f16::ZERO; BLOCK];
    let narrow = &mut narrow[..out.len()];
    for (bytes, value) in bytes.chunks_exact(2).zip(narrow.iter_mut()) {
        *value = f16::from_le_bytes([bytes[0], bytes[1]]);
    }
    narrow.convert_to_f32_slice(out);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn view<'a>(dtype: WeightDtype, shape: &'a [usize], bytes: &'a [u8]) -> TensorView<'a> {
        TensorView { name: "w", dtype, shape, bytes, file: Path::new("w.safetensors"), offset: 0 }
    }

    #[test]
    fn every_16_bit_pattern_widens_exactly_and_rounds_once() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let shape = [1 << 16];
        let f16_view = view(WeightDtype::F16, &shape, &bytes);
        let bf16_view = view(WeightDtype::Bf16, &shape, &bytes);
        let (wide, narrow) = (read_f32(&f16_view), read_bf16(&f16_view));
        let (wide_b, same) = (read_f32(&bf16_view), read_bf16(&bf16_view));
        for bits in 0..=u16::MAX {
            let index = usize::from(bits);
            let expected = f16::from_bits(bits).to_f32();
            assert!(
                wide[index].to_bits() == expected.to_bits() || expected.is_nan() && wide[index].is_nan(),
                "{bits:#x}"
            );
            let rounded = round_to_nearest_even(expected);
            assert!(
                narrow[index].to_bits() == rounded || expected.is_nan() && narrow[index].is_nan(),
                "{bits:#x}"
            );
            let upper = f32::from_bits(u32::from(bits) << 16);
            assert!(
                wide_b[index].to_bits() == upper.to_bits() || upper.is_nan() && wide_b[index].is_nan(),
                "{bits:#x}"
            );
            assert_eq!(same[index].to_bits(), bits);
        }
    }

    /// The definition, for finite values and infinities: add half of the last place, less if that would break a tie upwards.
    fn round_to_nearest_even(value: f32) -> u16 {
        let bits = value.to_bits();
        (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16
    }

    #[test]
    fn f32_rounds_to_nearest_even_at_and_around_ties() {
        let mut values = Vec::new();
        for upper in [0x3f80u32, 0x3f81, 0xbf80, 0xbf81, 0x0001, 0x7f7f] {
            for lower in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                values.push(f32::from_bits(upper << 16 | lower));
            }
        }
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let shape = [values.len()];
        let tensor = view(WeightDtype::F32, &shape, &bytes);
        assert_eq!(read_f32(&tensor), values);
        for (value, rounded) in values.iter().zip(read_bf16(&tensor)) {
            assert_eq!(rounded.to_bits(), round_to_nearest_even(*value), "{value:e}");
        }
    }

    #[test]
    fn unaligned_bytes_and_lengths_around_the_block_are_read_whole() {
        for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3] {
            let values: Vec<f32> = (0..len).map(|index| index as f32).collect();
            let mut bytes = vec![0xaa];
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            let shape = [len];
            let tensor = view(WeightDtype::F32, &shape, &bytes[1..]);
            assert_eq!(read_f32(&tensor), values);
            let expected: Vec<bf16> = values.iter().map(|value| bf16::from_f32(*value)).collect();
            assert_eq!(read_bf16(&tensor), expected);
        }
    }

    #[test]
    fn a_destination_of_another_length_is_refused_untouched() {
        let bytes = [0u8; 8];
        let tensor = view(WeightDtype::F32, &[2], &bytes);
        let mut out = [7.0f32; 3];
        let message = read_f32_into(&tensor, &mut out).unwrap_err().to_string();
        assert_eq!(message, "tensor `w` has 2 elements, the destination has room for 3");
        assert_eq!(out, [7.0; 3]);
        assert!(read_bf16_into(&tensor, &mut [bf16::ZERO; 1]).is_err());
        assert!(read_bf16_into(&tensor, &mut [bf16::ONE; 2]).is_ok());
    }
}
