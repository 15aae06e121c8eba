//! Packing with AVX-512.
//!
//! Tails are loaded under masks, so that one path serves all shapes. A right operand whose rows are columns is transposed
//! in blocks of 16 rows and 16 lanes of 32 bits; two bf16 of a row are one such lane, and are parted afterwards if f32 is
//! asked for.

use super::blocking::{LANE_STEP, LEFT_STRIDE, padded};
use super::{Elements, Form, Format, Left, Packing, Right};
use std::arch::x86_64::*;
use std::ops::Range;

/// Columns of a panel: two vectors.
const COLUMNS: usize = 32;

/// Steps that hold a token of AVX-512, or of an instruction set that includes it: all of them pack alike.
pub(super) trait ProvesAvx512: Copy {}

impl<S: ProvesAvx512> Packing for S {
    unsafe fn pack_right(
        self,
        format: Format,
        right: &Right,
        inner: Range<usize>,
        columns: Range<usize>,
        to: *mut f32,
    ) {
        // SAFETY: [`ProvesAvx512`] is for what proves the instructions; the rest is the caller's promise.
        unsafe { self::right(format, right, inner, columns, to) }
    }

    unsafe fn pack_left(
        self,
        format: Format,
        left: &Left,
        rows: Range<usize>,
        inner: Range<usize>,
        to: *mut f32,
    ) {
        // SAFETY: [`ProvesAvx512`] is for what proves the instructions; the rest is the caller's promise.
        unsafe { self::left(format, left, rows, inner, to) }
    }
}

/// [`super::Packing::pack_right`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn right(format: Format, right: &Right, inner: Range<usize>, columns: Range<usize>, to: *mut f32) {
    let stride = right.stride;
    // SAFETY: the caller's promise; elements are addressed as the form says.
    unsafe {
        match (right.form, right.elements, format) {
            (Form::Nt, Elements::F32(from), _) => {
                let from = from.as_ptr().add(columns.start * stride + inner.start).cast::<u8>();
                transposed::<false>(from, stride * 4, inner.len() * 4, columns.len(), to);
            }
            (Form::Nt, Elements::Bf16(from), format) => {
                let from = from.as_ptr().add(columns.start * stride + inner.start).cast::<u8>();
                let bytes = inner.len() * 2;
                match format {
                    Format::F32 => transposed::<true>(from, stride * 2, bytes, columns.len(), to),
                    Format::Pairs => transposed::<false>(from, stride * 2, bytes, columns.len(), to),
                }
            }
            (Form::Nn, Elements::F32(from), _) => {
                let from = from.as_ptr().add(inner.start * stride + columns.start);
                straight_f32(from, stride, inner.len(), columns.len(), to);
            }
            (Form::Nn, Elements::Bf16(from), Format::F32) => {
                let from = from.as_ptr().add(inner.start * stride + columns.start).cast();
                straight_bf16(from, stride, inner.len(), columns.len(), to);
            }
            (Form::Nn, Elements::Bf16(from), Format::Pairs) => {
                let from = from.as_ptr().add(inner.start * stride + columns.start).cast();
                straight_pairs(from, stride, inner.len(), columns.len(), to);
            }
        }
    }
}

/// A mask of the lowest `count` of 64 bits.
fn lowest(count: usize) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}

