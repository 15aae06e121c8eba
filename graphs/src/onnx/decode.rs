//! Decodes a model, of which nothing is trusted, within a bound of memory.
//!
//! Two bytes are a whole message in protobuf's wire format, an empty node for example, and some hundred bytes in memory.
//! So the bytes are walked once before they are decoded, and what their messages will take is counted.
//!
//! Source of the wire format: <https://protobuf.dev/programming-guides/encoding/>; of the fields' numbers: `proto.rs`.

use std::mem::size_of;

use prost::Message;

use super::proto::{
    AttributeProto, DeviceConfigurationProto, FunctionProto, GraphProto, IntIntListEntryProto, ModelProto,
    NodeDeviceConfigurationProto, NodeProto, OperatorSetIdProto, ShardedDimProto, ShardingSpecProto,
    SimpleShardedDimProto, SparseTensorProto, StringStringEntryProto, TensorAnnotation, TensorProto,
    TensorShapeProto, TrainingInfoProto, TypeProto, ValueInfoProto, tensor_shape_proto::Dimension,
};
use super::reader::ReadError;

/// Bytes in memory that a byte of a model may become.
const RATIO: usize = 8;
/// Bytes in memory that any model may take. Nodes take up to 17 times their bytes in the models that exporters write, 0.9 MiB a
/// layer of GPT-J.
const CONSTANT: usize = 32 << 20;
/// How deep messages may be nested: prost goes no deeper either.
const DEPTH: usize = 100;
/// Field numbers of the format are below this.
const FIELDS: usize = 32;

/// Decodes `bytes`.
///
/// # Errors
/// [`ReadError`] if they are no model, or one that would take much more memory than its file.
pub(super) fn decode(bytes: &[u8]) -> Result<ModelProto, ReadError> {
    let mut walk =
        Walk { bytes, needed: 0, most: RATIO.saturating_mul(bytes.len()).saturating_add(CONSTANT) };
    walk.message(Kind::Model, 0, bytes.len(), 0)?;
    Ok(ModelProto::decode(bytes)?)
}

/// What a field with a length holds.
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
    /// Names, texts and bytes.
    Text,
    /// Numbers of four or eight bytes, one behind the other.
    Fixed,
    /// Numbers of one to ten bytes, one behind the other.
    Int32s,
    Int64s,
}

impl Kind {
    /// What stands in the field `number` of such a message.
    fn field(self, number: usize) -> Kind {
        use Kind::*;
        match (self, number) {
            (Model, 7) | (Attribute, 6 | 11) | (Training, 1 | 2) => Graph,
            (Graph, 1) | (Function, 7) => Node,
            (Node, 5) | (Function, 11) => Attribute,
            (Graph, 5) | (Attribute, 5 | 10) | (SparseTensor, 1 | 2) => Tensor,
            (Graph, 15) | (Attribute, 22 | 23) => SparseTensor,
            (Graph, 11..=13) | (Function, 12) => ValueInfo,
            (ValueInfo, 2) | (Attribute, 14 | 15) | (ListType, 1) | (MapType, 2) => Type,
            (Type, 1 | 8) => TensorType,
            (Type, 4 | 9) => ListType,
            (Type, 5) => MapType,
            (TensorType, 2) => Shape,
            (Shape, 1) => Dimension,
            (Model, 14) | (Graph, 16) | (Node, 9) | (Tensor, 13 | 16) | (ValueInfo, 4) => Entry,
            (Annotation, 2) | (Training, 3 | 4) | (Function, 14) => Entry,
            (Graph, 14) => Annotation,
            (Model, 8) | (Function, 9) => Operators,
            (Model, 20) => Training,
            (Model, 25) => Function,
            (Model, 26) => Device,
            (Node, 10) => NodeDevice,
            (NodeDevice, 2) => Sharding,
            (Sharding, 3) => Group,
            (Sharding, 4) => ShardedDim,
            (ShardedDim, 2) => SimpleShardedDim,
            (Tensor, 4 | 10) | (Attribute, 7) => Fixed,
            (Tensor, 5) => Int32s,
            (Tensor, 1 | 7 | 11) | (Attribute, 8) | (SparseTensor, 3) | (Sharding | Group, 2) => Int64s,
            _ => Text,
        }
    }

