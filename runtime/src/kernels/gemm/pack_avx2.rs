//! Packing with AVX2.
//!
//! Whole blocks are moved by vectors; a block that the operand does not fill is first copied to one that is zero
//! elsewhere. A right operand whose rows are columns is transposed in blocks of 8 rows and 8 lanes of 32 bits; two bf16 of
//! a row are one such lane, and are parted afterwards.

use super::blocking::{LEFT_STRIDE, padded};
use super::{Elements, Form, Left, Right};
use std::arch::x86_64::*;
use std::ops::Range;

/// Columns of a panel: two vectors.
const COLUMNS: usize = 16;
/// Bytes of a vector.
const BYTES: usize = 32;

/// [`super::Packing::pack_right`], always as f32.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn right(right: &Right, inner: Range<usize>, columns: Range<usize>, to: *mut f32) {
    let stride = right.stride;
    // SAFETY: the caller's promise; elements are addressed as the form says.
    unsafe {
        match (right.form, right.elements) {
            (Form::Nt, Elements::F32(from)) => {
                let from = from.as_ptr().add(columns.start * stride + inner.start).cast::<u8>();
                transposed::<false>(from, stride * 4, inner.len() * 4, columns.len(), to);
            }
            (Form::Nt, Elements::Bf16(from)) => {
                let from = from.as_ptr().add(columns.start * stride + inner.start).cast::<u8>();
                transposed::<true>(from, stride * 2, inner.len() * 2, columns.len(), to);
            }
            (Form::Nn, elements) => straight(elements, stride, inner, columns, to),
        }
    }
}

/// Up to 8 rows of up to 32 bytes, zero elsewhere.
#[target_feature(enable = "avx2")]
unsafe fn load_block(from: *const u8, stride: usize, rows: usize, bytes: usize) -> [__m256i; 8] {
    let mut block = [_mm256_setzero_si256(); 8];
    for (row, block) in block.iter_mut().enumerate().take(rows) {
        // SAFETY: the caller's rows and bytes are in the operand.
        *block = unsafe { load_vector(from.add(row * stride), bytes) };
    }
    block
}

/// Up to 32 bytes, zero elsewhere.
#[target_feature(enable = "avx2")]
unsafe fn load_vector(from: *const u8, bytes: usize) -> __m256i {
    // SAFETY: the caller's bytes are in the operand; fewer than a vector are copied to one first.
    unsafe {
        if bytes >= BYTES {
            return _mm256_loadu_si256(from.cast());
        }
        let mut vector = [0u8; BYTES];
        vector.as_mut_ptr().copy_from_nonoverlapping(from, bytes);
        _mm256_loadu_si256(vector.as_ptr().cast())
    }
}

/// Rows of `bytes` bytes become columns: `PARTED`, as f32 made of the bf16 there, else as lanes of 32 bits.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn transposed<const PARTED: bool>(
    from: *const u8,
    stride: usize,
    bytes: usize,
    columns: usize,
    to: *mut f32,
) {
    let lanes = bytes.div_ceil(4);
    let depth = if PARTED { bytes / 2 } else { lanes };
    for first in (0..columns.next_multiple_of(COLUMNS)).step_by(8) {
        let (panel, half) = (first / COLUMNS, first % COLUMNS);
        // SAFETY: packed panels follow each other; a row of a panel has COLUMNS lanes.
        let to = unsafe { to.add(panel * padded(depth) * COLUMNS + half) };
        let rows = columns.saturating_sub(first);
        for lane in (0..lanes).step_by(8) {
            let from = from.wrapping_add(first * stride + lane * 4);
            // SAFETY: rows below `columns` and bytes below `bytes` are in the operand.
            let mut block = unsafe { load_block(from, stride, rows, bytes - lane * 4) };
            for row in 0..rows.min(8) {
                _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(row * stride + 256).cast());
            }
            transpose(&mut block);
            for (index, &block) in block.iter().enumerate() {
                // SAFETY: a panel has room for whole steps of LANE_STEP lanes.
                unsafe {
                    if PARTED {
                        let to = to.add(2 * (lane + index) * COLUMNS);
                        let upper = _mm256_set1_epi32(0xffff_0000_u32 as i32);
                        _mm256_storeu_si256(to.cast(), _mm256_slli_epi32::<16>(block));
                        _mm256_storeu_si256(to.add(COLUMNS).cast(), _mm256_and_si256(block, upper));
                    } else {
                        _mm256_storeu_si256(to.add((lane + index) * COLUMNS).cast(), block);
                    }
                }
            }
        }
    }
}

