//! Rematerialisation: what the backward pass reads of the forward pass is computed again instead of kept.
//!
//! A node is *backward* if it runs behind the node that computes the loss. [`recompute`] makes backward nodes read
//! clones of given forward nodes; what is given is chosen by two passes:
//! - [`RecomputeBlocks`]: all of a block but what leaves it, from the block's input; for as many blocks as the planner
//!   says;
//! - [`RecomputeCheap`]: ops that only pass over memory, always.
//!
//! The clones are the same ops on the same operands, so the bits stay the same.
//!
//! Not done: recomputing the MLP's pre-activation alone, which would take it out of the grouped projection. Of a block of
//! width D with an MLP of 4 D, it frees 4 of 10 D stored bf16 elements a token (queries, keys, values, attention's
//! output, residual stream in f32, pre-activation) for 4 of 12 D² multiply-adds: 1.2 a share of work. The whole block
//! frees 8 of them for 7: 1.37. So fewer blocks recomputed as a whole free more for the same work, and the number of
//! blocks is fine enough a choice.

pub mod blocks;
pub mod cheap;
pub mod recompute;

pub use blocks::RecomputeBlocks;
pub(crate) use blocks::block_of;
pub use cheap::RecomputeCheap;

use gptjc_graphs::graph::Graph;
use gptjc_graphs::ops::Op;

/// Index of the step that computes the loss: what runs behind it is backward. None if there is no loss.
pub(crate) fn loss_step(graph: &Graph) -> Option<usize> {
    graph.nodes().position(|(_, node)| matches!(node.op, Op::CrossEntropy(_) | Op::VocabLoss(_)))
}