/// Rows of `bytes` bytes become columns: `PARTED`, as f32 made of the bf16 there, else as lanes of 32 bits.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn transposed<const PARTED: bool>(
    from: *const u8,
    stride: usize,
    bytes: usize,
    columns: usize,
    to: *mut f32,
) {
    let lanes = bytes.div_ceil(4);
    let depth = if PARTED { bytes / 2 } else { lanes };
    for first in (0..columns).step_by(16) {
        let (panel, half) = (first / COLUMNS, first % COLUMNS);
        // SAFETY: packed panels follow each other; a row of a panel has COLUMNS lanes.
        let to = unsafe { to.add(panel * padded(depth) * COLUMNS + half) };
        for lane in (0..lanes).step_by(16) {
            let mask = lowest(bytes - lane * 4);
            let mut block = [_mm512_setzero_si512(); 16];
            // SAFETY: rows below `columns` and bytes under the mask are in the operand.
            unsafe {
                for (row, block) in block.iter_mut().enumerate().take(columns - first) {
                    let from = from.add((first + row) * stride + lane * 4);
                    *block = _mm512_maskz_loadu_epi8(mask, from.cast());
                    _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(256).cast());
                }
            }
            transpose(&mut block);
            for (index, &block) in block.iter().enumerate() {
                // SAFETY: a panel has room for whole steps of LANE_STEP lanes.
                unsafe {
                    if PARTED {
                        let to = to.add(2 * (lane + index) * COLUMNS);
                        let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
                        _mm512_storeu_si512(to.cast(), _mm512_slli_epi32::<16>(block));
                        _mm512_storeu_si512(to.add(COLUMNS).cast(), _mm512_and_si512(block, upper));
                    } else {
                        _mm512_storeu_si512(to.add((lane + index) * COLUMNS).cast(), block);
                    }
                }
            }
        }
        if !PARTED && lanes.next_multiple_of(16) < padded(lanes) {
            // SAFETY: as above.
            unsafe { zero_lanes(lanes.next_multiple_of(16)..padded(lanes), to) };
        }
        if half == 0 && columns - first <= 16 {
            // SAFETY: the second half of the panel's columns.
            unsafe { zero_lanes(0..padded(depth), to.add(16)) };
        }
    }
}

/// Zeros 16 columns of `lanes`.
#[target_feature(enable = "avx512f")]
unsafe fn zero_lanes(lanes: Range<usize>, to: *mut f32) {
    for lane in lanes {
        // SAFETY: the caller's panel has these lanes.
        unsafe { _mm512_storeu_ps(to.add(lane * COLUMNS), _mm512_setzero_ps()) };
    }
}

/// 16 rows of 16 lanes become their columns.
#[target_feature(enable = "avx512f")]
fn transpose(rows: &mut [__m512i; 16]) {
    let mut pairs = [_mm512_setzero_si512(); 16];
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    // quads[4 i + j] has in its 128-bit part p the rows 4 i .. 4 i + 3 of lane 4 p + j.
    let mut quads = [_mm512_setzero_si512(); 16];
    for i in 0..4 {
        quads[4 * i] = _mm512_unpacklo_epi64(pairs[4 * i], pairs[4 * i + 2]);
        quads[4 * i + 1] = _mm512_unpackhi_epi64(pairs[4 * i], pairs[4 * i + 2]);
        quads[4 * i + 2] = _mm512_unpacklo_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
        quads[4 * i + 3] = _mm512_unpackhi_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
    }
    for j in 0..4 {
        let even = _mm512_shuffle_i32x4::<0x88>(quads[j], quads[4 + j]);
        let odd = _mm512_shuffle_i32x4::<0xdd>(quads[j], quads[4 + j]);
        let even_behind = _mm512_shuffle_i32x4::<0x88>(quads[8 + j], quads[12 + j]);
        let odd_behind = _mm512_shuffle_i32x4::<0xdd>(quads[8 + j], quads[12 + j]);
        rows[j] = _mm512_shuffle_i32x4::<0x88>(even, even_behind);
        rows[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd, odd_behind);
        rows[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even, even_behind);
        rows[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd, odd_behind);
    }
}

/// Rows of the operand are lanes of the summed index.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn straight_f32(from: *const f32, stride: usize, depth: usize, columns: usize, to: *mut f32) {
    for lane in 0..depth {
        for first in (0..columns).step_by(16) {
            let mask = lowest(columns - first) as __mmask16;
            // SAFETY: elements under the mask are in the operand; the panel has the lane.
            unsafe {
                let from = from.add(lane * stride + first);
                let to = to.add((first / COLUMNS * padded(depth) + lane) * COLUMNS + first % COLUMNS);
                _mm512_storeu_ps(to, _mm512_maskz_loadu_ps(mask, from));
            }
        }
    }
    // SAFETY: as above.
    unsafe { zero_last_half(depth, columns, to) };
}

