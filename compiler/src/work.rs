//! The work of a plan at the extents of a batch: what shares of a machine's peak are of.
//!
//! A step's FLOPs stand in the plan at the bounds. A batch with fewer slots, labelled rows or windows needs fewer, and
//! attention over short segments fewer still, which types do not show.

use gptjc_graphs::ops::Op;
use gptjc_graphs::plan::{EntryPoint, KernelId, Plan, Step};
use gptjc_graphs::shape::{Dim, Extents, TensorType};

/// FLOPs of each step of `entry` for a batch of `extents`, whose segments have these lengths. Attention's are scaled by
/// the sum of squares of the lengths over that of as many slots in windows of the greatest length.
pub fn flops_at(plan: &Plan, entry: &EntryPoint, extents: &Extents, segments: &[usize]) -> Vec<u64> {
    let squares: f64 = segments.iter().map(|&length| (length as f64).powi(2)).sum();
    let full = extents.slots as f64 * plan.options.max_seq_length as f64;
    let share = if full > 0.0 { (squares / full).min(1.0) } else { 1.0 };
    entry
        .steps
        .iter()
        .map(|step| {
            let flops = step_flops(plan, step, extents).unwrap_or(step.flops);
            if is_attention(step) { (flops as f64 * share) as u64 } else { flops }
        })
        .collect()
}

/// True for steps whose work depends on pairs of slots of a segment.
fn is_attention(step: &Step) -> bool {
    let op = KernelId::parse(&step.kernel).map(|id| id.op).unwrap_or_default();
    let of_pairs = ["attention", "attention_grad", "segment_scores", "segment_mix", "segment_mix_transposed"];
    of_pairs.contains(&op.as_str()) || op.starts_with("masked_softmax")
}

/// FLOPs of the step's op on operands with the bounds of `extents`; none if the plan does not hold.
fn step_flops(plan: &Plan, step: &Step, extents: &Extents) -> Option<u64> {
    let id = KernelId::parse(&step.kernel)?;
    let op = Op::from_parts(&id.op, &step.attributes()).ok()??;
    let used = |ids: &[u32]| -> Option<Vec<TensorType>> {
        let of = |&id: &u32| {
            let ty = plan.buffers.get(id as usize)?.ty().ok()?;
            let dims = ty.dims.iter().map(|&dim| Dim { bound: extents.of(dim), ..dim }).collect::<Vec<_>>();
            Some(TensorType::new(ty.dtype, dims))
        };
        ids.iter().map(of).collect()
    };
    let (operands, results) = (used(&step.operands)?, used(&step.results)?);
    Some(op.flops(&operands.iter().collect::<Vec<_>>(), &results.iter().collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::single_op::{Product, ProductForm, product_plan};
    use gptjc_graphs::plan::{Precision, Target};

    #[test]
    fn fewer_slots_are_less_work() {
        let product = Product { m: 8, n: 6, k: 4, form: ProductForm::Forward, precision: Precision::F32 };
        let plan = product_plan(product, &Target::default().with_guesses()).unwrap();
        let flops = |slots| flops_at(&plan, &plan.entries[0], &Extents { slots, ..Extents::default() }, &[]);
        assert_eq!(flops(8), [plan.entries[0].steps[0].flops]);
        assert_eq!(flops(4)[0] * 2, flops(8)[0]);
        assert_eq!(flops(0), [0]);
    }
}
