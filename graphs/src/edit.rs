//! Rebuilding a graph with some nodes left out or replaced.
//!
//! Graphs only grow, so a pass that removes or changes nodes makes a new graph: a [`Rewriter`] walks the old one in
//! order and knows which value of the new graph stands for which of the old. Inputs and outputs are kept, inputs come
//! first, ids are dense again.

use crate::entities::{Entity, NodeId, ValueId};
use crate::graph::{Graph, GraphError};
use crate::ops::Op;
use crate::text::statement;

/// A graph that cannot be rebuilt as asked.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// A value is needed whose node was left out.
    #[error("in graph `{graph}`: {reader} needs {value}, whose node `{statement}` was removed")]
    Removed {
        /// Name of the graph.
        graph: String,
        /// What needs the value.
        reader: String,
        /// The value, in the old graph.
        value: ValueId,
        /// The node that defined it.
        statement: String,
    },
    /// A node is replaced by another number of values than it has results.
    #[error(
        "in graph `{graph}`: expected {expected} values to replace the results of `{statement}`, found {found}"
    )]
    ResultCount {
        /// Name of the graph.
        graph: String,
        /// The node.
        statement: String,
        /// Number of its results.
        expected: usize,
        /// Number of values given.
        found: usize,
    },
    /// A node of the new graph does not type-check.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// Which value of a new graph stands for which of the old.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueMap(Vec<Option<ValueId>>);

impl ValueMap {
    /// The new value for an old one, or none if its node was removed.
    pub fn get(&self, old: ValueId) -> Option<ValueId> {
        self.0.get(old.index()).copied().flatten()
    }
}

/// A rebuilt graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Rebuilt {
    /// The new graph.
    pub graph: Graph,
    /// Its values for those of the old graph.
    pub values: ValueMap,
}

/// What becomes of a node of the old graph.
#[derive(Clone, Debug, PartialEq)]
pub enum Replacement {
    /// It is copied.
    Keep,
    /// It is left out; nothing that stays may read its results.
    Remove,
    /// These values of the new graph stand for its results, one for each. Their types may differ from the old ones:
    /// what reads them is inferred anew.
    Values(Vec<ValueId>),
}

/// A new graph in the making, beside the old one.
pub struct Rewriter<'g> {
    old: &'g Graph,
    new: Graph,
    values: ValueMap,
}

impl<'g> Rewriter<'g> {
    /// A graph with the name and the inputs of `old`.
    ///
    /// # Errors
    /// [`EditError::Graph`] if `old` has two inputs of one name.
    pub fn new(old: &'g Graph) -> Result<Self, EditError> {
        let mut new = Graph::new(&old.name);
        let mut values = ValueMap(vec![None; old.value_count()]);
        for input in old.inputs() {
            let value = new.input(&input.name, input.role, old.ty(input.value).clone())?;
            values.0[input.value.index()] = Some(value);
        }
        Ok(Self { old, new, values })
    }

