//! The rewrite: backward nodes read clones of forward nodes.
//!
//! ```text
//! %y = f %x                                  %y = f %x
//! %l = g %y                                  %l = g %y
//! %loss = cross_entropy %l, ..        =>     %loss = cross_entropy %l, ..
//! %dl = cross_entropy_grad ..                %dl = cross_entropy_grad ..
//! %dy = g_grad %dl, %y                       %y2 = f %x
//!                                            %dy = g_grad %dl, %y2
//! ```
//!
//! A clone is made once, just before the first backward node that needs it; its operands are clones in turn if their
//! nodes are to be recomputed, and otherwise the values themselves, which live until then. The clone of a grouped
//! projection has the members and activations only that are needed.

use super::loss_step;
use gptjc_graphs::entities::{Entity, NodeId, ValueId};
use gptjc_graphs::graph::{Definition, Graph, GraphError, Node};
use gptjc_graphs::layout::ProjectionOperands;
use gptjc_graphs::ops::Op;
use gptjc_graphs::ops::gelu::GeluTanh;
use gptjc_graphs::ops::projection::Projection;
use std::collections::{BTreeMap, BTreeSet};

/// What backward nodes compute again.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Forward nodes.
    pub nodes: BTreeSet<NodeId>,
    /// Activations that a projection gave beside the pre-activations that they are gelu of: these are kept.
    pub activations: BTreeMap<ValueId, ValueId>,
}

/// A graph whose backward nodes recompute.
pub struct Recomputed {
    /// The graph.
    pub graph: Graph,
    /// Number of clones.
    pub clones: usize,
    /// Floating-point operations of the clones.
    pub flops: u64,
}

/// Makes the backward nodes of `graph` compute again what `choice` says.
///
/// # Errors
/// [`GraphError`] if a node does not type-check, which is an error of the compiler.
pub fn recompute(graph: &Graph, choice: &Choice) -> Result<Recomputed, GraphError> {
    let mut rewriter = Rewriter::new(graph, choice)?;
    let forward = loss_step(graph).map_or(graph.node_count(), |loss| loss + 1);
    for (step, (id, _)) in graph.nodes().enumerate() {
        rewriter.copy(id, step >= forward)?;
    }
    Ok(rewriter.finish())
}

/// The new graph in the making.
struct Rewriter<'g> {
    old: &'g Graph,
    choice: &'g Choice,
    /// Values that backward nodes or clones read, by index.
    needed: Vec<bool>,
    new: Graph,
    /// New value of each old one, by index.
    values: Vec<Option<ValueId>>,
    /// The clone of each old value, by index.
    clones: Vec<Option<ValueId>>,
    count: usize,
    flops: u64,
}

impl<'g> Rewriter<'g> {
    fn new(old: &'g Graph, choice: &'g Choice) -> Result<Self, GraphError> {
        let mut new = Graph::new(&old.name);
        let mut values = vec![None; old.value_count()];
        for input in old.inputs() {
            let value = new.input(&input.name, input.role, old.ty(input.value).clone())?;
            values[input.value.index()] = Some(value);
        }
        let clones = vec![None; old.value_count()];
        let needed = needed(old, choice);
        Ok(Self { old, choice, needed, new, values, clones, count: 0, flops: 0 })
    }

    fn copy(&mut self, id: NodeId, is_backward: bool) -> Result<(), GraphError> {
        let node = self.old.node(id);
        let mut operands = Vec::with_capacity(node.operands.len());
        for &operand in &node.operands {
            operands.extend(if is_backward {
                self.recomputed(operand)?
            } else {
                self.values[operand.index()]
            });
        }
        self.new.set_module(&node.module);
        let copy = self.new.push(node.op.clone(), &operands)?;
        for (old, &value) in node.results.iter().zip(&self.new.node(copy).results) {
            self.values[old.index()] = Some(value);
        }
        Ok(())
    }

