//! Codes against a plain reader of the operator's layout, and errors against what the levels allow.

use super::*;

/// `(code - zero point) · scale`, read as the operator's documentation says: rows, blocks, bytes.
fn dequantise(parts: &Quantised, blockwise: Blockwise, rows: usize, columns: usize) -> Vec<f32> {
    let bits = blockwise.bits.number();
    let (blocks, blob) = (columns.div_ceil(blockwise.size), blockwise.size * bits / 8);
    let zero_bytes = (blocks * bits).div_ceil(8);
    let code = |bytes: &[u8], index: usize| match bits {
        8 => bytes[index],
        _ => (bytes[index / 2] >> (4 * (index % 2))) & 15,
    };
    let mut values = Vec::new();
    for row in 0..rows {
        for column in 0..columns {
            let (block, place) = (column / blockwise.size, column % blockwise.size);
            let bytes = &parts.codes[(row * blocks + block) * blob..][..blob];
            let zero_point = code(&parts.zero_points[row * zero_bytes..][..zero_bytes], block);
            let scale = parts.scales[row * blocks + block];
            values.push((f32::from(code(bytes, place)) - f32::from(zero_point)) * scale);
        }
    }
    assert_eq!(parts.codes.len(), rows * blocks * blob);
    assert_eq!((parts.scales.len(), parts.zero_points.len()), (rows * blocks, rows * zero_bytes));
    values
}

/// The parts of a matrix, and the values that they stand for.
fn quantise(values: &[f32], blockwise: Blockwise, columns: usize) -> (Quantised, Vec<f32>) {
    let mut quantizer = Quantizer::new(blockwise, columns);
    let mut parts = Quantised::default();
    let mut rounded = vec![f32::NAN; values.len()];
    for (row, rounded) in values.chunks_exact(columns).zip(rounded.chunks_exact_mut(columns)) {
        quantizer.append(row, rounded, &mut parts);
    }
    (parts, rounded)
}

/// Normally distributed, roughly: sums of twelve uniform numbers.
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..count).map(|_| 0.02 * ((0..12).map(|_| uniform()).sum::<f32>() - 6.0)).collect()
}

fn relative_rms(found: &[f32], expected: &[f32]) -> f64 {
    let squared = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
    let errors = squared(&mut found.iter().zip(expected).map(|(f, e)| f - e));
    (errors / squared(&mut expected.iter().copied())).sqrt()
}

const BITS: [CodeBits; 2] = [CodeBits::Four, CodeBits::Eight];

#[test]
fn parts_read_as_the_operator_reads_them_in_any_shape() {
    for bits in BITS {
        for size in Blockwise::SIZES {
            for (rows, columns) in
                [(1, 1), (3, 15), (2, 16), (5, 17), (4, 33), (3, 95), (2, 256), (3, 257), (1, 600)]
            {
                let blockwise = Blockwise { bits, size };
                let source = values(rows * columns, columns as u64);
                let (parts, rounded) = quantise(&source, blockwise, columns);
                let read = dequantise(&parts, blockwise, rows, columns);
                assert_eq!(read, rounded, "{blockwise:?} {rows}x{columns}");
                for (row, (read, source)) in read.chunks(columns).zip(source.chunks(columns)).enumerate() {
                    for (block, (read, source)) in read.chunks(size).zip(source.chunks(size)).enumerate() {
                        check_block(
                            read,
                            source,
                            blockwise,
                            &format!("{blockwise:?} row {row} block {block}"),
                        );
                    }
                }
            }
        }
    }
}

/// No scale loses more than half a step a value, of the whole range in even steps.
fn check_block(read: &[f32], source: &[f32], blockwise: Blockwise, what: &str) {
    let low = source.iter().copied().fold(0.0, f32::min);
    let high = source.iter().copied().fold(0.0, f32::max);
    let step = (high - low) / f32::from(blockwise.bits.largest());
    // The zero point is rounded, which moves each end by half a step.
    let allowed = source.len() as f32 * step * step;
    let error: f32 = read.iter().zip(source).map(|(r, s)| (r - s).powi(2)).sum();
    assert!(error <= allowed, "{what}: {error} of {allowed}");
}

#[test]
fn errors_are_those_of_the_literature_and_less_than_without_a_search() {
    // Relative RMS of evenly spaced levels from the least to the greatest value, measured with another program.
    for (bits, size, plain) in [
        (CodeBits::Four, 16, 0.0696),
        (CodeBits::Four, 32, 0.0809),
        (CodeBits::Four, 128, 0.1006),
        (CodeBits::Eight, 32, 0.0048),
    ] {
        let blockwise = Blockwise { bits, size };
        let source = values(1 << 18, 7);
        let error = relative_rms(&quantise(&source, blockwise, 512).1, &source);
        assert!(error < plain && error > 0.8 * plain, "{blockwise:?}: {error}, plain {plain}");
    }
}

#[test]
fn zeros_stay_zeros_and_extremes_stay_finite() {
    for bits in BITS {
        let blockwise = Blockwise { bits, size: 16 };
        let round = |row: [f32; 16]| quantise(&row, blockwise, 16).1;
        assert_eq!(round([0.0; 16]), [0.0; 16]);
        assert_eq!(round([1e-45; 16]), [0.0; 16]);
        let mut row = [0.0; 16];
        (row[3], row[7]) = (1e38, -1e38);
        let found = round(row);
        assert!(found.iter().all(|value| value.is_finite()), "{found:?}");
        assert!(found[0] == 0.0 && found[3] > 9e37 && found[7] < -9e37, "{found:?}");
        // One sign only: the other end of the range is 0.
        let positive = round(std::array::from_fn(|index| index as f32));
        assert!(
            positive.iter().zip(0..).all(|(&value, index)| (value - index as f32).abs() < 0.6),
            "{positive:?}"
        );
    }
}
