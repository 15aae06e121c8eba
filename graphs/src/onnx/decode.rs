//! Decodes a model, of which nothing is trusted, within a bound of memory ([`wire`]). Numbers of fields are those of
//! `proto.rs`.

use std::mem::size_of;

use prost::Message;

use super::proto::{
    AttributeProto, DeviceConfigurationProto, FunctionProto, GraphProto, IntIntListEntryProto, ModelProto,
    NodeDeviceConfigurationProto, NodeProto, OperatorSetIdProto, ShardedDimProto, ShardingSpecProto,
    SimpleShardedDimProto, SparseTensorProto, StringStringEntryProto, TensorAnnotation, TensorProto,
    TensorShapeProto, TrainingInfoProto, TypeProto, ValueInfoProto, tensor_shape_proto::Dimension,
};
use super::reader::ReadError;
use crate::wire::{self, Field, Layout};

/// Bytes in memory that any model may take. Nodes take up to 11 times their bytes in the models that exporters write, 0.6 MiB a
/// layer of GPT-J.
const CONSTANT: usize = 32 << 20;
/// Decodes `bytes`.
///
/// # Errors
/// [`ReadError`] if they are no model, or one that would take much more memory than its file.
pub(super) fn decode(bytes: &[u8]) -> Result<ModelProto, ReadError> {
    wire::check(bytes, Kind::Model, CONSTANT)?;
    Ok(ModelProto::decode(bytes)?)
}

/// A kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
    ValueInfo,
    Type,
    /// Of a tensor's elements and shape.
    TensorType,
    /// Of a list's elements.
    ListType,
    MapType,
    Shape,
    Dimension,
    Entry,
    Annotation,
    Operators,
    Training,
    Function,
    Device,
    NodeDevice,
    Sharding,
    Group,
    ShardedDim,
    SimpleShardedDim,
}

impl Layout for Kind {
    fn field(self, number: usize) -> Field<Kind> {
        use Field::{Many, One};
        use Kind::*;
        match (self, number) {
            (Model, 7) | (Attribute, 6) | (Training, 1 | 2) => One(Graph),
            (Attribute, 11) => Many(Graph),
            (Graph, 1) | (Function, 7) => Many(Node),
            (Node, 5) | (Function, 11) => Many(Attribute),
            (Graph, 5) | (Attribute, 10) => Many(Tensor),
            (Attribute, 5) | (SparseTensor, 1 | 2) => One(Tensor),
            (Graph, 15) | (Attribute, 23) => Many(SparseTensor),
            (Attribute, 22) => One(SparseTensor),
            (Graph, 11..=13) | (Function, 12) => Many(ValueInfo),
            (ValueInfo, 2) | (Attribute, 14) => One(Type),
            // Those in a list's or a map's type are boxed.
            (Attribute, 15) | (ListType, 1) | (MapType, 2) => Many(Type),
            (Type, 1 | 8) => One(TensorType),
            (Type, 4 | 9) => Many(ListType),
            (Type, 5) => Many(MapType),
            (TensorType, 2) => One(Shape),
            (Shape, 1) => Many(Dimension),
            (Model, 14) | (Graph, 16) | (Node, 9) | (Tensor, 13 | 16) | (ValueInfo, 4) => Many(Entry),
            (Annotation, 2) | (Training, 3 | 4) | (Function, 14) => Many(Entry),
            (Graph, 14) => Many(Annotation),
            (Model, 8) | (Function, 9) => Many(Operators),
            (Model, 20) => Many(Training),
            (Model, 25) => Many(Function),
            (Model, 26) => Many(Device),
            (Node, 10) => Many(NodeDevice),
            (NodeDevice, 2) => Many(Sharding),
            (Sharding, 3) => Many(Group),
            (Sharding, 4) => Many(ShardedDim),
            (ShardedDim, 2) => Many(SimpleShardedDim),
            (Node, 1 | 2) | (Attribute, 9) | (Tensor, 6) | (Function, 4..=6) | (Device, 3) => Field::Texts,
            (Tensor, 4 | 10) | (Attribute, 7) => Field::Fixed,
            (Tensor, 5) => Field::Int32s,
            (Tensor, 1 | 7 | 11) | (Attribute, 8) | (SparseTensor, 3) => Field::Int64s,
            (Sharding | Group, 2) => Field::Int64s,
            _ => Field::Text,
        }
    }

