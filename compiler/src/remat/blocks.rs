//! Recomputes whole blocks from their inputs.
//!
//! Reason: the activations of all blocks live from the forward to the backward pass; a block's input is a fifth of them,
//! and the rest can be had again for the work of the forward pass. The lowest blocks are taken first: their backward pass
//! comes last, when the activations of the others are gone, so that what is recomputed adds nothing to the peak.
//!
//! Pattern: forward nodes whose module is in one of the first blocks, but for those with a result that a forward node
//! outside of the block reads or that is an output.
//!
//! Requires: a verified graph, fused, before [`super::RecomputeCheap`]. Preserves: numbers, bit by bit. Cost: linear.

use super::loss_step;
use super::recompute::{Choice, recompute};
use crate::CompileError;
use crate::pass_manager::Pass;
use gptjc_graphs::entities::{Entity, NodeId, ValueId};
use gptjc_graphs::graph::Graph;
use std::collections::BTreeSet;

/// See the [module](self).
pub struct RecomputeBlocks {
    /// Number of blocks, from the lowest, that are recomputed.
    pub blocks: usize,
}

impl Pass for RecomputeBlocks {
    fn name(&self) -> &'static str {
        "recompute_blocks"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Vec<String>) -> Result<(), CompileError> {
        let choice = Choice { nodes: inside_blocks(graph, self.blocks), ..Choice::default() };
        let recomputed = recompute(graph, &choice)
            .map_err(|error| CompileError::Pass { pass: self.name(), reason: error.to_string() })?;
        if recomputed.clones > 0 {
            let modules = choice.nodes.iter().filter_map(|&id| block_of(&graph.node(id).module));
            remarks.push(format!(
                "the activations of {} blocks are computed again: {} nodes, {} flops",
                modules.collect::<BTreeSet<_>>().len(),
                recomputed.clones,
                recomputed.flops
            ));
        }
        *graph = recomputed.graph;
        Ok(())
    }
}

/// The block that a module of the model is in: 3 of `transformer.h.3.attn.q_proj`.
pub(crate) fn block_of(module: &str) -> Option<usize> {
    module.strip_prefix("transformer.h.")?.split('.').next()?.parse().ok()
}

/// Forward nodes of the first `blocks` blocks whose results stay inside.
fn inside_blocks(graph: &Graph, blocks: usize) -> BTreeSet<NodeId> {
    let Some(loss) = loss_step(graph) else { return BTreeSet::new() };
    let mut leaves = vec![false; graph.value_count()];
    for output in graph.outputs() {
        leaves[output.value.index()] = true;
    }
    let mut home: Vec<Option<usize>> = vec![None; graph.value_count()];
    for (_, node) in graph.nodes().take(loss + 1) {
        let block = block_of(&node.module);
        for &operand in &node.operands {
            leaves[operand.index()] |= home[operand.index()] != block;
        }
        for &result in &node.results {
            home[result.index()] = block;
        }
    }
    let stays = |results: &[ValueId]| !results.iter().any(|result| leaves[result.index()]);
    let inside = graph.nodes().take(loss).filter(|(_, node)| {
        block_of(&node.module).is_some_and(|block| block < blocks) && stays(&node.results)
    });
    inside.map(|(id, _)| id).collect()
}
