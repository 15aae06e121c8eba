//! The order of the passes: this is the only place that has one.

use crate::fusion::{
    FuseAttention, FuseLayerNormResidual, FuseProjection, FuseProjectionGrad, FuseVocabLoss,
};
use crate::pass_manager::Pass;
use crate::precision::AssignPrecision;
use crate::simplify::DeadCode;
use gptjc_graphs::plan::Precision;

/// Passes from a primitive graph to what is lowered, in the only order in which they are correct.
pub fn passes(precision: Precision) -> Vec<Box<dyn Pass>> {
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
        passes.push(Box::new(AssignPrecision)); // last: the only pass that changes numbers
    }
    passes
}

/// The pass called `name`, for filetests.
pub fn pass_by_name(name: &str) -> Option<Box<dyn Pass>> {
    let all: [Box<dyn Pass>; 7] = [
        Box::new(DeadCode),
        Box::new(FuseAttention),
        Box::new(FuseVocabLoss),
        Box::new(FuseProjection),
        Box::new(FuseProjectionGrad),
        Box::new(FuseLayerNormResidual),
        Box::new(AssignPrecision),
    ];
    all.into_iter().find(|pass| pass.name() == name)
}
