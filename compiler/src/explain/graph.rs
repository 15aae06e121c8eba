//! A graph as rows of text.

use super::costs::backward_from;
use gptjc_graphs::entities::ValueId;
use gptjc_graphs::graph::Graph;
use serde::Serialize;

/// A graph.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GraphView {
    /// Inputs.
    pub inputs: Vec<GraphInput>,
    /// Nodes in the order in which they run.
    pub nodes: Vec<GraphNode>,
    /// Outputs.
    pub outputs: Vec<GraphOutput>,
    /// Index of the first node of the backward pass, if there is one.
    pub backward_from: Option<usize>,
}

/// What an input is.
pub type GraphRole = &'static str;

/// An input.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GraphInput {
    /// Name to the outside.
    pub name: String,
    /// `weight`, `parameter`, `state`, `batch` or `control`.
    pub role: GraphRole,
    /// The value.
    #[serde(flatten)]
    pub value: TypedValue,
}

/// A value with its type.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TypedValue {
    /// The value (`%3`).
    pub value: String,
    /// Its type (`f32[slots:512, 64]`).
    #[serde(rename = "type")]
    pub ty: String,
}

impl TypedValue {
    fn of(graph: &Graph, value: ValueId) -> Self {
        Self { value: value.to_string(), ty: graph.ty(value).to_string() }
    }
}

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GraphNode {
    /// Name of the op.
    pub op: &'static str,
    /// The op's attributes.
    pub attributes: String,
    /// The module of the model.
    pub module: String,
    /// Values read.
    pub operands: Vec<TypedValue>,
    /// Values defined.
    pub results: Vec<TypedValue>,
    /// Floating-point operations at the bounds.
    pub flops: u64,
}

/// An output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GraphOutput {
    /// Name to the outside.
    pub name: String,
    /// The value.
    #[serde(flatten)]
    pub value: TypedValue,
}

impl GraphView {
    /// The rows of `graph`.
    pub fn of(graph: &Graph) -> Self {
        let ops: Vec<&str> = graph.nodes().map(|(_, node)| node.op.name()).collect();
        let values = |ids: &[ValueId]| ids.iter().map(|&id| TypedValue::of(graph, id)).collect();
        Self {
            inputs: graph
                .inputs()
                .iter()
                .map(|input| GraphInput {
                    name: input.name.clone(),
                    role: input.role.name(),
                    value: TypedValue::of(graph, input.value),
                })
                .collect(),
            nodes: graph
                .nodes()
                .map(|(_, node)| GraphNode {
                    op: node.op.name(),
                    attributes: node.op.attributes().to_string(),
                    module: node.module.clone(),
                    operands: values(&node.operands),
                    results: values(&node.results),
                    flops: graph.node_flops(node),
                })
                .collect(),
            outputs: graph
                .outputs()
                .iter()
                .map(|output| GraphOutput {
                    name: output.name.clone(),
                    value: TypedValue::of(graph, output.value),
                })
                .collect(),
            backward_from: backward_from(&ops),
        }
    }
}
