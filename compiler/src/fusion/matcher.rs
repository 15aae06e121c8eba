//! What patterns ask of a graph: who defines a value, who reads it.

use gptjc_graphs::entities::{Entity, NodeId, ValueId};
use gptjc_graphs::graph::{Definition, Graph, Input, Node, Role};
use gptjc_graphs::ops::Op;

/// A graph with the readers of each value.
pub(crate) struct Matcher<'g> {
    pub(crate) graph: &'g Graph,
    readers: Vec<Vec<NodeId>>,
    is_output: Vec<bool>,
    /// True if every parameter of the model is trained, so that base weights are parameters.
    trains_all: bool,
}

impl<'g> Matcher<'g> {
    pub(crate) fn new(graph: &'g Graph) -> Self {
        let mut readers: Vec<Vec<NodeId>> = vec![Vec::new(); graph.value_count()];
        for (id, node) in graph.nodes() {
            for operand in &node.operands {
                let of_value = &mut readers[operand.index()];
                if of_value.last() != Some(&id) {
                    of_value.push(id);
                }
            }
        }
        let mut is_output = vec![false; graph.value_count()];
        for output in graph.outputs() {
            is_output[output.value.index()] = true;
        }
        let trains_all = !graph.inputs().iter().any(|input| input.role == Role::Weight);
        Self { graph, readers, is_output, trains_all }
    }

    /// The node that defines `value`, if one does.
    pub(crate) fn definition(&self, value: ValueId) -> Option<(NodeId, &'g Node)> {
        match self.graph.value(value).definition {
            Definition::Result(node, _) => Some((node, self.graph.node(node))),
            Definition::Input(_) => None,
        }
    }

    /// The input that defines `value`, if one does.
    pub(crate) fn input(&self, value: ValueId) -> Option<&'g Input> {
        match self.graph.value(value).definition {
            Definition::Input(index) => Some(&self.graph.inputs()[index]),
            Definition::Result(..) => None,
        }
    }

    /// The nodes that read `value`, in order, each once.
    pub(crate) fn readers(&self, value: ValueId) -> impl Iterator<Item = (NodeId, &'g Node)> + '_ {
        self.readers[value.index()].iter().map(|&id| (id, self.graph.node(id)))
    }

    /// The node that alone reads `value`, if there is one and the value is no output.
    pub(crate) fn only_reader(&self, value: ValueId) -> Option<(NodeId, &'g Node)> {
        match self.readers[value.index()][..] {
            [id] if !self.is_output[value.index()] => Some((id, self.graph.node(id))),
            _ => None,
        }
    }

    /// True if the graph returns `value`.
    pub(crate) fn is_output(&self, value: ValueId) -> bool {
        self.is_output[value.index()]
    }

    /// True if `value` is a weight of the model that a base product reads: a frozen one, or a parameter where all of the
    /// model is trained.
    pub(crate) fn is_base_weight(&self, value: ValueId) -> bool {
        match self.input(value).map(|input| input.role) {
            Some(Role::Weight) => true,
            Some(Role::Parameter) => self.trains_all,
            Some(Role::State | Role::Batch | Role::Control) | None => false,
        }
    }

    /// True if `value` is a matrix of an adapter.
    pub(crate) fn is_adapter(&self, value: ValueId) -> bool {
        !self.trains_all && self.input(value).is_some_and(|input| input.role == Role::Parameter)
    }

    /// The node that defines `value` if `wanted` gives something of its op.
    pub(crate) fn defined_by<T>(
        &self,
        value: ValueId,
        wanted: impl Fn(&'g Op) -> Option<T>,
    ) -> Option<(NodeId, &'g Node, T)> {
        let (id, node) = self.definition(value)?;
        Some((id, node, wanted(&node.op)?))
    }

    /// The first node that reads `value` and that `wanted` gives something of.
    pub(crate) fn reader<T>(
        &self,
        value: ValueId,
        mut wanted: impl FnMut(&'g Node) -> Option<T>,
    ) -> Option<(NodeId, &'g Node, T)> {
        self.readers(value).find_map(|(id, node)| Some((id, node, wanted(node)?)))
    }
}