    /// The value that a backward node reads for `value`.
    fn recomputed(&mut self, value: ValueId) -> Result<Option<ValueId>, GraphError> {
        if let Some(clone) = self.clones[value.index()] {
            return Ok(Some(clone));
        }
        let Definition::Result(id, _) = self.old.value(value).definition else {
            return Ok(self.values[value.index()]);
        };
        let node = self.old.node(id);
        if self.choice.nodes.contains(&id) {
            let copied = match &node.op {
                Op::Projection(op) => narrowed(op, node, &self.needed),
                _ => None,
            };
            let (op, operands, results) = copied.unwrap_or_else(|| whole(node));
            self.clone_node(&node.module, op, &operands, &results)?;
        } else if let Some(&input) = self.choice.activations.get(&value) {
            self.clone_node(&node.module, GeluTanh.into(), &[input], &[value])?;
        } else {
            return Ok(self.values[value.index()]);
        }
        Ok(self.clones[value.index()])
    }

    /// Appends `op` on clones of the old `operands`; its results are the clones of the old `results`.
    fn clone_node(
        &mut self,
        module: &str,
        op: Op,
        operands: &[ValueId],
        results: &[ValueId],
    ) -> Result<(), GraphError> {
        let mut cloned = Vec::with_capacity(operands.len());
        for &operand in operands {
            cloned.extend(self.recomputed(operand)?);
        }
        self.new.set_module(module);
        let clone = self.new.push(op, &cloned)?;
        let clone = self.new.node(clone);
        for (old, &value) in results.iter().zip(&clone.results) {
            self.clones[old.index()] = Some(value);
        }
        self.count += 1;
        self.flops += self.new.node_flops(clone);
        Ok(())
    }

    fn finish(mut self) -> Recomputed {
        for output in self.old.outputs() {
            if let Some(value) = self.values[output.value.index()] {
                self.new.output(&output.name, value);
            }
        }
        Recomputed { graph: self.new, clones: self.count, flops: self.flops }
    }
}

/// A node as it is.
fn whole(node: &Node) -> (Op, Vec<ValueId>, Vec<ValueId>) {
    (node.op.clone(), node.operands.clone(), node.results.clone())
}

/// A projection with the members and activations that are needed; none if all are, or none.
fn narrowed(op: &Projection, node: &Node, needed: &[bool]) -> Option<(Op, Vec<ValueId>, Vec<ValueId>)> {
    let ProjectionOperands { x, members, residuals } = op.operands(&node.operands)?;
    let (outputs, activations) = node.results.split_at(op.members);
    let mut narrow = Projection { members: 0, biased: 0, adapted: 0, gelu: 0, ..op.clone() };
    let (mut kept, mut results) = (Vec::new(), Vec::new());
    let mut activated: Vec<ValueId> = Vec::new();
    let mut activations = activations.iter();
    for (index, member) in members.into_iter().enumerate() {
        let activation = if op.gelu >> index & 1 == 1 { activations.next() } else { None };
        let activation = activation.filter(|value| needed[value.index()]);
        if !needed[outputs[index].index()] && activation.is_none() {
            continue;
        }
        let bit = 1 << narrow.members;
        narrow.members += 1;
        narrow.biased |= if member.bias.is_some() { bit } else { 0 };
        narrow.adapted |= if member.adapter.is_some() { bit } else { 0 };
        narrow.gelu |= if activation.is_some() { bit } else { 0 };
        results.push(outputs[index]);
        activated.extend(activation);
        kept.push(member);
    }
    if kept.is_empty() {
        return None;
    }
    results.extend(activated);
    Some((narrow.into(), ProjectionOperands { x, members: kept, residuals }.join(), results))
}

/// The values that backward nodes, and clones of the nodes chosen, read.
fn needed(graph: &Graph, choice: &Choice) -> Vec<bool> {
    let mut needed = vec![false; graph.value_count()];
    let forward = loss_step(graph).map_or(graph.node_count(), |loss| loss + 1);
    let nodes: Vec<(NodeId, &Node)> = graph.nodes().collect();
    for &(id, node) in nodes.iter().skip(forward) {
        debug_assert!(!choice.nodes.contains(&id));
        for operand in &node.operands {
            needed[operand.index()] = true;
        }
    }
    for &(id, node) in nodes.iter().take(forward).rev() {
        if choice.nodes.contains(&id) && node.results.iter().any(|result| needed[result.index()]) {
            for operand in &node.operands {
                needed[operand.index()] = true;
            }
        }
    }
    needed
}
