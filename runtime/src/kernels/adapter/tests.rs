//! Thin products against the ops.

use super::super::testing::{Batch, Case, few};
use gptjc_graphs::dtype::DType::{self, Bf16, F32};
use gptjc_graphs::layout::{AdapterDownOperands, AdapterGradMember, AdapterGradOperands, Masks};
use gptjc_graphs::ops::adapter as ops;
use gptjc_graphs::shape::Dim;
use proptest::prelude::*;

/// Adapters of projections of one operand.
#[derive(Clone, Debug)]
struct Group {
    seed: u64,
    inputs: usize,
    outputs: Vec<usize>,
    rank: usize,
    p: f64,
    rows: bool,
    tile: (u32, u32),
}

prop_compose! {
    fn group()(
        (seed, inputs, rank) in (any::<u64>(), 1usize..40, 1usize..18),
        outputs in prop::collection::vec(1usize..20, 1..4),
        p in prop_oneof![Just(0.0), 0.1f64..0.9],
        rows: bool,
        tile in (1u32..20, 0u32..20),
    ) -> Group {
        Group { seed, inputs, outputs, rank, p, rows, tile }
    }
}

impl Group {
    fn members(&self) -> usize {
        self.outputs.len()
    }

    fn sites(&self) -> Vec<usize> {
        (0..self.members()).map(|member| 9 + 5 * member).collect()
    }

    fn batch(&self) -> (Batch, Dim) {
        let batch = Batch::new(self.seed, 9);
        let tokens = if self.rows { batch.rows() } else { batch.slots() };
        (batch, tokens)
    }

    fn masks<T>(
        &self,
        batch: &Batch,
        of: impl Fn((gptjc_graphs::shape::TensorType, gptjc_graphs::interp::Tensor<f64>)) -> T,
    ) -> Option<Masks<T>> {
        (self.p > 0.0).then(|| Masks {
            window_table: of(batch.window_table()),
            counter: of(Batch::counter(self.seed as i32)),
            labelled: self.rows.then(|| of(batch.labelled())),
        })
    }

    fn case(
        &self,
        op: impl Into<gptjc_graphs::ops::Op>,
        batch: &Batch,
        operands: Vec<(gptjc_graphs::shape::TensorType, gptjc_graphs::interp::Tensor<f64>)>,
    ) -> Case {
        Case::new(op, batch.extents(), operands).tile(self.tile.0, self.tile.1).vector()
    }

    fn down(&self, of_x: DType) -> Case {
        let (mut batch, tokens) = self.batch();
        let x = batch.float(of_x, &[tokens, self.inputs.into()]);
        let lower = (0..self.members()).map(|_| batch.f32(&[self.rank.into(), self.inputs.into()])).collect();
        let masks = self.masks(&batch, |operand| operand);
        let op = ops::AdapterDown { members: self.members(), p: self.p, sites: self.sites() };
        self.case(op, &batch, AdapterDownOperands { x, lower, masks }.join())
    }

    fn up_grad(&self, of_dy: DType) -> Case {
        let (mut batch, tokens) = self.batch();
        let mut of_member =
            |&n: &usize| [batch.float(of_dy, &[tokens, n.into()]), batch.f32(&[n.into(), self.rank.into()])];
        let operands = self.outputs.iter().flat_map(&mut of_member).collect();
        self.case(ops::AdapterUpGrad { members: self.members(), scale: 1.5 }, &batch, operands)
    }

    fn grad(&self, (of_x, of_dy): (DType, DType)) -> Case {
        let (mut batch, tokens) = self.batch();
        let x = batch.float(of_x, &[tokens, self.inputs.into()]);
        let mut of_member = |&n: &usize| AdapterGradMember {
            dy: batch.float(of_dy, &[tokens, n.into()]),
            low: batch.f32(&[tokens, self.rank.into()]),
            dlow: batch.f32(&[tokens, self.rank.into()]),
        };
        let members = self.outputs.iter().map(&mut of_member).collect();
        let table = if self.rows { batch.row_table() } else { batch.window_table() };
        let masks = self.masks(&batch, |operand| operand);
        let op = ops::AdapterGrad { members: self.members(), scale: 1.5, p: self.p, sites: self.sites() };
        self.case(op, &batch, AdapterGradOperands { x, members, table, masks }.join())
    }
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn lower_halves_are_those_of_the_op(group in group()) {
        for of_x in [F32, Bf16] {
            group.down(of_x).check_sums(group.inputs + 2); // the factor of the mask, rounded, and its product
        }
    }

    #[test]
    fn gradients_of_lower_halves_results_are_those_of_the_op(group in group()) {
        for of_dy in [F32, Bf16] {
            group.up_grad(of_dy).check_sums(group.outputs.iter().max().unwrap() + 1);
        }
    }

    #[test]
    fn gradients_of_adapters_are_those_of_the_op(group in group()) {
        for types in [(F32, F32), (Bf16, F32), (Bf16, Bf16), (F32, Bf16)] {
            group.grad(types).check_sums(9 + 2); // tokens of a window; the scale or the mask
        }
    }
}

#[test]
fn sums_go_on_from_block_to_block() {
    for inputs in [511, 512, 513, 1025] {
        let group =
            Group { seed: 7, inputs, outputs: vec![inputs], rank: 8, p: 0.25, rows: true, tile: (3, 100) };
        group.down(Bf16).check_sums(inputs + 2);
        group.up_grad(Bf16).check_sums(inputs + 1);
        group.grad((Bf16, F32)).check_sums(9 + 2);
    }
}
