//! The SSA graph: inputs, nodes in the order in which they run, outputs.
//!
//! A value is defined once, by an input or by a node. Nodes are stored in an order in which every operand is defined
//! before it is used; [`Graph::push`] can only append such nodes, and passes keep the order. Types are inferred by the
//! op when a node is made, so a graph that exists is well typed; [`crate::verify`] proves it again from scratch.

use crate::entities::{NodeId, PrimaryMap, ValueId};
use crate::ops::{Op, TypeError};
use crate::shape::TensorType;

/// What an input is, and so where it lives and who writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A frozen tensor of the checkpoint.
    Weight,
    /// A tensor that training changes: an adapter's, or any of the model when all parameters are trained.
    Parameter,
    /// Kept from one run of an entry point to the next: moments, partial gradient sums, tables.
    State,
    /// Data of one micro-batch.
    Batch,
    /// Small numbers of one run: seed, step, learning rate.
    Control,
}

impl Role {
    /// Every role, in the order of its wire number.
    pub const ALL: [Role; 5] = [Role::Weight, Role::Parameter, Role::State, Role::Batch, Role::Control];

    /// Name in the text form.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Weight => "weight",
            Role::Parameter => "parameter",
            Role::State => "state",
            Role::Batch => "batch",
            Role::Control => "control",
        }
    }

    /// True for inputs that an output of the same name replaces in place.
    pub const fn is_updated(self) -> bool {
        match self {
            Role::Parameter | Role::State => true,
            Role::Weight | Role::Batch | Role::Control => false,
        }
    }
}

/// An input of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// What the outside calls it: the tensor's name in the checkpoint, or the batch's field.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// The value that it defines.
    pub value: ValueId,
}

/// An output of a graph. One that bears the name of a parameter or a state input is that input's new content.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// What the outside calls it.
    pub name: String,
    /// The value that is returned.
    pub value: ValueId,
}

/// What defines a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definition {
    /// The input with this index.
    Input(usize),
    /// A result of a node, by its index.
    Result(NodeId, usize),
}

/// A value: its type and what defines it.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Dtype and shape.
    pub ty: TensorType,
    /// Where it comes from.
    pub definition: Definition,
}

/// One op applied to operands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// Values read, in the op's order.
    pub operands: Vec<ValueId>,
    /// Values defined, in the op's order.
    pub results: Vec<ValueId>,
    /// The module of the model that the node belongs to (`transformer.h.3.attn.q_proj`); may be empty.
    pub module: String,
}

/// A graph that cannot be built as asked.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// An op does not take these operands.
    #[error("in graph `{graph}`, `{op}` of module `{module}`: {source}")]
    Type {
        /// Name of the graph.
        graph: String,
        /// Name of the op.
        op: &'static str,
        /// Module of the node.
        module: String,
        /// What is wrong.
        source: Box<TypeError>,
    },
    /// Two inputs with one name.
    #[error("in graph `{graph}`: input `{name}` is declared twice")]
    DuplicateInput {
        /// Name of the graph.
        graph: String,
        /// Name of the input.
        name: String,
    },
}

/// A static training or inference graph.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Name: the entry point that it becomes.
    pub name: String,
    inputs: Vec<Input>,
    nodes: PrimaryMap<NodeId, Node>,
    values: PrimaryMap<ValueId, Value>,
    outputs: Vec<Output>,
    module: String,
}

/// Everything but the module that the next node would get.
impl PartialEq for Graph {
    fn eq(&self, other: &Self) -> bool {
        let Self { name, inputs, nodes, values, outputs, module: _ } = self;
        *name == other.name
            && *inputs == other.inputs
            && *nodes == other.nodes
            && *values == other.values
            && *outputs == other.outputs
    }
}

