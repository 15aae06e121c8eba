//! Fused projections against the ops, around the portable product's panels.

use super::super::testing::{Batch, Case, U, few};
use gptjc_graphs::dtype::DType::{self, Bf16, F32};
use gptjc_graphs::interp::Tensor;
use gptjc_graphs::layout::{
    Masks, ProjectionGradMember, ProjectionGradOperands, ProjectionMember, ProjectionOperands,
};
use gptjc_graphs::ops::projection as ops;
use gptjc_graphs::plan::Partition;
use gptjc_graphs::shape::{Dim, TensorType};
use proptest::prelude::*;

type Operand = (TensorType, Tensor<f64>);

/// What a projection and its gradient have in common.
#[derive(Clone, Debug)]
struct Group {
    seed: u64,
    inputs: usize,
    outputs: Vec<usize>,
    rank: usize,
    biased: usize,
    adapted: usize,
    gelu: usize,
    p: f64,
    rows: bool,
    residuals: usize,
    tile: (u32, u32),
}

prop_compose! {
    fn group()(
        (seed, inputs, rank) in (any::<u64>(), 1usize..35, 1usize..10),
        outputs in prop::collection::vec(1usize..20, 1..4),
        sets: [u8; 3],
        p in prop_oneof![Just(0.0), 0.1f64..0.9],
        (rows, residuals) in (any::<bool>(), 0usize..3),
        tile in (1u32..9, 0u32..20),
    ) -> Group {
        let [biased, adapted, gelu] = sets.map(|set| usize::from(set) & ((1 << outputs.len()) - 1));
        Group { seed, inputs, outputs, rank, biased, adapted, gelu, p, rows, residuals, tile }
    }
}

impl Group {
    fn tokens(&self, batch: &Batch) -> Dim {
        if self.rows { batch.rows() } else { batch.slots() }
    }

    /// Of these types of x and weights; results in `dtype`.
    fn forward(&self, (of_x, of_w): (DType, DType), dtype: DType) -> Case {
        let mut batch = Batch::new(self.seed, 5);
        let (tokens, k, r) = (self.tokens(&batch), Dim::fixed(self.inputs), Dim::fixed(self.rank));
        let residuals = if self.outputs.len() == 1 { self.residuals } else { 0 };
        let x = batch.float(of_x, &[tokens, k]);
        let mut member = |(index, &n): (usize, &usize)| {
            let (n, has) = (Dim::fixed(n), |set: usize| set >> index & 1 == 1);
            ProjectionMember {
                weight: batch.float(of_w, &[n, k]),
                bias: has(self.biased).then(|| batch.f32(&[n])),
                adapter: has(self.adapted).then(|| (batch.f32(&[tokens, r]), batch.f32(&[n, r]))),
            }
        };
        let members: Vec<_> = self.outputs.iter().enumerate().map(&mut member).collect();
        let residuals: Vec<Operand> =
            (0..residuals).map(|_| batch.f32(&[tokens, self.outputs[0].into()])).collect();
        let op = ops::Projection {
            members: members.len(),
            biased: self.biased,
            adapted: self.adapted,
            gelu: self.gelu,
            residuals: residuals.len(),
            scale: 1.5,
            dtype,
            // Of a type of its own.
            activation: if self.rows { F32 } else { dtype },
        };
        let operands = ProjectionOperands { x, members, residuals }.join();
        Case::new(op, batch.extents(), operands)
            .tile(self.tile.0, self.tile.1)
            .product((of_x, of_w) == (Bf16, Bf16))
    }

    /// Of these types of dy and weights; with an activation before it, if a bit says so, whose operand has `dtype`, as
    /// the result.
    fn grad(&self, (of_dy, of_w): (DType, DType), dtype: DType) -> Case {
        let mut batch = Batch::new(self.seed, 5);
        let (tokens, k, r) = (self.tokens(&batch), Dim::fixed(self.inputs), Dim::fixed(self.rank));
        let mut member = |(index, &n): (usize, &usize)| ProjectionGradMember {
            dy: batch.float(of_dy, &[tokens, n.into()]),
            weight: batch.float(of_w, &[n.into(), k]),
            adapter: (self.adapted >> index & 1 == 1).then(|| (batch.f32(&[tokens, r]), batch.f32(&[r, k]))),
        };
        let members: Vec<_> = self.outputs.iter().enumerate().map(&mut member).collect();
        let masks = (self.p > 0.0 && self.adapted != 0).then(|| Masks {
            window_table: batch.window_table(),
            counter: Batch::counter(self.seed as i32),
            labelled: self.rows.then(|| batch.labelled()),
        });
        let gelu = self.gelu & 1 == 1;
        let u = gelu.then(|| batch.float(dtype, &[tokens, k]));
        let residuals: Vec<Operand> = (0..self.residuals).map(|_| batch.f32(&[tokens, k])).collect();
        let op = ops::ProjectionGrad {
            members: members.len(),
            adapted: self.adapted,
            gelu,
            residuals: residuals.len(),
            p: self.p,
            sites: (0..self.adapted.count_ones() as usize).map(|index| 65535 - 7 * index).collect(),
            dtype,
        };
        let operands = ProjectionGradOperands { members, masks, u, residuals }.join();
        Case::new(op, batch.extents(), operands)
            .tile(self.tile.0, self.tile.1)
            .product((of_dy, of_w) == (Bf16, Bf16))
    }
}

