//! A model that is changed in memory before it is loaded: other outputs, other arithmetic, fewer logits.
//!
//! Its weights stay in their file; only the graph is changed, never the file that it came from.
//!
//! Does not: check what a change means for the model; whoever loads it sees that.

use std::collections::HashSet;

use prost::Message;

use super::CONTRIB_DOMAIN;
use super::builder::value_info;
use super::decode::decode;
use super::operators::{ACCURACY_LEVEL, MATMUL_NBITS};
use super::proto::{ModelProto, NodeProto, TensorProto, ValueInfoProto};
use super::reader::ReadError;
use super::recipe::ElementType;

/// A value that a node computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeValue {
    /// Its name.
    pub name: String,
    /// The node's name.
    pub node: String,
    /// The node's operator.
    pub op_type: String,
    /// Weights and constants that the node reads.
    pub weights: Vec<String>,
}

/// A decoded model.
#[derive(Clone, Debug)]
pub struct EditedModel {
    model: ModelProto,
}

impl EditedModel {
    /// Decodes a model.
    ///
    /// # Errors
    /// [`ReadError`] if the bytes are no model, or one without a graph.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReadError> {
        let model = decode(bytes)?;
        if model.graph.is_none() {
            return Err(ReadError::NoGraph);
        }
        Ok(EditedModel { model })
    }

    /// The changed model.
    pub fn encode(&self) -> Vec<u8> {
        self.model.encode_to_vec()
    }

    fn nodes(&self) -> &[NodeProto] {
        self.model.graph.as_ref().map_or(&[], |graph| &graph.node)
    }

    /// What the nodes compute, in their order, in which each value comes after all that it is made of.
    pub fn values(&self) -> Vec<NodeValue> {
        let weights = self.initializers();
        let of_node = |node: &NodeProto| {
            let read = node.input.iter().filter(|input| weights.contains(input.as_str())).cloned();
            let read: Vec<String> = read.collect();
            let value = |name: &String| NodeValue {
                name: name.clone(),
                node: node.name().into(),
                op_type: node.op_type().into(),
                weights: read.clone(),
            };
            node.output.iter().filter(|name| !name.is_empty()).map(value).collect::<Vec<_>>()
        };
        self.nodes().iter().flat_map(of_node).collect()
    }

    fn initializers(&self) -> HashSet<&str> {
        let graph = self.model.graph.as_ref();
        graph.into_iter().flat_map(|graph| &graph.initializer).map(TensorProto::name).collect()
    }

    /// Replaces the outputs of the graph by values of these names; their types are for the runtime to infer.
    pub fn set_outputs(&mut self, names: &[String]) {
        if let Some(graph) = &mut self.model.graph {
            let output = |name: &String| {
                let declared = graph.output.iter().find(|output| output.name() == name);
                let undeclared = || ValueInfoProto { name: Some(name.clone()), ..ValueInfoProto::default() };
                declared.cloned().unwrap_or_else(undeclared)
            };
            graph.output = names.iter().map(output).collect();
        }
    }

    /// Has MatMulNBits keep what it multiplies with as f32.
    pub fn exact_products(&mut self) {
        let nodes = self.model.graph.iter_mut().flat_map(|graph| &mut graph.node);
        let quantised =
            nodes.filter(|node| node.domain() == CONTRIB_DOMAIN && node.op_type() == MATMUL_NBITS);
        for attribute in quantised.flat_map(|node| &mut node.attribute) {
            if attribute.name() == ACCURACY_LEVEL {
                attribute.i = Some(1);
            }
        }
    }

    /// Has the model compute logits from one slot on only: from the index in a new input, int64 `[1]`, negative from the
    /// end. Returns false, and changes nothing, if `logits` is no sum of a bias and a product of `[B, S, D]` with a
    /// weight, or the product alone.
    pub fn logits_from(&mut self, input: &str) -> bool {
        let Some(product) = self.logits_product() else { return false };
        let Some(graph) = &mut self.model.graph else { return false };
        let name = |part: &str| format!("{input}/{part}");
        let constant = |name: String, value: i64| TensorProto {
            name: Some(name),
            data_type: Some(ElementType::I64.number()),
            dims: vec![1],
            raw_data: Some(value.to_le_bytes().to_vec()),
            ..TensorProto::default()
        };
        graph.initializer.push(constant(name("end"), i64::MAX));
        graph.initializer.push(constant(name("axis"), 1));
        graph.input.push(value_info(input, ElementType::I64, &[super::Dim::Fixed(1)]));
        let hidden = std::mem::replace(&mut graph.node[product].input[0], name("hidden"));
        let slice = NodeProto {
            op_type: Some("Slice".into()),
            name: Some(name("hidden")),
            input: vec![hidden, input.into(), name("end"), name("axis")],
            output: vec![name("hidden")],
            ..NodeProto::default()
        };
        graph.node.insert(product, slice);
        true
    }

    /// Index of the node that multiplies with lm_head's weight.
    fn logits_product(&self) -> Option<usize> {
        let nodes = self.nodes();
        let producer = |name: &str| nodes.iter().position(|node| node.output == [name]);
        let last = producer("logits")?;
        let weights = self.initializers();
        let is_product = |index: &usize| {
            let kind = nodes[*index].op_type();
            // A Gemm has no third dimension.
            (kind == "MatMul" || kind == MATMUL_NBITS) && !weights.contains(nodes[*index].input[0].as_str())
        };
        match nodes[last].op_type() {
            "Add" => {
                let operands: Vec<&String> =
                    nodes[last].input.iter().filter(|operand| !weights.contains(operand.as_str())).collect();
                // Two operands that are computed may be anything.
                let [operand] = operands.as_slice() else { return None };
                producer(operand).filter(is_product)
            }
            _ => Some(last).filter(is_product),
        }
    }
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
