//! The order of the passes: this is the only place that has one.

use crate::fusion::{
    FuseAttention, FuseLayerNormResidual, FuseProjection, FuseProjectionGrad, FuseVocabLoss,
};
use crate::pass_manager::Pass;
use crate::precision::{AssignPrecision, Products};
use crate::remat::{RecomputeBlocks, RecomputeCheap};
use crate::schedule::EarlyUpdates;
use crate::simplify::DeadCode;
use gptjc_graphs::plan::{Isa, Precision};

/// Passes from a primitive graph to what is lowered for kernels of `isa`, in the only order in which they are correct.
pub fn passes(precision: Precision, isa: Isa) -> Vec<Box<dyn Pass>> {
    let mut passes: Vec<Box<dyn Pass>> = vec![
        // First: autodiff makes the gradients of everything, most of which nobody asks for.
        Box::new(DeadCode),
        Box::new(FuseAttention),
        Box::new(FuseVocabLoss), // before the projections, of which lm_head would be one
        Box::new(FuseProjection),
        Box::new(FuseProjectionGrad), // after the projections, whose adapters it looks for
        Box::new(FuseLayerNormResidual),
        Box::new(DeadCode), // masked inputs of adapters, which the fused ops make by themselves
    ];
    if precision == Precision::Bf16 {
        passes.push(Box::new(AssignPrecision { products: Products::of(isa) })); // last: the only pass that changes numbers
    }
    passes
}

/// Passes behind [`passes`] over a training graph, with the activations of `blocks` blocks recomputed.
pub fn memory_passes(blocks: usize) -> Vec<Box<dyn Pass>> {
    let mut passes: Vec<Box<dyn Pass>> = Vec::new();
    if blocks > 0 {
        passes.push(Box::new(RecomputeBlocks { blocks }));
    }
    passes.push(Box::new(RecomputeCheap)); // of what is still read of the forward pass
    passes.push(Box::new(DeadCode)); // what only gradients read was copied there
    passes.push(Box::new(EarlyUpdates)); // last: clones stand where they are first needed
    passes
}

/// The pass called `name`, for filetests.
pub fn pass_by_name(name: &str) -> Option<Box<dyn Pass>> {
    let all: [Box<dyn Pass>; 11] = [
        Box::new(DeadCode),
        Box::new(FuseAttention),
        Box::new(FuseVocabLoss),
        Box::new(FuseProjection),
        Box::new(FuseProjectionGrad),
        Box::new(FuseLayerNormResidual),
        Box::new(AssignPrecision { products: Products::Bf16 }),
        Box::new(AssignPrecision { products: Products::F32 }),
        Box::new(RecomputeBlocks { blocks: usize::MAX }),
        Box::new(RecomputeCheap),
        Box::new(EarlyUpdates),
    ];
    all.into_iter().find(|pass| pass.name() == name)
}
