//! Quantisation in blocks: codes, scales and zero points, packed as MatMulNBits of ONNX Runtime reads them, and back.
//!
//! Blocks have zero points, because that loses less at the same size: of normally distributed values in blocks of 32, four
//! bits lose 8.1 % (relative RMS) with them and 8.6 % without, of values with outliers 9.1 % and 11.1 %. A block's scale is
//! searched for: the whole range of the block and a few shares of it are tried, each with the scale that fits its codes
//! best, and the smallest sum of squared errors is taken (7.8 % and 8.8 %).
//!
//! Does not: read weights or write files.

use gptjc_graphs::onnx::{Blockwise, CodeBits};

/// Shares of a block's range that its levels are spread over. With less than all of it the ends are cut off.
const SHARES: [f32; 7] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7];
/// Sums of a block run in so many lanes; every block size is a multiple.
const LANES: usize = 16;
/// Added to and taken from a number of at most 2^22, this rounds it to a whole one, ties to even.
const ROUNDER: f32 = 12_582_912.0;

/// What the codes of a block stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Block {
    scale: f32,
    zero_point: u8,
}

/// The parts of some rows of a matrix.
#[derive(Debug, Default)]
pub(super) struct Quantised {
    /// `[rows, blocks, bytes of a block]`
    pub(super) codes: Vec<u8>,
    /// `[rows, blocks]`
    pub(super) scales: Vec<f32>,
    /// `[rows, bytes]`
    pub(super) zero_points: Vec<u8>,
}

impl Quantised {
    /// Forgets all rows.
    pub(super) fn clear(&mut self) {
        self.codes.clear();
        self.scales.clear();
        self.zero_points.clear();
    }
}

/// Quantises rows one after another.
pub(super) struct Quantizer {
    blockwise: Blockwise,
    columns: usize,
    /// A row, with zeros to the end of its last block.
    padded: Vec<f32>,
    /// A block in steps of its own.
    steps: Vec<f32>,
    codes: Vec<u8>,
    zero_points: Vec<u8>,
}

impl Quantizer {
    /// For rows of `columns` values.
    pub(super) fn new(blockwise: Blockwise, columns: usize) -> Self {
        let blocks = blockwise.blocks(columns);
        Quantizer {
            blockwise,
            columns,
            padded: vec![0.0; blocks * blockwise.size],
            steps: vec![0.0; blockwise.size],
            codes: vec![0; blocks * blockwise.size],
            zero_points: vec![0; blocks],
        }
    }

    /// Appends the parts of a row of finite values, and says in `rounded` what values they stand for.
    pub(super) fn append(&mut self, row: &[f32], rounded: &mut [f32], out: &mut Quantised) {
        self.padded[..self.columns].copy_from_slice(row);
        let (size, largest) = (self.blockwise.size, self.blockwise.bits.largest());
        let blocks = self.padded.chunks_exact(size).zip(self.codes.chunks_exact_mut(size));
        let rounded = rounded.chunks_mut(size).zip(&mut self.zero_points);
        for ((values, codes), (rounded, zero_point)) in blocks.zip(rounded) {
            let block = quantise_block(values, largest, &mut self.steps, codes);
            *zero_point = block.zero_point;
            out.scales.push(block.scale);
            for (value, &code) in rounded.iter_mut().zip(&*codes) {
                *value = block.value(code);
            }
        }
        pack(&self.codes, self.blockwise, &mut out.codes);
        pack(&self.zero_points, self.blockwise, &mut out.zero_points);
    }
}

impl Block {
    fn value(&self, code: u8) -> f32 {
        (f32::from(code) - f32::from(self.zero_point)) * self.scale
    }
}

/// Quantises one block into codes of at most `largest`; a value of 0 stays 0. `steps` is working space.
fn quantise_block(values: &[f32], largest: u8, steps: &mut [f32], codes: &mut [u8]) -> Block {
    let low = values.iter().copied().fold(0.0, f32::min);
    let high = values.iter().copied().fold(0.0, f32::max);
    let levels = f32::from(largest);
    // The range of two finite numbers need not be finite; a level's share of it is.
    let step = high / levels - low / levels;
    if step < f32::MIN_POSITIVE {
        codes.fill(0);
        return Block { scale: 0.0, zero_point: 0 };
    }
    let inverse = 1.0 / step;
    let zero_point = whole(-low * inverse, levels);
    for (in_steps, value) in steps.iter_mut().zip(values) {
        *in_steps = value * inverse;
    }
    let (mut best_share, mut best_fit) = (SHARES[0], fit(steps, SHARES[0], zero_point, levels));
    for share in &SHARES[1..] {
        let fit = fit(steps, *share, zero_point, levels);
        if fit.squared_error < best_fit.squared_error {
            (best_share, best_fit) = (*share, fit);
        }
    }
    for (code, in_steps) in codes.iter_mut().zip(&*steps) {
        *code = whole(in_steps * (1.0 / best_share) + zero_point, levels) as u8;
    }
    Block { scale: best_fit.scale * step, zero_point: zero_point as u8 }
}

/// The nearest whole number from 0 to `levels`.
fn whole(value: f32, levels: f32) -> f32 {
    (value.clamp(0.0, levels) + ROUNDER) - ROUNDER
}

/// A scale for the codes of a block, and what it leaves; both in steps.
struct Fit {
    scale: f32,
    squared_error: f32,
}

/// The scale that fits best the codes that levels `share` of a step apart give.
fn fit(steps: &[f32], share: f32, zero_point: f32, levels: f32) -> Fit {
    let inverse = 1.0 / share;
    let distance = |in_steps: f32| whole(in_steps * inverse + zero_point, levels) - zero_point;
    let (mut products, mut squares, mut errors) = ([0.0_f32; LANES], [0.0_f32; LANES], [0.0_f32; LANES]);
    for part in steps.chunks_exact(LANES) {
        for lane in 0..LANES {
            let distance = distance(part[lane]);
            products[lane] += part[lane] * distance;
            squares[lane] += distance * distance;
        }
    }
    // Some value is at an end of the range, so that some code is not the zero point.
    let scale = products.iter().sum::<f32>() / squares.iter().sum::<f32>();
    for part in steps.chunks_exact(LANES) {
        for lane in 0..LANES {
            let error = distance(part[lane]) * scale - part[lane];
            errors[lane] += error * error;
        }
    }
    Fit { scale, squared_error: errors.iter().sum() }
}

/// Appends codes of a row, as they are packed: the first of two codes of four bits in the lower half of its byte.
fn pack(codes: &[u8], blockwise: Blockwise, out: &mut Vec<u8>) {
    match blockwise.bits {
        CodeBits::Eight => out.extend_from_slice(codes),
        CodeBits::Four => out.extend(codes.chunks(2).map(|pair| {
            let upper = pair.get(1).copied().unwrap_or(0);
            pair[0] | upper << 4
        })),
    }
}

#[cfg(test)]
#[path = "quantize_tests.rs"]
mod tests;
