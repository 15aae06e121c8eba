//! Builds a model node by node: names, declarations, small constants, and weights as recipes with their places.
//!
//! Every node has one output with the node's own name, unless it is published as an output of the graph. Small
//! constants are initializers inside the model; weights lie in the external data file.
//!
//! Does not: infer or check shapes; `onnx.checker` and ONNX Runtime do, in the tests.

use std::collections::HashSet;
use std::fmt;

use prost::Message;

use super::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType,
    tensor_proto::DataLocation, tensor_shape_proto, type_proto,
};
use super::recipe::{ElementType, Initializer, OnnxModel, PlacedInitializer};
use super::{CONTRIB_DOMAIN, CONTRIB_OPSET, DATA_ALIGNMENT, DATA_FILE, IR_VERSION, OPSET};

/// A value of the graph, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    name: String,
}

impl Value {
    /// The value's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// One dimension in a declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim<'a> {
    /// A size that the model fixes.
    Fixed(usize),
    /// A size that the data decides; dimensions of one name are equal.
    Named(&'a str),
}

/// A model that cannot be finished.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BuildError {
    /// Two values have one name.
    #[error("two values are named `{0}`; every name of an ONNX graph must be defined once")]
    DuplicateName(String),
    /// A node reads, or the graph returns, what nothing defines.
    #[error("`{reader}` reads `{name}`, which nothing before it defines")]
    Undefined {
        /// The node, or `graph outputs`.
        reader: String,
        /// The missing value.
        name: String,
    },
}

/// An attribute of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Attribute<'a> {
    Int(i64),
    Ints(&'a [i64]),
    Float(f32),
}

/// A model under construction.
pub struct ModelBuilder {
    graph: GraphProto,
    weights: Vec<Initializer>,
    metadata: Vec<StringStringEntryProto>,
}

impl fmt::Debug for ModelBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelBuilder({} nodes, {} weights)", self.graph.node.len(), self.weights.len())
    }
}

impl ModelBuilder {
    /// An empty model whose graph has this name.
    pub fn new(graph_name: &str) -> Self {
        let graph = GraphProto { name: Some(graph_name.into()), ..GraphProto::default() };
        ModelBuilder { graph, weights: Vec::new(), metadata: Vec::new() }
    }

    /// Notes something about the model that no runtime reads.
    pub fn metadata(&mut self, key: &str, value: String) {
        self.metadata.push(entry(key, value));
    }

    /// Declares an input of the graph.
    pub fn input(&mut self, name: &str, element: ElementType, dims: &[Dim<'_>]) -> Value {
        self.graph.input.push(value_info(name, element, dims));
        Value { name: name.into() }
    }

    /// Declares the value of this name as an output of the graph.
    pub fn output(&mut self, name: &str, element: ElementType, dims: &[Dim<'_>]) {
        self.graph.output.push(value_info(name, element, dims));
    }

    /// Gives the result of the newest node another name, one for an output of the graph.
    pub fn publish(&mut self, value: &Value, name: &str) -> Value {
        if let Some(node) = self.graph.node.last_mut().filter(|node| node.output == [value.name.as_str()]) {
            node.output = vec![name.into()];
        }
        Value { name: name.into() }
    }

    /// Adds a weight that lies in the external data file.
    pub fn weight(&mut self, initializer: Initializer) -> Value {
        let value = Value { name: initializer.name.clone() };
        self.weights.push(initializer);
        value
    }

    /// Adds a constant of 64-bit integers inside the model; `shape` may be empty for a scalar.
    pub fn integers(&mut self, name: &str, shape: &[usize], values: &[i64]) -> Value {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, ElementType::I64, shape, raw)
    }

    /// Adds a constant of f32 inside the model; `shape` may be empty for a scalar.
    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Value {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, ElementType::F32, shape, raw)
    }

    fn constant(&mut self, name: &str, element: ElementType, shape: &[usize], raw: Vec<u8>) -> Value {
        let mut tensor = tensor(name, element, shape);
        tensor.raw_data = Some(raw);
        self.graph.initializer.push(tensor);
        Value { name: name.into() }
    }