/// 8 rows of 8 lanes become their columns.
#[target_feature(enable = "avx2")]
fn transpose(rows: &mut [__m256i; 8]) {
    let mut pairs = [_mm256_setzero_si256(); 8];
    for i in 0..4 {
        pairs[2 * i] = _mm256_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm256_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    // quads[4 i + j] has in its 128-bit part p the rows 4 i .. 4 i + 3 of lane 4 p + j.
    let mut quads = [_mm256_setzero_si256(); 8];
    for i in 0..2 {
        quads[4 * i] = _mm256_unpacklo_epi64(pairs[4 * i], pairs[4 * i + 2]);
        quads[4 * i + 1] = _mm256_unpackhi_epi64(pairs[4 * i], pairs[4 * i + 2]);
        quads[4 * i + 2] = _mm256_unpacklo_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
        quads[4 * i + 3] = _mm256_unpackhi_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
    }
    for j in 0..4 {
        rows[j] = _mm256_permute2x128_si256::<0x20>(quads[j], quads[4 + j]);
        rows[4 + j] = _mm256_permute2x128_si256::<0x31>(quads[j], quads[4 + j]);
    }
}

/// Rows of the operand are lanes of the summed index.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn straight(
    elements: Elements,
    stride: usize,
    inner: Range<usize>,
    columns: Range<usize>,
    to: *mut f32,
) {
    let depth = inner.len();
    for (lane, k) in inner.enumerate() {
        for first in (0..columns.len().next_multiple_of(COLUMNS)).step_by(8) {
            let count = columns.len().saturating_sub(first);
            // SAFETY: `count` elements from the first are in the operand; the panel has the lane.
            unsafe {
                let to = to.add((first / COLUMNS * padded(depth) + lane) * COLUMNS + first % COLUMNS);
                _mm256_storeu_ps(to, load(elements, k * stride + columns.start + first, count));
            }
        }
    }
}

/// Up to 8 elements from `start` on as f32, zero elsewhere.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load(elements: Elements, start: usize, count: usize) -> __m256 {
    // SAFETY: the caller's elements are in the operand; fewer than a vector are copied to one first.
    unsafe {
        match elements {
            Elements::F32(from) => {
                _mm256_castsi256_ps(load_vector(from.as_ptr().wrapping_add(start).cast(), count * 4))
            }
            Elements::Bf16(from) => {
                let from = from.as_ptr().wrapping_add(start).cast::<u16>();
                let halves = if count >= 8 {
                    _mm_loadu_si128(from.cast())
                } else {
                    let mut vector = [0u16; 8];
                    vector.as_mut_ptr().copy_from_nonoverlapping(from, count);
                    _mm_loadu_si128(vector.as_ptr().cast())
                };
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
            }
        }
    }
}

/// [`super::Packing::pack_left`], always as f32.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn left(left: &Left, rows: Range<usize>, inner: Range<usize>, to: *mut f32) {
    let scale = _mm256_set1_ps(left.scale);
    if left.transposed {
        // SAFETY: the caller's promise.
        return unsafe { left_columns(left, rows, inner, to) };
    }
    for (index, row) in rows.enumerate() {
        for k in (0..inner.len()).step_by(8) {
            // SAFETY: elements below the end of `inner` are in the operand; a row has whole steps of lanes.
            unsafe {
                let values = load(left.elements, row * left.stride + inner.start + k, inner.len() - k);
                _mm256_storeu_ps(to.add(index * LEFT_STRIDE + k), _mm256_mul_ps(values, scale));
            }
        }
    }
}

/// Columns of the operand are rows: transposed, 8 at a time.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn left_columns(left: &Left, rows: Range<usize>, inner: Range<usize>, to: *mut f32) {
    let scale = _mm256_set1_ps(left.scale);
    for first in (0..rows.len()).step_by(8) {
        for k in (0..inner.len()).step_by(8) {
            let mut block = [_mm256_setzero_si256(); 8];
            for (row, block) in block.iter_mut().enumerate().take(inner.len() - k) {
                let start = (inner.start + k + row) * left.stride + rows.start + first;
                // SAFETY: elements below the end of `rows` are in the operand.
                *block = unsafe { _mm256_castps_si256(load(left.elements, start, rows.len() - first)) };
            }
            transpose(&mut block);
            for (row, &block) in block.iter().enumerate().take(rows.len() - first) {
                let values = _mm256_mul_ps(_mm256_castsi256_ps(block), scale);
                // SAFETY: the panel has the row, and whole steps of lanes.
                unsafe { _mm256_storeu_ps(to.add((first + row) * LEFT_STRIDE + k), values) };
            }
        }
    }
}
