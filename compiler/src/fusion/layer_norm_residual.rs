//! Puts the residual sum of the backward pass into the gradient of the layer norm.
//!
//! ```text
//! %g = layer_norm_grad %dh, %x, ...
//! %s = add %dx, %g                       =>  %s = layer_norm_grad %dh, %x, ..., %dx
//! ```
//!
//! Requires: dead code removed. Preserves: types, names, numbers but for the order of the two summands.

use super::matcher::Matcher;
use super::replace::{Candidate, FusedNode, Operand, replace};
use crate::CompileError;
use crate::pass_manager::Pass;
use gptjc_graphs::entities::NodeId;
use gptjc_graphs::graph::{Graph, Node};
use gptjc_graphs::ops::Op;

/// Operands of a gradient without a residual.
const OPERANDS: usize = 5;

/// See the [module](self).
pub struct FuseLayerNormResidual;

impl Pass for FuseLayerNormResidual {
    fn name(&self) -> &'static str {
        "fuse_layer_norm_residual"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Vec<String>) -> Result<(), CompileError> {
        let matcher = Matcher::new(graph);
        let candidates = graph.nodes().filter_map(|(id, node)| candidate(&matcher, id, node)).collect();
        let (new, count) = replace(self.name(), graph, candidates, remarks)?;
        if count > 0 {
            remarks.push(format!("{count} residual sums of gradients"));
        }
        *graph = new;
        Ok(())
    }
}

fn candidate(matcher: &Matcher<'_>, id: NodeId, gradient: &Node) -> Option<Candidate> {
    let Op::LayerNormGrad(_) = gradient.op else { return None };
    if gradient.operands.len() != OPERANDS {
        return None;
    }
    let dx = gradient.results[0];
    let (sum, sum_node) = matcher.only_reader(dx)?;
    let Op::Add(_) = sum_node.op else { return None };
    let residual = *sum_node.operands.iter().find(|&&operand| operand != dx)?;
    let operands = gradient.operands.iter().chain([&residual]).map(|&value| Operand::from(value)).collect();
    let node = FusedNode {
        op: gradient.op.clone(),
        operands,
        absorbed: vec![id, sum],
        results: vec![(0, sum_node.results[0])],
        module: gradient.module.clone(),
    };
    Some(Candidate { name: format!("residual sum of `{}`", gradient.module), nodes: vec![node] })
}
