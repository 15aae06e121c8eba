//! Reads what a model file declares: inputs, outputs, and which parts of which files hold its weights.
//!
//! Does not: read nodes or values, nor touch any other file. Its input is not trusted: every number is checked.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::decode::decode;
use super::proto::{
    GraphProto, NodeProto, TensorProto, ValueInfoProto, tensor_proto::DataLocation,
    tensor_shape_proto::dimension, type_proto,
};
use super::recipe::ElementType;
use crate::wire::WireError;

/// One dimension as declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeclaredDim {
    /// A fixed size.
    Fixed(i64),
    /// A size that the data decides, with its name (empty if it has none).
    Named(String),
}

impl std::fmt::Display for DeclaredDim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DeclaredDim::Fixed(size) => write!(f, "{size}"),
            DeclaredDim::Named(name) if name.is_empty() => f.write_str("?"),
            DeclaredDim::Named(name) => f.write_str(name),
        }
    }
}

/// An input or output of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredValue {
    /// Its name.
    pub name: String,
    /// Its element type; `None` if it is no tensor or has a type that we do not use.
    pub element: Option<ElementType>,
    /// Its dimensions; `None` if they are not declared.
    pub dims: Option<Vec<DeclaredDim>>,
}

/// A tensor that lies in another file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalEntry {
    /// Name of the tensor.
    pub tensor: String,
    /// The file, relative to the folder of the model. Not checked: it may be anything.
    pub location: String,
    /// First byte.
    pub offset: u64,
    /// Bytes, if the entry says so or the shape and type do.
    pub length: Option<u64>,
}

/// What a model file declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSummary {
    /// Inputs that are not initializers, in the order of the file.
    pub inputs: Vec<DeclaredValue>,
    /// Outputs, in the order of the file.
    pub outputs: Vec<DeclaredValue>,
    /// Tensors outside of the file, those of nested graphs and of attributes included.
    pub external: Vec<ExternalEntry>,
    /// Whether a node widens a weight that is stored in a 16-bit float type, all of it: what folding would do beforehand.
    pub widens_weights: bool,
    /// What of it another runtime than ONNX Runtime may not know.
    pub uncommon: Uncommon,
    /// What the model's writer noted about it.
    pub metadata: BTreeMap<String, String>,
}

/// What a model has that not every runtime knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uncommon {
    /// Operators of other domains than the standard's, as `domain.Operator`, each once.
    pub operators: BTreeSet<String>,
    /// The first weight that is stored in bf16.
    pub bf16_weight: Option<String>,
}

/// A file that is no model, or not one that can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes are no `ModelProto`.
    #[error("not an ONNX model: {0}")]
    Decode(#[from] prost::DecodeError),
    /// The bytes are no messages, or would take much more memory than their file.
    #[error("not an ONNX model: {0}")]
    Wire(#[from] WireError),
    /// There is no graph.
    #[error("the ONNX model has no graph")]
    NoGraph,
    /// An external data entry cannot be read.
    #[error("tensor `{tensor}`: external data entry `{key}` is `{found}`; expected {expected}")]
    External {
        /// The tensor.
        tensor: String,
        /// Which key.
        key: &'static str,
        /// What stands there.
        found: String,
        /// What should stand there.
        expected: &'static str,
    },
}

impl ModelSummary {
    /// Reads the declarations of an encoded model.
    ///
    /// # Errors
    /// [`ReadError`] if the bytes are no model, or an external data entry makes no sense.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReadError> {
        let model = decode(bytes)?;
        let graph = model.graph.ok_or(ReadError::NoGraph)?;
        let is_initializer = |name: &str| graph.initializer.iter().any(|tensor| tensor.name() == name);
        let inputs = graph.input.iter().filter(|input| !is_initializer(input.name())).map(declared).collect();
        let outputs = graph.output.iter().map(declared).collect();
        let mut external = Vec::new();
        graph_external(&graph, &mut external)?;
        let metadata = model.metadata_props.iter();
        let metadata = metadata.map(|entry| (entry.key().to_owned(), entry.value().to_owned())).collect();
        let uncommon = uncommon(&graph);
        Ok(ModelSummary {
            inputs,
            outputs,
            external,
            widens_weights: widens_weights(&graph),
            uncommon,
            metadata,
        })
    }
}