    /// Adds a node with one result of the same name.
    pub(super) fn node(
        &mut self,
        op_type: &str,
        name: &str,
        inputs: &[&Value],
        attributes: &[(&str, Attribute<'_>)],
    ) -> Value {
        self.graph.node.push(NodeProto {
            op_type: Some(op_type.into()),
            name: Some(name.into()),
            input: inputs.iter().map(|value| value.name.clone()).collect(),
            output: vec![name.into()],
            attribute: attributes
                .iter()
                .map(|(name, attribute)| encode_attribute(name, *attribute))
                .collect(),
            ..NodeProto::default()
        });
        Value { name: name.into() }
    }

    /// As [`ModelBuilder::node`], with one of ONNX Runtime's own operators.
    pub(super) fn contrib_node(
        &mut self,
        op_type: &str,
        name: &str,
        inputs: &[&Value],
        attributes: &[(&str, Attribute<'_>)],
    ) -> Value {
        let value = self.node(op_type, name, inputs, attributes);
        if let Some(node) = self.graph.node.last_mut() {
            node.domain = Some(CONTRIB_DOMAIN.into());
        }
        value
    }

    /// Places the weights and encodes the model.
    ///
    /// # Errors
    /// [`BuildError`] if a name is defined twice, or read without being defined before.
    pub fn finish(mut self) -> Result<OnnxModel, BuildError> {
        let mut data_length = 0_u64;
        let mut initializers = Vec::with_capacity(self.weights.len());
        for initializer in self.weights {
            let offset = data_length.next_multiple_of(DATA_ALIGNMENT);
            data_length = offset + initializer.byte_length();
            self.graph.initializer.push(external_tensor(&initializer, offset));
            initializers.push(PlacedInitializer { initializer, offset });
        }
        check_names(&self.graph)?;
        let model = ModelProto {
            ir_version: Some(IR_VERSION),
            opset_import: operator_sets(&self.graph),
            metadata_props: self.metadata,
            producer_name: Some("gptjc".into()),
            producer_version: Some(env!("CARGO_PKG_VERSION").into()),
            graph: Some(self.graph),
            ..ModelProto::default()
        };
        Ok(OnnxModel { bytes: model.encode_to_vec(), initializers, data_length })
    }
}

/// The operator sets that the nodes of a graph are of.
fn operator_sets(graph: &GraphProto) -> Vec<OperatorSetIdProto> {
    let set =
        |domain: &str, version| OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) };
    let has_contrib = graph.node.iter().any(|node| node.domain() == CONTRIB_DOMAIN);
    let contrib = has_contrib.then(|| set(CONTRIB_DOMAIN, CONTRIB_OPSET));
    [set("", OPSET)].into_iter().chain(contrib).collect()
}

fn entry(key: &str, value: String) -> StringStringEntryProto {
    StringStringEntryProto { key: Some(key.into()), value: Some(value) }
}

fn check_names(graph: &GraphProto) -> Result<(), BuildError> {
    let inputs = graph.input.iter().map(ValueInfoProto::name);
    let constants = graph.initializer.iter().map(TensorProto::name);
    let mut defined = HashSet::new();
    for name in inputs.chain(constants) {
        define(&mut defined, name)?;
    }
    for node in &graph.node {
        for input in &node.input {
            require(&defined, input, node.name())?;
        }
        for output in &node.output {
            define(&mut defined, output)?;
        }
    }
    graph.output.iter().try_for_each(|output| require(&defined, output.name(), "graph outputs"))
}

fn define<'a>(defined: &mut HashSet<&'a str>, name: &'a str) -> Result<(), BuildError> {
    if defined.insert(name) { Ok(()) } else { Err(BuildError::DuplicateName(name.into())) }
}

fn require(defined: &HashSet<&str>, name: &str, reader: &str) -> Result<(), BuildError> {
    if defined.contains(name) {
        Ok(())
    } else {
        Err(BuildError::Undefined { reader: reader.into(), name: name.into() })
    }
}

fn tensor(name: &str, element: ElementType, shape: &[usize]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        data_type: Some(element.number()),
        dims: shape.iter().map(|&dim| dim as i64).collect(),
        ..TensorProto::default()
    }
}

fn external_tensor(initializer: &Initializer, offset: u64) -> TensorProto {
    let mut tensor = tensor(&initializer.name, initializer.element, &initializer.shape);
    tensor.data_location = Some(DataLocation::External.into());
    tensor.external_data = vec![
        entry("location", DATA_FILE.into()),
        entry("offset", offset.to_string()),
        entry("length", initializer.byte_length().to_string()),
    ];
    tensor
}

pub(super) fn value_info(name: &str, element: ElementType, dims: &[Dim<'_>]) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension};
    let dim = |dim: &Dim<'_>| Dimension {
        value: Some(match *dim {
            Dim::Fixed(size) => dimension::Value::DimValue(size as i64),
            Dim::Named(name) => dimension::Value::DimParam(name.into()),
        }),
        ..Dimension::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: Some(element.number()),
        shape: Some(TensorShapeProto { dim: dims.iter().map(dim).collect() }),
    };
    let value_type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(value_type), ..ValueInfoProto::default() }
}

fn encode_attribute(name: &str, attribute: Attribute<'_>) -> AttributeProto {
    let mut encoded = AttributeProto { name: Some(name.into()), ..AttributeProto::default() };
    let kind = match attribute {
        Attribute::Int(value) => {
            encoded.i = Some(value);
            AttributeType::Int
        }
        Attribute::Ints(values) => {
            encoded.ints = values.to_vec();
            AttributeType::Ints
        }
        Attribute::Float(value) => {
            encoded.f = Some(value);
            AttributeType::Float
        }
    };
    encoded.r#type = Some(kind.into());
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{Recipe, Source};

    fn weight(name: &str, shape: &[usize]) -> Initializer {
        let recipe = Recipe::as_stored(Source::Tensor(name.into()));
        Initializer { name: name.into(), element: ElementType::F32, shape: shape.to_vec(), recipe }
    }

    #[test]
    fn weights_start_at_page_boundaries_and_do_not_overlap() {
        let mut builder = ModelBuilder::new("g");
        builder.weight(weight("small", &[3]));
        builder.weight(weight("page", &[1024]));
        builder.weight(weight("last", &[1025]));
        let model = builder.finish().unwrap();
        let offsets: Vec<u64> = model.initializers.iter().map(|placed| placed.offset).collect();
        assert_eq!(offsets, [0, 4096, 8192]);
        assert_eq!(model.data_length, 8192 + 4100);
    }

    #[test]
    fn a_name_defined_twice_is_refused() {
        let mut builder = ModelBuilder::new("g");
        builder.floats("x", &[], &[1.0]);
        builder.weight(weight("x", &[1]));
        assert_eq!(builder.finish().unwrap_err(), BuildError::DuplicateName("x".into()));
    }

    #[test]
    fn a_value_that_nothing_defines_is_refused() {
        let mut builder = ModelBuilder::new("g");
        let foreign = Value { name: "nowhere".into() };
        builder.node("Tanh", "y", &[&foreign], &[]);
        let error = builder.finish().unwrap_err();
        assert_eq!(error.to_string(), "`y` reads `nowhere`, which nothing before it defines");
    }
}
