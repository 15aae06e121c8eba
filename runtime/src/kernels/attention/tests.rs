//! Each variant against the ops, around the tiles, in both types, with slots and with labelled rows as queries.

use super::super::testing::{Batch, Case, U, few, round_bf16};
use gptjc_graphs::dtype::DType::{self, Bf16, F32};
use gptjc_graphs::interp::Tensor;
use gptjc_graphs::ops::Operation;
use gptjc_graphs::ops::attention as ops;
use gptjc_graphs::plan::Isa;
use gptjc_graphs::shape::{Extents, TensorType};
use proptest::prelude::*;

/// Positions of the tables.
const POSITIONS: usize = 9;

/// An operand with its type.
type Operand = (TensorType, Tensor<f64>);

/// Sizes of a case.
#[derive(Clone, Debug)]
struct Shape {
    heads: usize,
    lanes: usize,
    pairs: usize,
    /// Longest segment.
    window: usize,
    labelled: bool,
    dtype: DType,
}

fn shapes(longest: usize) -> impl Strategy<Value = Shape> {
    (1usize..4, 1usize..40, 0usize..20, 1..=longest, any::<bool>(), any::<bool>()).prop_map(
        |(heads, lanes, pairs, window, labelled, narrow)| Shape {
            heads,
            lanes,
            pairs: pairs.min(lanes / 2),
            window,
            labelled,
            dtype: if narrow { Bf16 } else { F32 },
        },
    )
}

impl Shape {
    fn scale(&self) -> f64 {
        1.0 / (self.lanes as f64).sqrt()
    }

    /// q, k, v, position, sin, cos and the tables, numbers in -1..1.
    fn operands(&self, batch: &mut Batch) -> Vec<Operand> {
        let (queries, slots, width) =
            (batch.queries(self.labelled), batch.slots(), (self.heads * self.lanes).into());
        let table = [POSITIONS.into(), self.pairs.into()];
        let mut operands = vec![
            batch.float(self.dtype, &[queries, width]),
            batch.float(self.dtype, &[slots, width]),
            batch.float(self.dtype, &[slots, width]),
            batch.indices(slots, POSITIONS),
            batch.f32(&table),
            batch.f32(&table),
        ];
        operands.extend(batch.query_tables(self.labelled));
        operands
    }

    fn forward(&self) -> ops::Attention {
        ops::Attention { heads: self.heads, window: self.window, scale: self.scale(), dtype: self.dtype }
    }

    /// Operands of the gradient: besides those of the op its results, and a gradient of the output.
    fn grad_operands(&self, batch: &mut Batch) -> Vec<Operand> {
        let of_forward = self.operands(batch);
        let extents = batch.extents();
        let case = Case::new(self.forward(), extents, of_forward.clone());
        let mut results = case.evaluate(|_, x| x).into_iter().zip(case.result_types());
        let mut result = || {
            let (data, ty) = results.next().unwrap();
            let stored = |x| if ty.dtype == Bf16 { round_bf16(x) } else { f64::from(x as f32) };
            let tensor = Tensor::float(ty.used(&extents), data.into_iter().map(stored).collect());
            (ty, tensor)
        };
        let (o, lse) = (result(), result());
        let width = (self.heads * self.lanes).into();
        let of_output = batch.float(self.dtype, &[batch.queries(self.labelled), width]);
        [&[of_output], &of_forward[..3], &[o, lse], &of_forward[3..]].concat()
    }

    /// The largest magnitude of a score, and the largest error of one: products of rotated numbers of up to 2, of which
    /// each has an error of two roundings, summed and scaled.
    fn scores(&self) -> (f64, f64) {
        let (lanes, scale) = (self.lanes as f64, self.scale());
        (4.0 * lanes * scale, scale * U * (4.0 * lanes * lanes + 16.0 * lanes + 4.0 * lanes))
    }

    /// Bounds of the errors of `o` and `lse`: weights have the error of their scores in the exponent, once for each tile
    /// that raises the maximum; the exponential itself has 2 ulp.
    fn forward_bounds(&self) -> [f64; 2] {
        let (keys, (score, error)) = (self.window as f64, self.scores());
        let steps = (self.window.div_ceil(ops::KEY_TILE) + 1) as f64;
        let weight = steps * (2.0 * error + 2.0 * score * U + 5.0 * U) + (keys + 18.0) * U;
        [2.0 * weight + 2.0 * U, weight + error + 2.0 * U * (score + keys.ln() + 1.0)]
    }