const TYPES: [(DType, DType); 4] = [(F32, F32), (F32, Bf16), (Bf16, F32), (Bf16, Bf16)];

/// Bounds of projections, then activations. A projection is one chain of the base and adapter products, bias and
/// residuals. An activation has at most 1.13 times the error of its projection, and what computing it adds.
fn forward_bounds(case: &Case, terms: usize, members: usize) -> Vec<Vec<f64>> {
    const ACTIVATION: f64 = 8.0 * U; // of x: half the roundings of `1 + tanh`, and those of the products
    let magnitudes = case.magnitudes();
    let expected = case.evaluate(|_, x| x);
    let gelu = gelu_members(case);
    let mut bounds: Vec<Vec<f64>> = magnitudes[..members]
        .iter()
        .map(|of_member| of_member.iter().map(|magnitude| terms as f64 * U * magnitude).collect())
        .collect();
    for member in gelu {
        let of_y = |(bound, y): (&f64, &f64)| 1.13 * bound + ACTIVATION * (y.abs() + bound);
        bounds.push(bounds[member].iter().zip(&expected[member]).map(of_y).collect());
    }
    bounds
}

fn gelu_members(case: &Case) -> Vec<usize> {
    let set = case.op.attributes().get_int("gelu").unwrap();
    gptjc_graphs::layout::members_of(set).collect()
}

/// Results in bf16 must be the f32 results of the same kernel, rounded: the sums do not know what they are stored as.
fn check_rounding(single: &Case, rounded: &Case, results: usize) {
    let partition = Partition { rows: 3, columns: 8 };
    let single_bytes = single.run(partition, &[], 0, 1).unwrap();
    let rounded_bytes = rounded.run(partition, &[], 0, 1).unwrap();
    for result in 0..results {
        let used: usize = single.result_types()[result].used(&single.extents).iter().product();
        let round = |bytes: &[u8]| half::bf16::from_f32(f32::from_le_bytes(bytes.try_into().unwrap()));
        let expected: Vec<u8> = single_bytes[result]
            .chunks_exact(4)
            .take(used)
            .flat_map(|bytes| round(bytes).to_le_bytes())
            .collect();
        assert_eq!(rounded_bytes[result][..2 * used], expected[..], "result {result} of {:?}", rounded.op);
    }
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn projections_are_those_of_the_op(group in group()) {
        let terms = group.inputs + 2 * group.rank + group.residuals + 2;
        for types in TYPES {
            let [single, rounded] = [F32, Bf16].map(|dtype| group.forward(types, dtype));
            for case in [&single, &rounded] {
                case.check(|case, _| forward_bounds(case, terms, group.outputs.len()));
            }
            check_rounding(&single, &rounded, group.outputs.len());
        }
    }

    #[test]
    fn gradients_are_those_of_the_op(group in group()) {
        // A chain over all outputs; of each adapter a chain, a product of the mask, and a sum; at the end the derivative,
        // with its own roundings, and residuals.
        let outputs: usize = group.outputs.iter().sum();
        let terms = outputs + group.outputs.len() * (group.rank + 2) + group.residuals + 24;
        for types in TYPES {
            let [single, rounded] = [F32, Bf16].map(|dtype| group.grad(types, dtype));
            single.check_sums(terms);
            rounded.check_sums(terms);
            if group.gelu & 1 == 0 {
                check_rounding(&single, &rounded, 1);
            }
        }
    }
}

#[test]
fn sums_go_on_from_block_to_block() {
    for inputs in [511, 512, 513, 1025] {
        let group = Group {
            seed: inputs as u64,
            inputs,
            outputs: vec![19, 8],
            rank: 3,
            biased: 2,
            adapted: 3,
            gelu: 0,
            p: 0.5,
            rows: false,
            residuals: 1,
            tile: (3, 8),
        };
        group.forward((Bf16, Bf16), F32).check_sums(inputs + 8);
        let wide = Group { inputs: 19, outputs: vec![inputs, 8], ..group };
        wide.grad((Bf16, Bf16), F32).check_sums(inputs + 8 + 20);
    }
}