    /// The old graph.
    pub fn old(&self) -> &'g Graph {
        self.old
    }

    /// The new graph as far as it is.
    pub fn new_graph(&self) -> &Graph {
        &self.new
    }

    /// The new value that stands for an old one, or none if its node was removed or has not been reached.
    pub fn value(&self, old: ValueId) -> Option<ValueId> {
        self.values.get(old)
    }

    /// The new values that stand for the operands of an old node.
    ///
    /// # Errors
    /// [`EditError::Removed`] if one of them is gone.
    pub fn operands(&self, node: NodeId) -> Result<Vec<ValueId>, EditError> {
        let needed = |&value: &ValueId| {
            self.value(value).ok_or_else(|| self.removed(format!("`{}`", statement(self.old, node)), value))
        };
        self.old.node(node).operands.iter().map(needed).collect()
    }

    /// Appends a node to the new graph, in the module of the old node at hand, and returns its results.
    ///
    /// # Errors
    /// [`EditError::Graph`] if it does not type-check.
    pub fn push(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<Vec<ValueId>, EditError> {
        let node = self.new.push(op, operands)?;
        Ok(self.new.node(node).results.clone())
    }

    /// Appends a node with one result and returns that.
    ///
    /// # Errors
    /// [`EditError::Graph`] if it does not type-check.
    pub fn push1(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<ValueId, EditError> {
        Ok(self.new.push1(op, operands)?)
    }

    /// Nodes that are pushed from now on, until the next old node, belong to this module.
    pub fn set_module(&mut self, module: &str) {
        self.new.set_module(module);
    }

    /// Does with an old node what `replacement` says.
    fn apply(&mut self, node: NodeId, replacement: Replacement) -> Result<(), EditError> {
        let old = self.old.node(node);
        let values = match replacement {
            Replacement::Remove => return Ok(()),
            Replacement::Values(values) => values,
            Replacement::Keep => {
                let operands = self.operands(node)?;
                self.new.set_module(&old.module);
                self.push(old.op.clone(), &operands)?
            }
        };
        if values.len() != old.results.len() {
            let (graph, statement) = (self.old.name.clone(), statement(self.old, node));
            let (expected, found) = (old.results.len(), values.len());
            return Err(EditError::ResultCount { graph, statement, expected, found });
        }
        for (&result, value) in old.results.iter().zip(values) {
            self.values.0[result.index()] = Some(value);
        }
        Ok(())
    }

    /// Declares the outputs of the old graph.
    fn finish(mut self) -> Result<Rebuilt, EditError> {
        for output in self.old.outputs() {
            let value = self.value(output.value);
            let value =
                value.ok_or_else(|| self.removed(format!("output `{}`", output.name), output.value))?;
            self.new.output(&output.name, value);
        }
        Ok(Rebuilt { graph: self.new, values: self.values })
    }

    fn removed(&self, reader: String, value: ValueId) -> EditError {
        let mut definers = self.old.nodes().filter(|(_, node)| node.results.contains(&value));
        let statement = definers.next().map_or_else(String::new, |(node, _)| statement(self.old, node));
        EditError::Removed { graph: self.old.name.clone(), reader, value, statement }
    }
}

/// Rebuilds `graph`, asking `rule` for each node, in order, what becomes of it. The rule may push nodes before it
/// answers.
///
/// # Errors
/// What `rule` returns, and [`EditError`] if what stays needs what was removed or does not type-check.
pub fn rebuild<E: From<EditError>>(
    graph: &Graph,
    mut rule: impl FnMut(&mut Rewriter<'_>, NodeId) -> Result<Replacement, E>,
) -> Result<Rebuilt, E> {
    let mut rewriter = Rewriter::new(graph)?;
    for (id, node) in graph.nodes() {
        rewriter.set_module(&node.module);
        let replacement = rule(&mut rewriter, id)?;
        rewriter.apply(id, replacement)?;
    }
    Ok(rewriter.finish()?)
}

/// Rebuilds `graph` with the nodes that `keep` is true for.
///
/// # Errors
/// [`EditError::Removed`] if a kept node or an output reads a result of one that is not kept.
pub fn retain_nodes(graph: &Graph, mut keep: impl FnMut(NodeId) -> bool) -> Result<Rebuilt, EditError> {
    rebuild(graph, |_, node| Ok(if keep(node) { Replacement::Keep } else { Replacement::Remove }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::ops::elementwise::{Cast, Scale};
    use crate::text::{parse, print};
    use crate::verify::verify;

    const BEFORE: &str = "\
graph @g(
  %0: batch \"x\" f32[slots:8, 4],
) {
  %1 = scale %0 {factor = 2.0} : f32[slots:8, 4] @ \"a\"
  %2 = scale %0 {factor = 3.0} : f32[slots:8, 4] @ \"b\"
  %3 = add %2, %2 : f32[slots:8, 4]
  return \"y\" %3
}
";

    #[test]
    fn keeping_every_node_changes_nothing() {
        let graph = parse(BEFORE).unwrap();
        assert_eq!(retain_nodes(&graph, |_| true).unwrap().graph, graph);
    }

    #[test]
    fn nodes_that_are_left_out_leave_no_gap_in_the_ids() {
        let graph = parse(BEFORE).unwrap();
        let rebuilt = retain_nodes(&graph, |node| node.index() != 0).unwrap();
        let expected = BEFORE.replace("  %1 = scale %0 {factor = 2.0} : f32[slots:8, 4] @ \"a\"\n", "");
        let expected = expected.replace("%2", "%1").replace("%3", "%2");
        assert_eq!(print(&rebuilt.graph), expected);
        let mapped: Vec<_> =
            (0..4).map(|old| rebuilt.values.get(ValueId::new(old)).map(Entity::index)).collect();
        assert_eq!(mapped, [Some(0), None, Some(1), Some(2)]);
        assert_eq!(verify(&rebuilt.graph), Ok(()));
    }

    #[test]
    fn a_node_that_is_needed_cannot_be_left_out() {
        let graph = parse(BEFORE).unwrap();
        let error = retain_nodes(&graph, |node| node.index() != 1).unwrap_err().to_string();
        assert_eq!(
            error,
            "in graph `g`: `%3 = add %2, %2 : f32[slots:8, 4]` needs %2, whose node `%2 = scale %0 {factor = 3.0} : \
             f32[slots:8, 4] @ \"b\"` was removed"
        );
        let error = retain_nodes(&graph, |node| node.index() != 2).unwrap_err().to_string();
        assert!(error.starts_with("in graph `g`: output `y` needs %3, whose node "), "{error}");
    }

    /// Rounds the result of each `scale` to bf16 and widens it again for its readers.
    fn round_scales(rewriter: &mut Rewriter<'_>, node: NodeId) -> Result<Replacement, EditError> {
        let Op::Scale(Scale { .. }) = rewriter.old().node(node).op else { return Ok(Replacement::Keep) };
        let operands = rewriter.operands(node)?;
        let wide = rewriter.push1(rewriter.old().node(node).op.clone(), &operands)?;
        let narrow = rewriter.push1(Cast { dtype: DType::Bf16 }, &[wide])?;
        rewriter.set_module("other");
        Ok(Replacement::Values(vec![rewriter.push1(Cast { dtype: DType::F32 }, &[narrow])?]))
    }

    #[test]
    fn replaced_results_reach_their_readers() {
        let rebuilt = rebuild(&parse(BEFORE).unwrap(), round_scales).unwrap();
        let expected = "\
graph @g(
  %0: batch \"x\" f32[slots:8, 4],
) {
  %1 = scale %0 {factor = 2.0} : f32[slots:8, 4] @ \"a\"
  %2 = cast %1 {dtype = bf16} : bf16[slots:8, 4] @ \"a\"
  %3 = cast %2 {dtype = f32} : f32[slots:8, 4] @ \"other\"
  %4 = scale %0 {factor = 3.0} : f32[slots:8, 4] @ \"b\"
  %5 = cast %4 {dtype = bf16} : bf16[slots:8, 4] @ \"b\"
  %6 = cast %5 {dtype = f32} : f32[slots:8, 4] @ \"other\"
  %7 = add %6, %6 : f32[slots:8, 4]
  return \"y\" %7
}
";
        assert_eq!(print(&rebuilt.graph), expected);
    }

    #[test]
    fn a_replacement_has_a_value_for_each_result() {
        let rule = |_: &mut Rewriter<'_>, _: NodeId| Ok::<_, EditError>(Replacement::Values(Vec::new()));
        let error = rebuild(&parse(BEFORE).unwrap(), rule).unwrap_err().to_string();
        assert!(
            error.starts_with("in graph `g`: expected 1 values to replace the results of `%1 = "),
            "{error}"
        );
    }
}