    /// Bounds of the errors of dq, dk and dv: see the formulas of the op. Weights are at most about 1, products with the
    /// output's gradient at most `lanes`.
    fn grad_bounds(&self) -> [f64; 3] {
        let (tokens, lanes, (score, error)) = (self.window as f64, self.lanes as f64, self.scores());
        let weight = error + 2.0 * U * (2.0 * score + tokens.ln()) + 4.0 * U;
        let ds = 2.0 * lanes * self.scale() * 1.1;
        let ds_error = self.scale() * (2.0 * lanes * weight + 2.0 * lanes * lanes * U + 8.0 * lanes * U);
        // A sum of products with rotated numbers of up to 2; rotating back at most doubles it.
        let of_scores = tokens * (2.0 * ds_error + 4.0 * U * ds + (tokens + 2.0) * U * 2.0 * ds);
        let rotated = 2.0 * of_scores + 2.0 * U * 4.0 * tokens * ds;
        [rotated, rotated, tokens * 1.1 * (weight + (tokens + 2.0) * U)]
    }
}

/// `bounds` for all elements of the results.
fn uniform(bounds: &[f64], expected: &[Vec<f64>]) -> Vec<Vec<f64>> {
    bounds.iter().zip(expected).map(|(&bound, of_result)| vec![bound; of_result.len()]).collect()
}

fn check_forward(shape: &Shape, batch: &mut Batch, rows: u32) {
    let operands = shape.operands(batch);
    let case = Case::new(shape.forward(), batch.extents(), operands).tile(rows, 0).vector();
    case.check(|_, expected| uniform(&shape.forward_bounds(), expected));
}

fn check_grad(shape: &Shape, batch: &mut Batch, wanted: usize) {
    let operands = shape.grad_operands(batch);
    let Shape { heads, window, dtype, .. } = *shape;
    let op = ops::AttentionGrad { heads, window, scale: shape.scale(), wanted, dtype };
    let bounds = shape.grad_bounds();
    let bounds: Vec<f64> = (0..3).filter(|bit| wanted >> bit & 1 == 1).map(|bit| bounds[bit]).collect();
    let case = Case::new(op, batch.extents(), operands).vector();
    case.check(|_, expected| uniform(&bounds, expected));
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn outputs_are_softmax_weighted_values(seed: u64, shape in shapes(20), rows in 1u32..9) {
        check_forward(&shape, &mut Batch::new(seed, shape.window), rows);
    }

    #[test]
    fn gradients_are_those_of_the_op(seed: u64, shape in shapes(20), wanted in 1usize..8) {
        check_grad(&shape, &mut Batch::new(seed, shape.window), wanted);
    }
}

/// Segments around key tiles of 64 and query tiles of 48.
#[test]
fn segments_around_the_tiles() {
    for (seed, window) in [(1, 47), (2, 49), (3, 65), (4, 130), (5, 200)] {
        for labelled in [false, true] {
            for dtype in [F32, Bf16] {
                let shape = Shape { heads: 2, lanes: 33, pairs: 9, window, labelled, dtype };
                let mut batch = Batch::new(seed, window);
                batch.segments.clone_from(&batch.windows);
                batch.segments.retain(|segment| !segment.is_empty());
                check_forward(&shape, &mut batch, 1);
                check_grad(&shape, &mut batch, 7);
            }
        }
    }
}

#[test]
fn a_slot_in_two_segments_panics_and_is_not_written_twice() {
    let extents = Extents { slots: 2, rows: 0, windows: 1, segments: 2 };
    let mut batch = Batch::new(0, 1);
    (batch.windows, batch.segments) = (vec![0..2], vec![0..1, 1..2]);
    let shape = Shape { heads: 1, lanes: 2, pairs: 1, window: 2, labelled: false, dtype: F32 };
    let mut operands = shape.operands(&mut batch);
    operands[7].1 = Tensor::int([2, 2], vec![0, 2, 1, 1]);
    for isa in Isa::ALL.into_iter().filter(|&isa| crate::isa::usable(isa)) {
        let mut case = Case::new(shape.forward(), extents, operands.clone());
        case.isa = isa;
        let run = std::panic::AssertUnwindSafe(|| case.run(case.partition, &[], 0, 1));
        assert!(std::panic::catch_unwind(run).is_err(), "{isa}");
    }
}

#[test]
fn the_key_tile_is_that_of_the_op() {
    assert_eq!(super::KEY_TILE, ops::KEY_TILE);
    assert_eq!(ops::Attention::NAME, "attention");
}