/// The second half of the last panel's columns, if there are none.
#[target_feature(enable = "avx512f")]
unsafe fn zero_last_half(lanes: usize, columns: usize, to: *mut f32) {
    let behind = columns.next_multiple_of(16);
    if behind % COLUMNS == 16 {
        // SAFETY: the last panel.
        unsafe { zero_lanes(0..lanes, to.add(behind / COLUMNS * padded(lanes) * COLUMNS + 16)) };
    }
}

/// The same, widened.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn straight_bf16(from: *const u16, stride: usize, depth: usize, columns: usize, to: *mut f32) {
    for lane in 0..depth {
        for first in (0..columns).step_by(16) {
            let mask = lowest(columns - first) as __mmask16;
            // SAFETY: elements under the mask are in the operand; the panel has the lane.
            unsafe {
                let from = from.add(lane * stride + first);
                let to = to.add((first / COLUMNS * padded(depth) + lane) * COLUMNS + first % COLUMNS);
                _mm512_storeu_si512(to.cast(), widened(mask, from));
            }
        }
    }
    // SAFETY: as above.
    unsafe { zero_last_half(depth, columns, to) };
}

/// bf16 under the mask in the upper halves of 32 bits: as f32.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn widened(mask: __mmask16, from: *const u16) -> __m512i {
    // SAFETY: the caller's elements under the mask.
    let halves = unsafe { _mm256_maskz_loadu_epi16(mask, from.cast()) };
    _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves))
}

/// Pairs of rows of the operand are lanes; the partner of a last odd row is zero.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn straight_pairs(from: *const u16, stride: usize, depth: usize, columns: usize, to: *mut f32) {
    let lanes = depth.div_ceil(2);
    for lane in 0..padded(lanes) {
        for first in (0..columns).step_by(16) {
            let mask = lowest(columns - first) as __mmask16;
            let (row, next) = (2 * lane, 2 * lane + 1);
            // SAFETY: elements of rows below `depth` under the mask are in the operand; the panel has the lane.
            unsafe {
                let mut pairs = _mm512_setzero_si512();
                if row < depth {
                    let halves = _mm256_maskz_loadu_epi16(mask, from.add(row * stride + first).cast());
                    pairs = _mm512_cvtepu16_epi32(halves);
                }
                if next < depth {
                    pairs = _mm512_or_si512(pairs, widened(mask, from.add(next * stride + first)));
                }
                let to = to.add((first / COLUMNS * padded(lanes) + lane) * COLUMNS + first % COLUMNS);
                _mm512_storeu_si512(to.cast(), pairs);
            }
        }
    }
    // SAFETY: as above.
    unsafe { zero_last_half(padded(lanes), columns, to) };
}

