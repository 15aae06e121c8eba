//! Attention is what the ops that it is fused from compute, forward and backward.

use crate::autodiff::{WindowTables, differentiate};
use crate::dtype::DType;
use crate::entities::ValueId;
use crate::graph::{Graph, Role};
use crate::interp::{Real, Tensor, run};
use crate::ops::attention::{Attention, AttentionGrad, KEY_TILE};
use crate::ops::elementwise::Scale;
use crate::ops::masked_softmax::MaskedSoftmax;
use crate::ops::rotary::Rotary;
use crate::ops::rows::GatherRows;
use crate::ops::segment_matmul::{SegmentMix, SegmentScores};
use crate::shape::{Dim, TensorType};
use std::collections::BTreeMap;

const HEADS: usize = 2;
const LANES: usize = 6;
const PAIRS: usize = 2;
const POSITIONS: usize = 32;
const SCALE: f64 = 0.4;

/// Longer than a tile of keys.
const WINDOW: usize = KEY_TILE + 9;

/// Lengths of the segments: one slot, a few, and more than a tile.
const SEGMENTS: [usize; 4] = [1, 5, WINDOW, 2];

fn slots() -> usize {
    SEGMENTS.iter().sum()
}

/// Inputs that both graphs have, in the order of the op's operands.
fn inputs(graph: &mut Graph, labelled: bool) -> Vec<ValueId> {
    let (of_slots, width) = (Dim::slots(slots()), Dim::fixed(HEADS * LANES));
    let queries = if labelled { Dim::rows(slots()) } else { of_slots };
    let (table, segments) = ([Dim::fixed(POSITIONS), PAIRS.into()], Dim::segments(SEGMENTS.len()));
    let mut types = vec![
        ("q", TensorType::f32([queries, width])),
        ("k", TensorType::f32([of_slots, width])),
        ("v", TensorType::f32([of_slots, width])),
        ("position", TensorType::i32([of_slots])),
        ("sin", TensorType::f32(table)),
        ("cos", TensorType::f32(table)),
        ("segment", TensorType::i32([of_slots])),
        ("segment_table", TensorType::i32([segments, 2.into()])),
        ("do", TensorType::f32([queries, width])),
    ];
    types.extend(labelled.then(|| ("labelled", TensorType::i32([queries]))));
    types.into_iter().map(|(name, ty)| graph.input(name, Role::Batch, ty).unwrap()).collect()
}

/// The primitive ops and, by autodiff, their gradients.
fn primitive(labelled: bool) -> Graph {
    let mut graph = Graph::new("primitive");
    let inputs = inputs(&mut graph, labelled);
    let [q, k, v, position, sin, cos, segment, table, of_output] = inputs[..9] else { panic!("nine inputs") };
    let tables = [&[segment, table], &inputs[9..]].concat();
    let with = |first: &[ValueId]| [first, &tables].concat();
    let query_position = match inputs.get(9) {
        Some(&labelled) => graph.push1(GatherRows, &[position, labelled]).unwrap(),
        None => position,
    };
    let rotary = Rotary { heads: HEADS, inverse: false };
    let q_rotated = graph.push1(rotary.clone(), &[q, query_position, sin, cos]).unwrap();
    let k_rotated = graph.push1(rotary, &[k, position, sin, cos]).unwrap();
    let scores = SegmentScores { heads: HEADS, window: WINDOW };
    let s = graph.push1(scores, &with(&[q_rotated, k_rotated])).unwrap();
    let s = graph.push1(Scale { factor: SCALE }, &[s]).unwrap();
    let p = graph.push1(MaskedSoftmax, &with(&[s])).unwrap();
    let o = graph.push1(SegmentMix, &with(&[p, v])).unwrap();
    let cotangents = differentiate(&mut graph, &[(o, of_output)], WindowTables::default()).unwrap();
    graph.output("o", o);
    for (name, of) in [("dq", q), ("dk", k), ("dv", v)] {
        graph.output(name, cotangents[&of]);
    }
    graph
}

/// The fused ops.
fn fused(labelled: bool, wanted: usize) -> Graph {
    let mut graph = Graph::new("fused");
    let inputs = inputs(&mut graph, labelled);
    let of_output = inputs[8];
    let tail = [&inputs[3..8], &inputs[9..]].concat();
    let (heads, window, scale, dtype) = (HEADS, WINDOW, SCALE, DType::F32);
    let op = Attention { heads, window, scale, dtype };
    let node = graph.push(op, &[&inputs[..3], &tail].concat()).unwrap();
    let results = graph.node(node).results.clone();
    let operands = [&[of_output], &inputs[..3], &results, &tail].concat();
    let node = graph.push(AttentionGrad { heads, window, scale, wanted, dtype }, &operands).unwrap();
    let gradients = graph.node(node).results.clone();
    graph.output("o", results[0]);
    let names = ["dq", "dk", "dv"].into_iter().enumerate().filter(|(bit, _)| wanted >> bit & 1 == 1);
    names.zip(gradients).for_each(|((_, name), value)| graph.output(name, value));
    graph
}