fn uncommon(graph: &GraphProto) -> Uncommon {
    let is_standard = |node: &&NodeProto| matches!(node.domain(), "" | "ai.onnx");
    let others = graph.node.iter().filter(|node| !is_standard(node));
    let operators = others.map(|node| format!("{}.{}", node.domain(), node.op_type())).collect();
    let bf16 = ElementType::Bf16.number();
    let bf16_weight = graph.initializer.iter().find(|tensor| tensor.data_type() == bf16);
    Uncommon { operators, bf16_weight: bf16_weight.map(|tensor| tensor.name().to_owned()) }
}

fn widens_weights(graph: &GraphProto) -> bool {
    let half = [ElementType::F16, ElementType::Bf16].map(ElementType::number);
    let is_half = |tensor: &&TensorProto| half.contains(&tensor.data_type());
    let weights: HashSet<&str> = graph.initializer.iter().filter(is_half).map(TensorProto::name).collect();
    let casts = graph.node.iter().filter(|node| node.op_type() == "Cast");
    casts.flat_map(|node| &node.input).any(|input| weights.contains(input.as_str()))
}

fn declared(value: &ValueInfoProto) -> DeclaredValue {
    let tensor = match value.r#type.as_ref().and_then(|kind| kind.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => Some(tensor),
        Some(_) | None => None,
    };
    let dims = tensor.and_then(|tensor| tensor.shape.as_ref()).map(|shape| {
        let dim = |value: Option<&dimension::Value>| match value {
            Some(dimension::Value::DimValue(size)) => DeclaredDim::Fixed(*size),
            Some(dimension::Value::DimParam(name)) => DeclaredDim::Named(name.clone()),
            None => DeclaredDim::Named(String::new()),
        };
        shape.dim.iter().map(|dimension| dim(dimension.value.as_ref())).collect()
    });
    let element = tensor.and_then(|tensor| ElementType::from_number(tensor.elem_type()));
    DeclaredValue { name: value.name().into(), element, dims }
}

/// Collects the external tensors of a graph, of its nodes' attributes and of the graphs nested in them.
fn graph_external(graph: &GraphProto, found: &mut Vec<ExternalEntry>) -> Result<(), ReadError> {
    for tensor in &graph.initializer {
        tensor_external(tensor, found)?;
    }
    for sparse in &graph.sparse_initializer {
        sparse.values.iter().chain(&sparse.indices).try_for_each(|tensor| tensor_external(tensor, found))?;
    }
    graph.node.iter().try_for_each(|node| node_external(node, found))
}

fn node_external(node: &NodeProto, found: &mut Vec<ExternalEntry>) -> Result<(), ReadError> {
    for attribute in &node.attribute {
        attribute.t.iter().chain(&attribute.tensors).try_for_each(|tensor| tensor_external(tensor, found))?;
        attribute.g.iter().chain(&attribute.graphs).try_for_each(|graph| graph_external(graph, found))?;
    }
    Ok(())
}

fn tensor_external(tensor: &TensorProto, found: &mut Vec<ExternalEntry>) -> Result<(), ReadError> {
    if tensor.data_location() != DataLocation::External {
        return Ok(());
    }
    let entry =
        |key: &str| tensor.external_data.iter().find(|entry| entry.key() == key).map(|entry| entry.value());
    let refuse = |key, found: Option<&str>, expected| ReadError::External {
        tensor: tensor.name().into(),
        key,
        found: found.unwrap_or_default().into(),
        expected,
    };
    let number = |key: &'static str| match entry(key) {
        None => Ok(None),
        Some(text) => text.parse::<u64>().map(Some).map_err(|_| refuse(key, Some(text), "a number of bytes")),
    };
    let location =
        entry("location").ok_or_else(|| refuse("location", None, "the name of a file"))?.to_owned();
    let offset = number("offset")?.unwrap_or(0);
    let length = number("length")?.or_else(|| byte_length(tensor));
    found.push(ExternalEntry { tensor: tensor.name().into(), location, offset, length });
    Ok(())
}