/// [`super::Packing::pack_left`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn left(format: Format, left: &Left, rows: Range<usize>, inner: Range<usize>, to: *mut f32) {
    let stride = left.stride;
    // SAFETY: the caller's promise; elements are addressed as `Left` says.
    unsafe {
        match (left.elements, format) {
            (Elements::F32(from), _) if left.transposed => {
                let from = from.as_ptr().add(inner.start * stride + rows.start);
                left_columns(from, stride, rows.len(), inner.len(), left.scale, to, false);
            }
            (Elements::Bf16(from), _) if left.transposed => {
                let from = from.as_ptr().add(inner.start * stride + rows.start);
                left_columns(from.cast(), stride, rows.len(), inner.len(), left.scale, to, true);
            }
            (elements, format) => {
                for (index, row) in rows.enumerate() {
                    let to = to.add(index * LEFT_STRIDE);
                    let start = row * stride + inner.start;
                    match (elements, format) {
                        (Elements::F32(from), Format::F32) => {
                            row_f32(from.as_ptr().add(start), inner.len(), left.scale, to);
                        }
                        (Elements::Bf16(from), Format::F32) => {
                            row_bf16(from.as_ptr().add(start).cast(), inner.len(), left.scale, to);
                        }
                        (Elements::F32(from), Format::Pairs) => {
                            row_narrowed(from.as_ptr().add(start), inner.len(), to.cast());
                        }
                        (Elements::Bf16(from), Format::Pairs) => {
                            row_pairs(from.as_ptr().add(start).cast(), inner.len(), to.cast());
                        }
                    }
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn row_f32(from: *const f32, depth: usize, scale: f32, to: *mut f32) {
    let scale = _mm512_set1_ps(scale);
    for k in (0..depth).step_by(16) {
        let mask = lowest(depth - k) as __mmask16;
        // SAFETY: elements under the mask are in the operand; a row has whole steps of lanes.
        unsafe {
            let values = _mm512_maskz_loadu_ps(mask, from.add(k));
            _mm512_storeu_ps(to.add(k), _mm512_mul_ps(values, scale));
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn row_bf16(from: *const u16, depth: usize, scale: f32, to: *mut f32) {
    let scale = _mm512_set1_ps(scale);
    for k in (0..depth).step_by(16) {
        let mask = lowest(depth - k) as __mmask16;
        // SAFETY: as for `row_f32`.
        unsafe {
            let values = _mm512_castsi512_ps(widened(mask, from.add(k)));
            _mm512_storeu_ps(to.add(k), _mm512_mul_ps(values, scale));
        }
    }
}

/// f32 that bf16 holds exactly.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn row_narrowed(from: *const f32, depth: usize, to: *mut u16) {
    for k in (0..depth.next_multiple_of(2 * LANE_STEP)).step_by(16) {
        let mask = lowest(depth.saturating_sub(k)) as __mmask16;
        // SAFETY: as for `row_f32`.
        unsafe {
            let values = _mm512_maskz_loadu_epi32(mask, from.wrapping_add(k).cast());
            let halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(values));
            _mm256_storeu_si256(to.add(k).cast(), halves);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn row_pairs(from: *const u16, depth: usize, to: *mut u16) {
    for k in (0..depth.next_multiple_of(2 * LANE_STEP)).step_by(32) {
        let mask = lowest(depth.saturating_sub(k)) as __mmask32;
        // SAFETY: as for `row_f32`.
        unsafe {
            let values = _mm512_maskz_loadu_epi16(mask, from.wrapping_add(k).cast());
            _mm512_storeu_si512(to.add(k).cast(), values);
        }
    }
}

/// Columns of the operand are rows: transposed, 16 at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn left_columns(
    from: *const f32,
    stride: usize,
    rows: usize,
    depth: usize,
    scale: f32,
    to: *mut f32,
    is_bf16: bool,
) {
    let scale = _mm512_set1_ps(scale);
    for first in (0..rows).step_by(16) {
        let mask = lowest(rows - first) as __mmask16;
        for k in (0..depth).step_by(16) {
            let mut block = [_mm512_setzero_si512(); 16];
            for (row, block) in block.iter_mut().enumerate().take(depth - k) {
                let element = (k + row) * stride + first;
                // SAFETY: elements under the mask are in the operand.
                *block = unsafe {
                    if is_bf16 {
                        widened(mask, from.cast::<u16>().add(element))
                    } else {
                        _mm512_maskz_loadu_epi32(mask, from.add(element).cast())
                    }
                };
            }
            transpose(&mut block);
            for (row, &block) in block.iter().enumerate().take(rows - first) {
                let values = _mm512_mul_ps(_mm512_castsi512_ps(block), scale);
                // SAFETY: the panel has the row, and whole steps of lanes.
                unsafe { _mm512_storeu_ps(to.add((first + row) * LEFT_STRIDE + k), values) };
            }
        }
    }
}
