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
//! nodes are to be recomputed, and otherwise the values themselves, which live until then.

use super::loss_step;
use gptjc_graphs::entities::{Entity, NodeId, ValueId};
use gptjc_graphs::graph::{Definition, Graph, GraphError};
use std::collections::BTreeSet;

/// A graph whose backward nodes recompute.
pub struct Recomputed {
    /// The graph.
    pub graph: Graph,
    /// Number of clones.
    pub clones: usize,
    /// Floating-point operations of the clones.
    pub flops: u64,
}

/// Makes the backward nodes of `graph` read clones of the forward nodes in `set`.
///
/// # Errors
/// [`GraphError`] if a node does not type-check, which is an error of the compiler.
pub fn recompute(graph: &Graph, set: &BTreeSet<NodeId>) -> Result<Recomputed, GraphError> {
    let mut rewriter = Rewriter::new(graph, set)?;
    let forward = loss_step(graph).map_or(graph.node_count(), |loss| loss + 1);
    for (step, (id, _)) in graph.nodes().enumerate() {
        rewriter.copy(id, step >= forward)?;
    }
    Ok(rewriter.finish())
}

/// The new graph in the making.
struct Rewriter<'g> {
    old: &'g Graph,
    set: &'g BTreeSet<NodeId>,
    new: Graph,
    /// New value of each old one, by index.
    values: Vec<Option<ValueId>>,
    /// The clone of each old value, by index.
    clones: Vec<Option<ValueId>>,
    count: usize,
    flops: u64,
}

impl<'g> Rewriter<'g> {
    fn new(old: &'g Graph, set: &'g BTreeSet<NodeId>) -> Result<Self, GraphError> {
        let mut new = Graph::new(&old.name);
        let mut values = vec![None; old.value_count()];
        for input in old.inputs() {
            let value = new.input(&input.name, input.role, old.ty(input.value).clone())?;
            values[input.value.index()] = Some(value);
        }
        let clones = vec![None; old.value_count()];
        Ok(Self { old, set, new, values, clones, count: 0, flops: 0 })
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
        let id = match self.old.value(value).definition {
            Definition::Result(id, _) if self.set.contains(&id) => id,
            Definition::Result(..) | Definition::Input(_) => return Ok(self.values[value.index()]),
        };
        if let Some(clone) = self.clones[value.index()] {
            return Ok(Some(clone));
        }
        let node = self.old.node(id);
        let mut operands = Vec::with_capacity(node.operands.len());
        for &operand in &node.operands {
            operands.extend(self.recomputed(operand)?);
        }
        self.new.set_module(&node.module);
        let clone = self.new.push(node.op.clone(), &operands)?;
        for (old, &value) in node.results.iter().zip(&self.new.node(clone).results) {
            self.clones[old.index()] = Some(value);
        }
        self.count += 1;
        self.flops += self.old.node_flops(node);
        Ok(self.clones[value.index()])
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