fn byte_length(tensor: &TensorProto) -> Option<u64> {
    let element = ElementType::from_number(tensor.data_type())?;
    let mut bytes = element.size();
    for &dim in &tensor.dims {
        bytes = bytes.checked_mul(u64::try_from(dim).ok()?)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::ModelProto;
    use crate::onnx::{Dim, Initializer, ModelBuilder, Recipe, Source};
    use prost::Message;

    fn model() -> Vec<u8> {
        let mut builder = ModelBuilder::new("g");
        let x = builder.input("x", ElementType::F32, &[Dim::Named("n"), Dim::Fixed(3)]);
        let recipe = Recipe::as_stored(Source::Tensor("w".into()));
        for (name, element) in [("v", ElementType::F32), ("w", ElementType::Bf16)] {
            builder.weight(Initializer {
                name: name.into(),
                element,
                shape: vec![3],
                recipe: recipe.clone(),
            });
        }
        let y = builder.tanh("y", &x);
        builder.metadata("writer", "me".into());
        builder.output(y.name(), ElementType::F32, &[Dim::Named("n"), Dim::Fixed(3)]);
        builder.finish().unwrap().bytes
    }

    #[test]
    fn declarations_come_back_as_they_were_built() {
        let summary = ModelSummary::decode(&model()).unwrap();
        let dims = Some(vec![DeclaredDim::Named("n".into()), DeclaredDim::Fixed(3)]);
        let value = |name: &str| DeclaredValue {
            name: name.into(),
            element: Some(ElementType::F32),
            dims: dims.clone(),
        };
        assert_eq!(summary.inputs, [value("x")]);
        assert_eq!(summary.outputs, [value("y")]);
        let entry = |tensor: &str, offset, length| ExternalEntry {
            tensor: tensor.into(),
            location: "model.onnx_data".into(),
            offset,
            length: Some(length),
        };
        assert_eq!(summary.external, [entry("v", 0, 12), entry("w", 4096, 6)]);
        assert!(!summary.widens_weights, "nothing reads the weights");
        assert_eq!(summary.metadata, [("writer".to_owned(), "me".to_owned())].into());
        let uncommon = Uncommon { operators: BTreeSet::new(), bf16_weight: Some("w".into()) };
        assert_eq!(summary.uncommon, uncommon);
    }

    #[test]
    fn operators_of_other_domains_are_named_once() {
        let mut model = ModelProto::decode(model().as_slice()).unwrap();
        let graph = model.graph.as_mut().unwrap();
        graph.node[0].domain = Some("com.microsoft".into());
        graph.node.push(graph.node[0].clone());
        graph.node.push(NodeProto { domain: Some("ai.onnx".into()), ..graph.node[0].clone() });
        let summary = ModelSummary::decode(&model.encode_to_vec()).unwrap();
        assert_eq!(summary.uncommon.operators, ["com.microsoft.Tanh".to_owned()].into());
    }

    #[test]
    fn what_is_no_model_is_refused() {
        assert!(matches!(ModelSummary::decode(b"no model"), Err(ReadError::Wire(_))));
        assert!(matches!(ModelSummary::decode(b""), Err(ReadError::NoGraph)));
    }

    #[test]
    fn a_negative_offset_is_refused() {
        let mut model = ModelProto::decode(model().as_slice()).unwrap();
        model.graph.as_mut().unwrap().initializer[0].external_data[1].value = Some("-1".into());
        let error = ModelSummary::decode(&model.encode_to_vec()).unwrap_err();
        let expected = "tensor `v`: external data entry `offset` is `-1`; expected a number of bytes";
        assert_eq!(error.to_string(), expected);
    }
}