    fn size(self) -> usize {
        match self {
            Kind::Model => size_of::<ModelProto>(),
            Kind::Graph => size_of::<GraphProto>(),
            Kind::Node => size_of::<NodeProto>(),
            Kind::Attribute => size_of::<AttributeProto>(),
            Kind::Tensor => size_of::<TensorProto>(),
            Kind::SparseTensor => size_of::<SparseTensorProto>(),
            Kind::ValueInfo => size_of::<ValueInfoProto>(),
            Kind::Type | Kind::TensorType | Kind::ListType | Kind::MapType => size_of::<TypeProto>(),
            Kind::Shape => size_of::<TensorShapeProto>(),
            Kind::Dimension => size_of::<Dimension>(),
            Kind::Entry => size_of::<StringStringEntryProto>(),
            Kind::Annotation => size_of::<TensorAnnotation>(),
            Kind::Operators => size_of::<OperatorSetIdProto>(),
            Kind::Training => size_of::<TrainingInfoProto>(),
            Kind::Function => size_of::<FunctionProto>(),
            Kind::Device => size_of::<DeviceConfigurationProto>(),
            Kind::NodeDevice => size_of::<NodeDeviceConfigurationProto>(),
            Kind::Sharding => size_of::<ShardingSpecProto>(),
            Kind::Group => size_of::<IntIntListEntryProto>(),
            Kind::ShardedDim => size_of::<ShardedDimProto>(),
            Kind::SimpleShardedDim => size_of::<SimpleShardedDimProto>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::attribute_proto::AttributeType;
    use crate::wire::WireError;

    /// A field of a message.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let mut bytes = vec![number << 3 | 2];
        bytes.extend((0..4).map(|part| (length >> (7 * part)) as u8 | 0x80));
        bytes.push((length >> 28) as u8);
        bytes.extend(content);
        bytes
    }

    #[test]
    fn what_is_empty_many_times_is_refused() {
        let many = |number: u8| [number << 3 | 2, 0].repeat(8 << 20);
        let of_graph = |content: &[u8]| field(7, content);
        let shape = |dims: &[u8]| field(11, &field(2, &field(1, &field(2, dims))));
        for (what, bytes) in [
            ("nodes", of_graph(&many(1))),
            ("tensors", of_graph(&many(5))),
            ("inputs", of_graph(&many(11))),
            ("attributes", of_graph(&field(1, &many(5)))),
            ("names of inputs", of_graph(&field(1, &many(1)))),
            ("graphs in an attribute", of_graph(&field(1, &field(5, &many(11))))),
            ("dimensions", of_graph(&shape(&many(1)))),
            (
                "dimensions of a map's values",
                of_graph(&field(11, &field(2, &field(5, &field(2, &field(1, &field(2, &many(1)))))))),
            ),
            ("external data", of_graph(&field(5, &many(13)))),
            ("operator sets", many(8)),
        ] {
            let error = decode(&bytes).err();
            assert!(matches!(error, Some(ReadError::Wire(WireError::Bulky { .. }))), "{what}: {error:?}");
        }
    }

    #[test]
    fn what_is_large_because_it_holds_weights_is_read() {
        let floats = field(4, &vec![0; 64 << 20]);
        let halves = field(5, &[0x80, 0x80, 1].repeat(4 << 20));
        let raw = field(9, &vec![0; 32 << 20]);
        let graph = [floats, halves, raw].map(|tensor| field(5, &tensor)).concat();
        let model = decode(&field(7, &graph)).unwrap();
        let tensors = model.graph.unwrap().initializer;
        assert_eq!(tensors[0].float_data.len(), 16 << 20);
        assert_eq!(tensors[1].int32_data.len(), 4 << 20);
        assert_eq!(tensors[2].raw_data().len(), 32 << 20);
    }

    #[test]
    fn what_is_written_is_read() {
        let attribute = AttributeProto {
            r#type: Some(AttributeType::Ints as i32),
            ints: vec![-1, 7],
            ..Default::default()
        };
        let node =
            NodeProto { input: vec!["a".to_owned(); 3], attribute: vec![attribute], ..Default::default() };
        let graph = GraphProto { node: vec![node; 50], ..Default::default() };
        let model = ModelProto { graph: Some(graph), ..Default::default() };
        assert_eq!(decode(&model.encode_to_vec()).unwrap(), model);
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_place() {
        for (bytes, place) in
            [(&b"no model"[..], "byte 1"), (b"\x3a\x05\x0a", "byte 2"), (b"\x08\xff", "byte 1")]
        {
            let error = decode(bytes).unwrap_err().to_string();
            assert!(error.contains(place), "{error}");
        }
        let mut nested = Vec::new();
        for _ in 0..60 {
            nested = field(1, &field(5, &field(6, &nested)));
        }
        let error = decode(&field(7, &nested)).unwrap_err().to_string();
        assert!(error.contains("at most 100"), "{error}");
    }
}
