//! Updates of state as early as they can run.
//!
//! Reason: a graph is built with the updates of all parameters' partial sums at its end, so that the gradients of every
//! window and every parameter would live until there. Pushed into the tree right behind the node that makes it, a
//! gradient dies at once.
//!
//! ```text
//! %da = window_matmul ...                    %da = window_matmul ...
//! ... the blocks below                  =>   %new = tree_accumulate %stack, %da, %counter
//! %new = tree_accumulate %stack, %da, ..     ... the blocks below
//! return "gradient.a" %new                   return "gradient.a" %new
//! ```
//!
//! Pattern: a node all of whose results are new contents of inputs and are read by no node, and whose other operands
//! are ready earlier. Refused, because the old content would be gone: an input that another node reads at the new place
//! or behind it.
//!
//! Requires: a verified graph. Preserves: nodes, operands, types, numbers. Cost: linear.

use super::reorder;
use crate::CompileError;
use crate::pass_manager::Pass;
use gptjc_graphs::entities::{Entity, NodeId, ValueId};
use gptjc_graphs::graph::{Definition, Graph, Node};
use std::collections::BTreeMap;

/// See the [module](self).
pub struct EarlyUpdates;

impl Pass for EarlyUpdates {
    fn name(&self) -> &'static str {
        "early_updates"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Vec<String>) -> Result<(), CompileError> {
        let steps: BTreeMap<NodeId, usize> =
            graph.nodes().enumerate().map(|(step, (id, _))| (id, step)).collect();
        let reads = reads(graph);
        let mut behind: BTreeMap<Option<NodeId>, Vec<NodeId>> = BTreeMap::new();
        let mut moved = 0;
        let mut refused = 0;
        let mut order = Vec::with_capacity(graph.node_count());
        for (id, node) in graph.nodes() {
            let place = replaced_inputs(graph, node, &reads).map(|old| {
                let last = node
                    .operands
                    .iter()
                    .filter_map(|&value| definer(graph, value))
                    .max_by_key(|id| steps[id]);
                (last, old)
            });
            match place {
                Some((last, old)) if last.map_or(0, |last| steps[&last] + 1) < steps[&id] => {
                    let first_step = last.map_or(0, |last| steps[&last] + 1);
                    if old.iter().any(|&old| is_read_from(&reads, old, first_step, steps[&id])) {
                        refused += 1;
                        order.push(id);
                    } else {
                        behind.entry(last).or_default().push(id);
                        moved += 1;
                    }
                }
                Some(_) | None => order.push(id),
            }
        }
        if refused > 0 {
            remarks.push(format!("{refused} updates stay: what they replace is read in between"));
        }
        if moved > 0 {
            let order = insert(&order, &behind);
            *graph = reorder(graph, &order)
                .map_err(|error| CompileError::Pass { pass: self.name(), reason: error.to_string() })?;
            remarks.push(format!("{moved} updates of state run as soon as their operands are ready"));
        }
        Ok(())
    }
}

/// `order` with the nodes `behind` others put there; those behind none come first.
fn insert(order: &[NodeId], behind: &BTreeMap<Option<NodeId>, Vec<NodeId>>) -> Vec<NodeId> {
    let mut all = behind.get(&None).cloned().unwrap_or_default();
    for &id in order {
        all.push(id);
        all.extend(behind.get(&Some(id)).into_iter().flatten());
    }
    all
}

/// The node that defines `value`, if one does.
fn definer(graph: &Graph, value: ValueId) -> Option<NodeId> {
    match graph.value(value).definition {
        Definition::Result(node, _) => Some(node),
        Definition::Input(_) => None,
    }
}

/// Steps at which each value is read, ascending, by the value's index.
fn reads(graph: &Graph) -> Vec<Vec<usize>> {
    let mut reads = vec![Vec::new(); graph.value_count()];
    for (step, (_, node)) in graph.nodes().enumerate() {
        for operand in &node.operands {
            reads[operand.index()].push(step);
        }
    }
    reads
}

/// True if a node from `first` on, other than the one at `own`, reads `value`.
fn is_read_from(reads: &[Vec<usize>], value: ValueId, first: usize, own: usize) -> bool {
    reads[value.index()].iter().any(|&step| step >= first && step != own)
}

/// The inputs whose new contents are all results of `node`; none if a result is something else or is read.
fn replaced_inputs(graph: &Graph, node: &Node, reads: &[Vec<usize>]) -> Option<Vec<ValueId>> {
    node.results
        .iter()
        .map(|&result| {
            if !reads[result.index()].is_empty() {
                return None;
            }
            let output = graph.outputs().iter().find(|output| output.value == result)?;
            Some(graph.find_input(&output.name)?.value)
        })
        .collect()
}
