//! Recomputes what only passes over memory.
//!
//! Reason: the result of a layer norm, of gelu, of a dropout, of a rounding or of a look-up in the embedding table costs
//! a pass over what it is made from, which the backward pass needs anyway; kept from the forward to the backward pass it
//! costs memory in every block.
//!
//! Pattern: a forward node of such an op that a backward node reads, all of whose operands are there in the backward
//! pass: inputs, values that a backward node reads, or results that can be recomputed in the same way. The activation
//! that a projection gives is gelu of its result, if a backward node reads that and it is not rounded.
//!
//! Requires: a verified graph, fused, after [`super::RecomputeBlocks`]. Preserves: numbers, bit by bit. Cost: linear.

use super::loss_step;
use super::recompute::{Choice, recompute};
use crate::CompileError;
use crate::pass_manager::Pass;
use gptjc_graphs::dtype::DType;
use gptjc_graphs::entities::Entity;
use gptjc_graphs::graph::{Definition, Graph};
use gptjc_graphs::layout::members_of;
use gptjc_graphs::ops::Op;

/// See the [module](self).
pub struct RecomputeCheap;

impl Pass for RecomputeCheap {
    fn name(&self) -> &'static str {
        "recompute_cheap"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Vec<String>) -> Result<(), CompileError> {
        let recomputed = recompute(graph, &cheap_choice(graph))
            .map_err(|error| CompileError::Pass { pass: self.name(), reason: error.to_string() })?;
        if recomputed.clones > 0 {
            remarks.push(format!(
                "{} cheap nodes are computed again: {} flops",
                recomputed.clones, recomputed.flops
            ));
        }
        *graph = recomputed.graph;
        Ok(())
    }
}

/// Forward nodes that are cheap and whose operands are there in the backward pass.
fn cheap_choice(graph: &Graph) -> Choice {
    let mut choice = Choice::default();
    let Some(loss) = loss_step(graph) else { return choice };
    let mut read_backward = vec![false; graph.value_count()];
    for (_, node) in graph.nodes().skip(loss + 1) {
        for operand in &node.operands {
            read_backward[operand.index()] = true;
        }
    }
    for (id, node) in graph.nodes().take(loss) {
        let all_there = node.operands.iter().all(|operand| match graph.value(*operand).definition {
            Definition::Input(_) => true,
            Definition::Result(definer, _) => {
                read_backward[operand.index()] || choice.nodes.contains(&definer)
            }
        });
        if is_cheap(&node.op) && all_there {
            choice.nodes.insert(id);
        }
        // Of a rounded projection gelu would be another number: the activation is taken before rounding.
        if let Op::Projection(op) = &node.op
            && (op.dtype, op.activation) == (DType::F32, DType::F32)
        {
            let pairs =
                members_of(op.gelu).map(|member| node.results[member]).zip(&node.results[op.members..]);
            let kept = pairs.filter(|(y, _)| read_backward[y.index()]);
            choice.activations.extend(kept.map(|(y, &activation)| (activation, y)));
        }
    }
    choice
}

/// True for ops that pass over their operands once, with few operations an element.
fn is_cheap(op: &Op) -> bool {
    match op {
        Op::Embedding(_) | Op::LayerNorm(_) | Op::Cast(_) | Op::GeluTanh(_) | Op::Dropout(_) => true,
        // Sums and scaled values: their operands are as large and nobody else needs them, or they are as large as one
        // that is kept anyway.
        Op::Add(_) | Op::BiasAdd(_) | Op::Scale(_) | Op::Fill(_) => false,
        // Products and what is made for a product.
        Op::Matmul(_)
        | Op::RotaryTable(_)
        | Op::Rotary(_)
        | Op::SegmentScores(_)
        | Op::MaskedSoftmax(_)
        | Op::SegmentMix(_)
        | Op::Projection(_) // but for its activations, which are gelu of its results
        | Op::AdapterDown(_)
        | Op::Attention(_)
        | Op::VocabLoss(_)
        | Op::GatherRows(_)
        | Op::CrossEntropy(_)
        | Op::WindowSum(_) => false,
        // Inference has no backward pass.
        Op::CacheStore(_) | Op::CachedScores(_) | Op::CachedSoftmax(_) | Op::CachedMix(_) => false,
        // Gradients and updates are not in the forward pass.
        Op::EmbeddingGrad(_)
        | Op::LayerNormGrad(_)
        | Op::LayerNormParamGrad(_)
        | Op::WindowMatmul(_)
        | Op::SegmentMixTransposed(_)
        | Op::MaskedSoftmaxGrad(_)
        | Op::GeluTanhGrad(_)
        | Op::ProjectionGrad(_)
        | Op::AdapterUpGrad(_)
        | Op::AdapterGrad(_)
        | Op::AttentionGrad(_)
        | Op::ScatterRows(_)
        | Op::CrossEntropyGrad(_)
        | Op::TreeAccumulate(_)
        | Op::TreeFinish(_)
        | Op::SumSquares(_)
        | Op::ClipScale(_)
        | Op::AdamW(_) => false,
    }
}