    /// Bytes of one in memory, without what it points to.
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
            Kind::Text => size_of::<String>(),
            Kind::Fixed => 1,
            Kind::Int32s => size_of::<i32>(),
            Kind::Int64s => size_of::<i64>(),
        }
    }
}

/// Counts what messages take.
struct Walk<'a> {
    bytes: &'a [u8],
    /// Bytes in memory so far.
    needed: usize,
    /// Most that there may be.
    most: usize,
}

impl Walk<'_> {
    /// Counts a message of kind `kind` that is `bytes[at..end]`.
    fn message(&mut self, kind: Kind, mut at: usize, end: usize, depth: usize) -> Result<(), ReadError> {
        if depth > DEPTH {
            return Err(ReadError::Malformed { at, expected: "messages in at most 100 messages" });
        }
        // A list is as long as the message has fields of its number.
        let mut lists = [(0_usize, 0_usize); FIELDS];
        while at < end {
            let key = self.varint(&mut at, end)?;
            let number = usize::try_from(key >> 3).unwrap_or(usize::MAX);
            let (size, count) = self.field(kind.field(number), key & 7, &mut at, end, depth)?;
            if let Some(list) = lists.get_mut(number) {
                let before = capacity(*list);
                *list = (list.0 + count, size.max(list.1));
                self.needed += capacity(*list) - before;
            }
            if self.needed > self.most {
                let (needed, most, bytes) = (self.needed, self.most, self.bytes.len());
                return Err(ReadError::Bulky { bytes, most, at, needed });
            }
        }
        Ok(())
    }

    /// Counts what the field at `at` points to, and goes behind it; returns the size and the number of its elements.
    fn field(
        &mut self,
        kind: Kind,
        wire_type: u64,
        at: &mut usize,
        end: usize,
        depth: usize,
    ) -> Result<(usize, usize), ReadError> {
        let from = *at;
        match wire_type {
            0 => self.varint(at, end).map(|_| (Kind::Int64s.size(), 1)),
            1 => self.skip(at, 8, end).map(|()| (8, 1)),
            5 => self.skip(at, 4, end).map(|()| (4, 1)),
            2 => {
                let length = usize::try_from(self.varint(at, end)?).unwrap_or(usize::MAX);
                let inner = *at;
                self.skip(at, length, end)?;
                let is_last = |byte: &&u8| **byte < 0x80;
                let mut count = 1;
                match kind {
                    Kind::Text => self.needed += length,
                    Kind::Fixed => count = length,
                    Kind::Int32s | Kind::Int64s => {
                        count = self.bytes[inner..*at].iter().filter(is_last).count();
                    }
                    _ => self.message(kind, inner, *at, depth + 1)?,
                }
                Ok((kind.size(), count))
            }
            _ => Err(ReadError::Malformed { at: from, expected: "a field of wire type 0, 1, 2 or 5" }),
        }
    }

    fn varint(&self, at: &mut usize, end: usize) -> Result<u64, ReadError> {
        let from = *at;
        let mut value = 0;
        for (index, &byte) in self.bytes[from..end].iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                *at = from + index + 1;
                return Ok(value);
            }
        }
        Err(ReadError::Malformed { at: from, expected: "a number of at most ten bytes" })
    }

    fn skip(&self, at: &mut usize, bytes: usize, end: usize) -> Result<(), ReadError> {
        if bytes > end - *at {
            return Err(ReadError::Malformed { at: *at, expected: "a field that ends within its message" });
        }
        *at += bytes;
        Ok(())
    }
}

/// Bytes of a `Vec` that has grown to `count` elements of `size` bytes: a power of two of them, at least four of small ones.
fn capacity((count, size): (usize, usize)) -> usize {
    match count {
        0 => 0,
        _ if size > 1024 => count.next_power_of_two() * size,
        _ => count.next_power_of_two().max(4) * size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::attribute_proto::AttributeType;

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
            assert!(matches!(error, Some(ReadError::Bulky { .. })), "{what}: {error:?}");
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