impl Graph {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            inputs: Vec::new(),
            nodes: PrimaryMap::new(),
            values: PrimaryMap::new(),
            outputs: Vec::new(),
            module: String::new(),
        }
    }

    /// Declares an input.
    ///
    /// # Errors
    /// [`GraphError::DuplicateInput`] if there is one of this name.
    pub fn input(&mut self, name: &str, role: Role, ty: TensorType) -> Result<ValueId, GraphError> {
        if self.find_input(name).is_some() {
            return Err(GraphError::DuplicateInput { graph: self.name.clone(), name: name.to_owned() });
        }
        let value = self.values.push(Value { ty, definition: Definition::Input(self.inputs.len()) });
        self.inputs.push(Input { name: name.to_owned(), role, value });
        Ok(value)
    }

    /// Nodes pushed from now on belong to this module of the model.
    pub fn set_module(&mut self, module: &str) {
        module.clone_into(&mut self.module);
    }

    /// Appends a node; its results' types are inferred by the op.
    ///
    /// # Errors
    /// [`GraphError::Type`] if the op does not take these operands.
    pub fn push(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<NodeId, GraphError> {
        let op = op.into();
        let types: Vec<&TensorType> = operands.iter().map(|&value| &self.values[value].ty).collect();
        let result_types = op.infer(&types).map_err(|source| GraphError::Type {
            graph: self.name.clone(),
            op: op.name(),
            module: self.module.clone(),
            source: Box::new(source),
        })?;
        let node = self.nodes.next_key();
        let results = result_types
            .into_iter()
            .enumerate()
            .map(|(index, ty)| self.values.push(Value { ty, definition: Definition::Result(node, index) }))
            .collect();
        Ok(self.nodes.push(Node { op, operands: operands.to_vec(), results, module: self.module.clone() }))
    }

    /// Appends a node with one result and returns that.
    ///
    /// # Errors
    /// [`GraphError::Type`] if the op does not take these operands.
    pub fn push1(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<ValueId, GraphError> {
        let node = self.push(op, operands)?;
        Ok(self.nodes[node].results[0])
    }

    /// Declares an output.
    pub fn output(&mut self, name: &str, value: ValueId) {
        self.outputs.push(Output { name: name.to_owned(), value });
    }

    /// Inputs in the order of their declaration.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// The input called `name`.
    pub fn find_input(&self, name: &str) -> Option<&Input> {
        self.inputs.iter().find(|input| input.name == name)
    }

    /// Outputs in the order of their declaration.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// The output called `name`.
    pub fn find_output(&self, name: &str) -> Option<ValueId> {
        self.outputs.iter().find(|output| output.name == name).map(|output| output.value)
    }

    /// Nodes in the order in which they run.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> {
        self.nodes.iter()
    }

    /// Number of nodes.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Number of values.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// A node.
    pub fn node(&self, node: NodeId) -> &Node {
        &self.nodes[node]
    }

    /// A value.
    pub fn value(&self, value: ValueId) -> &Value {
        &self.values[value]
    }

    /// A value, or none if the id is not of this graph.
    pub fn get_value(&self, value: ValueId) -> Option<&Value> {
        self.values.get(value)
    }

    /// The type of a value.
    pub fn ty(&self, value: ValueId) -> &TensorType {
        &self.values[value].ty
    }

    /// The types of a node's operands.
    pub fn operand_types(&self, node: &Node) -> Vec<&TensorType> {
        node.operands.iter().map(|&value| self.ty(value)).collect()
    }

    /// The types of a node's results.
    pub fn result_types(&self, node: &Node) -> Vec<&TensorType> {
        node.results.iter().map(|&value| self.ty(value)).collect()
    }

    /// Floating-point operations of a node at the bounds; a multiplication and an addition are two.
    pub fn node_flops(&self, node: &Node) -> u64 {
        node.op.flops(&self.operand_types(node), &self.result_types(node))
    }

    /// Floating-point operations of the whole graph at the bounds.
    pub fn flops(&self) -> u64 {
        self.nodes.iter().map(|(_, node)| self.node_flops(node)).sum()
    }

    /// Bytes of all results at the bounds: what a run without any sharing of memory would write.
    pub fn result_bytes(&self) -> u64 {
        self.nodes
            .iter()
            .flat_map(|(_, node)| &node.results)
            .map(|&value| self.ty(value).bytes() as u64)
            .sum()
    }
}

/// The parts of a graph, to break it in the verifier's tests.
#[cfg(test)]
pub(crate) struct PartsMut<'g> {
    pub(crate) inputs: &'g mut Vec<Input>,
    pub(crate) nodes: &'g mut PrimaryMap<NodeId, Node>,
    pub(crate) values: &'g mut PrimaryMap<ValueId, Value>,
}

#[cfg(test)]
impl Graph {
    pub(crate) fn parts_mut(&mut self) -> PartsMut<'_> {
        PartsMut { inputs: &mut self.inputs, nodes: &mut self.nodes, values: &mut self.values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::Add;
    use crate::ops::matmul::Matmul;

    #[test]
    fn push_infers_types_and_refuses_what_does_not_fit() {
        let mut graph = Graph::new("g");
        let x = graph.input("x", Role::Batch, TensorType::f32([3.into(), 4.into()])).unwrap();
        let w = graph.input("w", Role::Weight, TensorType::f32([5.into(), 4.into()])).unwrap();
        let y = graph.push1(Matmul::nt(), &[x, w]).unwrap();
        assert_eq!(graph.ty(y).to_string(), "f32[3, 5]");
        assert_eq!(graph.flops(), 2 * 3 * 5 * 4);
        let error = graph.push(Add, &[x, y]).unwrap_err().to_string();
        assert_eq!(error, "in graph `g`, `add` of module ``: operand 1: expected f32[3, 4], found f32[3, 5]");
        assert!(graph.input("x", Role::Batch, TensorType::f32([])).is_err());
    }
}
