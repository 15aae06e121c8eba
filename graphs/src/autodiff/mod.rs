//! Reverse-mode automatic differentiation on the graph.
//!
//! [`differentiate`] walks the nodes backwards and appends, for each, what its gradient rule contributes to the
//! cotangents of its operands; several contributions to one value are summed in the order in which the walk meets them.
//! Gradients are made for every value that they can be made for, frozen weights included: what nobody asks for is dead
//! code, and the compiler's `dead_code` pass removes it and says what that saved.
//!
//! A value with a dimension of slots or labelled rows has a cotangent of its own type. A value without one (a
//! parameter) has a cotangent *per window*: its dimensions behind a leading `windows` dimension, because sums over
//! tokens are taken inside a window first and over windows by a fixed tree later
//! ([`crate::ops::window::TreeAccumulate`]).

use crate::entities::{NodeId, ValueId};
use crate::graph::{Graph, GraphError};
use crate::ops::Op;
use crate::shape::Extent;
use std::collections::BTreeMap;

#[cfg(test)]
pub(crate) mod check;

/// A gradient that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum AutodiffError {
    /// The op has no gradient rule.
    #[error("op `{op}` has no gradient rule: {reason}")]
    NoRule {
        /// Name of the op.
        op: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// A sum over tokens for which no table of windows was given.
    #[error("op `{op}` sums over {extent}, for which no table of windows was given", extent = .extent.name())]
    NoTable {
        /// Name of the op.
        op: &'static str,
        /// The extent that is summed over.
        extent: Extent,
    },
    /// A gradient node does not type-check.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// Which table says, for each window, the range of an extent that is its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct WindowTables {
    /// Table of slots: i32\[windows, 2\].
    pub slots: Option<ValueId>,
    /// Table of labelled rows: i32\[windows, 2\].
    pub rows: Option<ValueId>,
}

/// What a gradient rule sees: one node, the cotangents of its results, and a place to put contributions.
pub struct VjpContext<'g> {
    graph: &'g mut Graph,
    op: &'static str,
    operands: Vec<ValueId>,
    results: Vec<ValueId>,
    cotangents: Vec<Option<ValueId>>,
    tables: WindowTables,
    contributions: Vec<(usize, ValueId)>,
}

impl VjpContext<'_> {
    /// Operand `index` of the node.
    pub fn operand(&self, index: usize) -> ValueId {
        self.operands[index]
    }

    /// The operands of the node.
    pub fn operands(&self) -> &[ValueId] {
        &self.operands
    }

    /// Result `index` of the node.
    pub fn result(&self, index: usize) -> ValueId {
        self.results[index]
    }

    /// The cotangent of result `index`, if anything that is differentiated depends on it.
    pub fn cotangent(&self, index: usize) -> Option<ValueId> {
        self.cotangents[index]
    }

    /// The graph, to look at types.
    pub fn graph(&self) -> &Graph {
        self.graph
    }

    /// The table of windows for the leading dimension of `value`.
    ///
    /// # Errors
    /// [`AutodiffError::NoTable`] if that is neither slots nor rows, or if its table was not given.
    pub fn table(&self, value: ValueId) -> Result<ValueId, AutodiffError> {
        let extent = self.graph.ty(value).dims.first().map_or(Extent::Fixed, |dim| dim.extent);
        let table = match extent {
            Extent::Slots => self.tables.slots,
            Extent::Rows => self.tables.rows,
            Extent::Fixed | Extent::Windows | Extent::Segments => None,
        };
        table.ok_or(AutodiffError::NoTable { op: self.op, extent })
    }

    /// Appends a gradient node with one result.
    ///
    /// # Errors
    /// [`AutodiffError::Graph`] if it does not type-check.
    pub fn push(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<ValueId, AutodiffError> {
        Ok(self.graph.push1(op, operands)?)
    }

    /// Appends a gradient node with several results.
    ///
    /// # Errors
    /// [`AutodiffError::Graph`] if it does not type-check.
    pub fn push_all(
        &mut self,
        op: impl Into<Op>,
        operands: &[ValueId],
    ) -> Result<Vec<ValueId>, AutodiffError> {
        let node = self.graph.push(op, operands)?;
        Ok(self.graph.node(node).results.clone())
    }

    /// Adds `cotangent` to what operand `index` gets.
    pub fn contribute(&mut self, index: usize, cotangent: ValueId) {
        self.contributions.push((index, cotangent));
    }

    /// The error of an op that is not differentiated.
    ///
    /// # Errors
    /// Always [`AutodiffError::NoRule`].
    pub fn no_rule(&self, reason: &'static str) -> Result<(), AutodiffError> {
        Err(AutodiffError::NoRule { op: self.op, reason })
    }
}

/// Reason of the ops that only gradients use.
pub const ONLY_IN_GRADIENTS: &str = "it is part of a gradient, and a graph is differentiated once";

/// Reason of the fused ops.
pub const ONLY_AFTER_FUSION: &str = "it is made by fusion, which comes after autodiff";

/// Appends to `graph` the gradient of the sum of `seeds`' values weighted by their cotangents, and returns the
/// cotangent of every value that has one.
///
/// # Errors
/// [`AutodiffError`] if a node on the way has no gradient rule or if a rule's nodes do not type-check.
pub fn differentiate(
    graph: &mut Graph,
    seeds: &[(ValueId, ValueId)],
    tables: WindowTables,
) -> Result<BTreeMap<ValueId, ValueId>, AutodiffError> {
    let mut cotangents: BTreeMap<ValueId, ValueId> = seeds.iter().copied().collect();
    let forward: Vec<NodeId> = graph.nodes().map(|(id, _)| id).collect();
    for &id in forward.iter().rev() {
        let node = graph.node(id);
        let of_results: Vec<Option<ValueId>> =
            node.results.iter().map(|result| cotangents.get(result).copied()).collect();
        if of_results.iter().all(Option::is_none) {
            continue;
        }
        let (op, operands, results) = (node.op.clone(), node.operands.clone(), node.results.clone());
        let module = node.module.clone();
        graph.set_module(&module);
        let contributions = {
            let mut context = VjpContext {
                op: op.name(),
                operands: operands.clone(),
                results,
                cotangents: of_results,
                tables,
                contributions: Vec::new(),
                graph,
            };
            op.vjp(&mut context)?;
            context.contributions
        };
        for (index, contribution) in contributions {
            let operand = operands[index];
            let sum = match cotangents.get(&operand) {
                Some(&earlier) => graph.push1(crate::ops::elementwise::Add, &[earlier, contribution])?,
                None => contribution,
            };
            cotangents.insert(operand, sum);
        }
    }
    Ok(cotangents)
}

#[cfg(test)]
mod tests;