/// Random numbers in -1..1 for the floating-point inputs, and consistent tables. Every third slot has a label.
fn data<F: Real>(graph: &Graph) -> BTreeMap<String, Tensor<F>> {
    let labelled: Vec<i32> = (0..slots() as i32).filter(|slot| slot % 3 != 1).collect();
    let starts: Vec<usize> = (0..SEGMENTS.len()).map(|index| SEGMENTS[..index].iter().sum()).collect();
    let of_slot = |slot: usize| starts.iter().rposition(|&start| start <= slot).unwrap();
    let mut state = 1_u64;
    let mut number = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        F::from_f64(f64::from((state >> 40) as f32 / (1 << 23) as f32 - 1.0))
    };
    let mut tensor = |name: &str, ty: &TensorType| {
        let extents = crate::shape::Extents {
            slots: slots(),
            rows: labelled.len(),
            segments: SEGMENTS.len(),
            ..Default::default()
        };
        let dims = ty.used(&extents);
        let elements: usize = dims.iter().product();
        match name {
            "position" => {
                let place = |slot| (slot - starts[of_slot(slot)]) % POSITIONS;
                Tensor::int(dims, (0..slots()).map(|slot| place(slot) as i32).collect())
            }
            "segment" => Tensor::int(dims, (0..slots()).map(|slot| of_slot(slot) as i32).collect()),
            "segment_table" => {
                let ranges = starts.iter().zip(SEGMENTS);
                Tensor::int(dims, ranges.flat_map(|(&start, length)| [start as i32, length as i32]).collect())
            }
            "labelled" => Tensor::int(dims, labelled.clone()),
            _ => Tensor::float(dims, (0..elements).map(|_| number()).collect()),
        }
    };
    graph
        .inputs()
        .iter()
        .map(|input| (input.name.clone(), tensor(&input.name, graph.ty(input.value))))
        .collect()
}

/// The largest difference of any output of the fused ops from the primitive ones.
fn largest_difference<F: Real>(labelled: bool, wanted: usize) -> f64 {
    let (primitive, fused) = (primitive(labelled), fused(labelled, wanted));
    let expected = run(&primitive, &data::<F>(&primitive)).unwrap();
    let found = run(&fused, &data::<F>(&fused)).unwrap();
    assert_eq!(found.len(), 1 + wanted.count_ones() as usize);
    let difference = |(name, tensor): (&String, &Tensor<F>)| {
        let (found, expected) = (tensor.floats().unwrap(), expected[name].floats().unwrap());
        assert_eq!(found.len(), expected.len(), "{name}");
        let differences =
            found.iter().zip(expected).map(|(a, b)| (Real::to_f64(*a) - Real::to_f64(*b)).abs());
        differences.fold(0.0, f64::max)
    };
    found.iter().map(difference).fold(0.0, f64::max)
}

/// Largest difference in units of half an ulp of 1: a bound on both ways' errors together.
///
/// Rotated numbers are at most 2 and have the error of two roundings, so a score is at most `4 LANES SCALE` and wrong by
/// `SCALE (4 LANES² + 20 LANES)`. A weight has the error of twice that in its exponent, once for each tile, and sums of up
/// to WINDOW weights of 1 together. A gradient of a score is `p (dp - delta)` with both at most LANES; gradients are sums
/// of up to WINDOW of them times 2, and rotating back doubles again.
fn bound() -> f64 {
    let (lanes, window) = (LANES as f64, WINDOW as f64);
    let score = SCALE * (4.0 * lanes * lanes + 20.0 * lanes);
    let weight = 3.0 * (2.0 * score + 8.0 * lanes * SCALE + 5.0) + window;
    let of_score = SCALE * (2.0 * lanes * (weight + 4.0) + 2.0 * lanes * lanes);
    2.0 * window * 2.0 * 2.0 * (of_score + 2.0 * lanes * SCALE * (window + 8.0))
}

#[test]
fn it_is_what_the_primitive_ops_compute_in_f64() {
    for labelled in [false, true] {
        for wanted in 1..8 {
            let difference = largest_difference::<f64>(labelled, wanted);
            assert!(difference <= 1e-12, "labelled {labelled}, wanted {wanted}: {difference:e}");
        }
    }
}

#[test]
fn it_is_what_the_primitive_ops_compute_in_f32_but_for_rounding() {
    for labelled in [false, true] {
        let (difference, bound) =
            (largest_difference::<f32>(labelled, 7), bound() * f64::from(f32::EPSILON) / 2.0);
        assert!(difference <= bound, "labelled {labelled}: {difference:e}, at most {bound:e}");
        assert!(difference > 0.0, "both compute the same roundings: this compares an op with itself");
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let mut graph = Graph::new("types");
    let inputs = inputs(&mut graph, true);
    let types: Vec<&TensorType> = inputs.iter().map(|&value| graph.ty(value)).collect();
    let op = Attention { heads: HEADS, window: WINDOW, scale: SCALE, dtype: DType::Bf16 };
    let infer = |op: &Attention, operands: &[&TensorType]| {
        crate::ops::Op::from(op.clone()).infer(operands).map_err(|error| error.to_string())
    };
    let operands = [&types[..8], &types[9..]].concat();
    let found = infer(&op, &operands).unwrap();
    assert_eq!(found[0], types[0].with_dtype(DType::Bf16));
    assert_eq!(found[1], TensorType::f32([types[0].dims[0], HEADS.into()]));
    assert_eq!(infer(&op, &operands[..7]), Err("expected 8 operands, found 7".to_owned()));
    let heads = Attention { heads: 5, ..op.clone() };
    assert_eq!(
        infer(&heads, &operands),
        Err("attribute `heads` = 5: it does not divide the width 12".to_owned())
    );
    // Rows as queries without their slots.
    assert!(infer(&op, &operands[..8]).unwrap_err().starts_with("operand 6: expected i32[rows:81]"));
    // Slots as queries, with the slots of rows.
    let slots = [&[types[1]], &operands[1..]].concat();
    let error = infer(&op, &slots).unwrap_err();
    assert!(error.starts_with("operand 0: expected labelled rows"), "{error}");
}
