//! Every variant against the ops.

use super::super::testing::{Batch, Case, U, few};
use gptjc_graphs::dtype::DType;
use gptjc_graphs::ops::layer_norm as ops;
use proptest::prelude::*;

/// x, weight and bias of `[slots, width]`.
fn forward(seed: u64, width: usize) -> (Batch, Case) {
    let mut batch = Batch::new(seed, 7);
    let dims = [batch.slots(), width.into()];
    let operands = vec![batch.f32(&dims), batch.f32(&dims[1..]), batch.f32(&dims[1..])];
    let case = Case::new(ops::LayerNorm::new(1e-5), batch.extents(), operands);
    (batch, case)
}

/// Bounds of y, mean and rstd, from k + 1 roundings of the mean and k + 2 of the variance.
fn forward_bounds(case: &Case, expected: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let width = case.floats(1).len();
    let k = width as f64;
    let mut bounds = vec![Vec::new(); 3];
    for (row, x) in case.floats(0).chunks_exact(width).enumerate() {
        let largest = x.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
        let rstd = expected[2][row];
        // A mean of k numbers, and a difference from it.
        let (mean, difference) = ((k + 1.0) * U * largest, (k + 3.0) * U * largest);
        let relative = difference * rstd + (k / 2.0 + 4.0) * U; // of rstd, by the error of the variance
        bounds[1].push(mean);
        bounds[2].push(relative * rstd);
        for column in 0..width {
            let normalised = (x[column] - expected[1][row]).abs() * rstd;
            let (weight, bias) = (case.floats(1)[column].abs(), case.floats(2)[column].abs());
            let of_normalised = difference * rstd + normalised * (relative + 2.0 * U);
            bounds[0].push(weight * of_normalised + 2.0 * U * (weight * normalised + bias));
        }
    }
    bounds
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn rows_are_normalised(seed: u64, width in 1usize..70, rows in 1u32..9) {
        forward(seed, width).1.tile(rows, 0).vector().check(forward_bounds);
    }

    #[test]
    fn a_narrow_result_is_rounded_once_more(seed: u64, width in 1usize..70, rows in 1u32..9) {
        let mut case = forward(seed, width).1.tile(rows, 0).vector();
        case.op = ops::LayerNorm { epsilon: 1e-5, dtype: DType::Bf16 }.into();
        case.check(|case, expected| {
            let mut bounds = forward_bounds(case, expected);
            // One unit in the last place: either side may be rounded the other way.
            let places = bounds[0].iter_mut().zip(&expected[0]);
            places.for_each(|(bound, y)| *bound = 2.0 * *bound + 2f64.powi(-7) * y.abs());
            bounds
        });
    }

    #[test]
    fn gradients_are_those_of_the_op(seed: u64, width in 1usize..70, rows in 1u32..9, narrow: bool) {
        let (mut batch, case) = forward(seed, width);
        let (dims, k) = ([batch.slots(), width.into()], width as f64);
        let of_dy = if narrow { DType::Bf16 } else { DType::F32 };
        let (dy, used) = (batch.float(of_dy, &dims), [batch.extents().slots]);
        let [_, mean, rstd] = case.evaluate(|_, x| x).try_into().unwrap();
        let [mean, rstd] = [mean, rstd].map(|of_row| Batch::given(&dims[..1], &used, of_row));
        let [x, weight] = [case.operands[0].clone(), case.operands[1].clone()];
        let table = batch.window_table();
        let operands = vec![dy.clone(), x.clone(), mean.clone(), rstd.clone(), table];
        let parameters = Case::new(ops::LayerNormParamGrad, batch.extents(), operands).tile(rows, 0).vector();
        parameters.check(|case, _| {
            // With `-|mean|` the differences from it are sums of magnitudes; 4 roundings a product, 7 tokens.
            let mut bounds = case.evaluate(|operand, x| if operand == 2 { -x.abs() } else { x.abs() });
            bounds.iter_mut().flatten().for_each(|bound| *bound *= 11.0 * U);
            bounds
        });
        let operands = [dy, x, weight, mean, rstd, batch.f32(&dims)];
        for count in [5, 6] {
            let case = Case::new(ops::LayerNormGrad, batch.extents(), operands[..count].to_vec());
            case.tile(rows, 0).vector().check(|case, expected| {
                let bound = |(element, x): (usize, &f64)| {
                    let (mean, rstd) = (case.floats(3)[element / width], case.floats(4)[element / width]);
                    // Of a normalised row the squares sum to at most k, and |g| is at most 1: so no mean exceeds 1.
                    let bound = rstd * U * (k + 12.0) * (1.0 + 1.0 + (x - mean).abs() * rstd);
                    bound + if count == 6 { U * expected[0][element].abs() } else { 0.0 }
                };
                vec![case.floats(1).iter().enumerate().map(bound).collect()]
            });
        }
    }
}
