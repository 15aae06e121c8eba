//! Dead-code and dead-gradient elimination.
//!
//! Reason: autodiff appends the gradient of every value, frozen weights included. A gradient that reaches no output is
//! dead code like any other, because nodes have no side effects: so nothing is computed below the lowest trainable
//! parameter, and no gradient of a frozen weight.
//!
//! Requires: a verified graph. Preserves: inputs, outputs, types, order, numbers.
//! Gives: every node reaches an output. Cost: linear.
//!
//! Does not: remove inputs that nobody reads; lowering leaves those out.

use crate::CompileError;
use crate::pass_manager::Pass;
use gptjc_graphs::edit::retain_nodes;
use gptjc_graphs::entities::{NodeId, ValueId};
use gptjc_graphs::graph::{Definition, Graph};
use std::collections::BTreeSet;

/// See the [module](self).
pub struct DeadCode;

impl Pass for DeadCode {
    fn name(&self) -> &'static str {
        "dead_code"
    }

    fn run(&self, graph: &mut Graph, _remarks: &mut Vec<String>) -> Result<(), CompileError> {
        let live = live_nodes(graph);
        if live.len() < graph.node_count() {
            *graph = retain_nodes(graph, |node| live.contains(&node))
                .map_err(|error| CompileError::Pass { pass: self.name(), reason: error.to_string() })?
                .graph;
        }
        Ok(())
    }
}

/// The nodes from which an output can be reached.
fn live_nodes(graph: &Graph) -> BTreeSet<NodeId> {
    let mut live = BTreeSet::new();
    let mut pending: Vec<ValueId> = graph.outputs().iter().map(|output| output.value).collect();
    while let Some(value) = pending.pop() {
        if let Definition::Result(node, _) = graph.value(value).definition
            && live.insert(node)
        {
            pending.extend(&graph.node(node).operands);
        }
    }
    live
}
