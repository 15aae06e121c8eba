//! Which instruction sets each op has kernels for.
//!
//! The runtime binds exactly these (`tests/tests/variants.rs` holds one against the other); a target runs the largest that
//! it includes. An op that gains a variant gets it here.

use gptjc_graphs::dtype::DType::{self, Bf16};
use gptjc_graphs::graph::{Graph, Node};
use gptjc_graphs::ops::Op;
use gptjc_graphs::plan::Isa;

/// Instruction sets of a matrix product whose factors are not both bf16, and of what goes row by row.
const VECTORS: &[Isa] = &[Isa::Portable, Isa::Avx2, Isa::Avx512];
/// Instruction sets of a matrix product of bf16 by bf16.
const PAIRS: &[Isa] = &Isa::ALL;
/// Plain Rust only.
const PORTABLE: &[Isa] = &[Isa::Portable];

/// The instruction set of the node's kernel on a target that has those up to `target`.
pub(super) fn choose(graph: &Graph, node: &Node, target: Isa) -> Isa {
    let usable = variants(graph, node).iter().copied().filter(|&isa| isa <= target);
    usable.max().unwrap_or(Isa::Portable)
}

/// The instruction sets that there are kernels of the node for.
fn variants(graph: &Graph, node: &Node) -> &'static [Isa] {
    let dtype = |operand: usize| node.operands.get(operand).map(|&value| graph.ty(value).dtype);
    let pairs = |left: Option<DType>, right: Option<DType>| {
        if left == Some(Bf16) && right == Some(Bf16) { PAIRS } else { VECTORS }
    };
    match &node.op {
        Op::Matmul(_) | Op::Projection(_) => pairs(dtype(0), dtype(1)),
        Op::ProjectionGrad(op) => pairs(dtype(0), dtype(op.members)),
        Op::VocabLoss(op) => {
            // The gradient of the logits is a factor as well.
            let rounded = op.gradient && op.dtype == Bf16;
            pairs(if rounded { Some(Bf16) } else { dtype(0) }, dtype(1))
        }
        Op::WindowMatmul(_)
        | Op::Embedding(_)
        | Op::EmbeddingGrad(_)
        | Op::LayerNorm(_)
        | Op::LayerNormGrad(_)
        | Op::LayerNormParamGrad(_)
        | Op::Add(_)
        | Op::BiasAdd(_)
        | Op::Scale(_)
        | Op::Cast(_)
        | Op::Fill(_)
        | Op::Rotary(_)
        | Op::GeluTanh(_)
        | Op::GeluTanhGrad(_)
        | Op::Dropout(_)
        | Op::GatherRows(_)
        | Op::ScatterRows(_)
        | Op::CrossEntropy(_)
        | Op::CrossEntropyGrad(_)
        | Op::WindowSum(_)
        | Op::TreeAccumulate(_)
        | Op::TreeFinish(_)
        | Op::SumSquares(_)
        | Op::ClipScale(_)
        | Op::AdapterDown(_)
        | Op::AdapterUpGrad(_)
        | Op::AdapterGrad(_)
        | Op::AdamW(_)
        | Op::Attention(_)
        | Op::AttentionGrad(_) => VECTORS,
        Op::RotaryTable(_)
        | Op::SegmentScores(_)
        | Op::MaskedSoftmax(_)
        | Op::SegmentMix(_)
        | Op::SegmentMixTransposed(_)
        | Op::MaskedSoftmaxGrad(_)
        | Op::CacheStore(_)
        | Op::CachedScores(_)
        | Op::CachedSoftmax(_)
        | Op::CachedMix(_) => PORTABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gptjc_graphs::text::parse;

    /// The instruction sets that a product of `x` and `w` gets on targets from the smallest to the largest.
    fn product(x: &str, w: &str) -> Vec<Isa> {
        let text = format!(
            "graph @g(\n  %x: batch \"x\" {x}[slots:8, 4],\n  %w: weight \"w\" {w}[6, 4],\n) {{\n  \
             %y = matmul %x, %w {{form = nt}} : f32[slots:8, 6]\n  return \"y\" %y\n}}\n"
        );
        let graph = parse(&text).unwrap();
        let (_, node) = graph.nodes().next().unwrap();
        Isa::ALL.into_iter().map(|target| choose(&graph, node, target)).collect()
    }

    #[test]
    fn the_largest_variant_up_to_the_target_is_chosen() {
        assert_eq!(product("bf16", "bf16"), Isa::ALL);
        let of_f32 = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512, Isa::Avx512];
        assert_eq!(product("f32", "bf16"), of_f32);
        assert_eq!(product("f32", "f32"), of_f32);
    }
}
