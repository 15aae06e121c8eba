//! The header of a safetensors file: a JSON object of tensors and their places.
//!
//! The `safetensors` crate reads it as well, but buffers it as values of any kind first, at about fifty bytes for a byte of
//! a hostile header; here it becomes the table of entries as it is read. What the crate checks is checked here: ranges
//! follow each other without gaps, and have the lengths that types and shapes say.

use std::collections::BTreeMap;
use std::fmt;

use safetensors::Dtype;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::safetensors_file::Entry;

/// Dimensions of a tensor at most: weights have two, batches three, masks four.
pub(super) const MOST_DIMENSIONS: usize = 8;
/// The key that is no tensor.
const METADATA: &str = "__metadata__";

/// Tensors by name, their places counted from the start of the data, and the length of the data.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) data_length: usize,
}

/// Parses the text of a header.
///
/// # Errors
/// What is wrong, as a clause.
pub(super) fn parse(text: &[u8]) -> Result<Header, String> {
    let Tensors(entries) = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let mut ranges: Vec<(usize, usize, &String)> =
        entries.iter().map(|(name, entry)| (entry.start, entry.end, name)).collect();
    ranges.sort_unstable();
    let mut data_length = 0;
    for (start, end, name) in ranges {
        if start != data_length || end < start {
            return Err(format!(
                "tensor `{name}` has the bytes {start}..{end} of the data, expected them to begin with {data_length}"
            ));
        }
        data_length = end;
    }
    for (name, entry) in &entries {
        let (found, expected) = (entry.end - entry.start, bytes_of(entry));
        if expected != Some(found) {
            let Entry { dtype, shape, .. } = entry;
            return Err(format!("tensor `{name}` of type {dtype:?} and shape {shape:?} has {found} bytes"));
        }
    }
    Ok(Header { entries, data_length })
}

/// Bytes that type and shape say; none if they are no whole bytes, or too many.
fn bytes_of(entry: &Entry) -> Option<usize> {
    let elements = entry.shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim))?;
    let bits = elements.checked_mul(entry.dtype.bitsize())?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// The object.
struct Tensors(BTreeMap<String, Entry>);

impl<'de> Deserialize<'de> for Tensors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Tensors;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tensors, A::Error> {
                let mut tensors = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let Info { dtype, shape: Shape(shape), data_offsets: (start, end) } = map.next_value()?;
                    if tensors.contains_key(&name) {
                        return Err(A::Error::custom(format_args!("tensor `{name}` is there twice")));
                    }
                    tensors.insert(name, Entry { dtype, shape, start, end });
                }
                Ok(Tensors(tensors))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A tensor as the header has it.
#[derive(Deserialize)]
struct Info {
    dtype: Dtype,
    shape: Shape,
    data_offsets: (usize, usize),
}

/// A few dimensions.
struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Dimensions;
        impl<'de> Visitor<'de> for Dimensions {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "up to {MOST_DIMENSIONS} dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(dimension) = items.next_element()? {
                    if shape.len() == MOST_DIMENSIONS {
                        return Err(A::Error::invalid_length(shape.len() + 1, &self));
                    }
                    shape.push(dimension);
                }
                Ok(Shape(shape))
            }
        }
        deserializer.deserialize_seq(Dimensions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_the_crate_is_read_as_the_crate_reads_it() {
        let data = [0u8; 64];
        let view = |dtype, shape: &[usize], bytes| {
            safetensors::tensor::TensorView::new(dtype, shape.to_vec(), bytes).unwrap()
        };
        let tensors = [
            ("b", view(Dtype::F32, &[2, 3], &data[..24])),
            ("a", view(Dtype::U8, &[], &data[..1])),
            ("empty", view(Dtype::BF16, &[0, 3], &data[..0])),
        ];
        let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let file = safetensors::serialize(tensors, Some(metadata)).unwrap();
        let (length, theirs) = safetensors::SafeTensors::read_metadata(&file).unwrap();
        let ours = parse(&file[8..8 + length]).unwrap();
        assert_eq!(ours.data_length, theirs.data_len());
        let theirs: BTreeMap<String, Entry> = theirs
            .tensors()
            .into_iter()
            .map(|(name, info)| {
                let (start, end) = info.data_offsets;
                (name, Entry { dtype: info.dtype, shape: info.shape.clone(), start, end })
            })
            .collect();
        assert_eq!(ours.entries, theirs);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let tensor = |name: &str, dtype: &str, shape: &str, range: &str| {
            format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{range}}}"#)
        };
        let good = tensor("w", "F32", "[2,3]", "[0,24]");
        assert_eq!(parse(format!("{{{good}}}  ").as_bytes()).unwrap().data_length, 24);
        for (tensors, expected) in [
            (tensor("w", "F32", "[2,4]", "[0,24]"), "tensor `w` of type F32 and shape [2, 4] has 24 bytes"),
            (
                tensor("w", "F32", "[2,3]", "[1,25]"),
                "has the bytes 1..25 of the data, expected them to begin with 0",
            ),
            (tensor("w", "F32", "[2,3]", "[24,0]"), "has the bytes 24..0"),
            (tensor("w", "F99", "[2,3]", "[0,24]"), "unknown variant `F99`"),
            (tensor("w", "F32", "[1,1,1,1,1,1,1,1,6]", "[0,24]"), "expected up to 8 dimensions"),
            (tensor("w", "F32", "[9223372036854775807,9]", "[0,24]"), "has 24 bytes"),
            (tensor("w", "F4", "[1]", "[0,0]"), "has 0 bytes"),
            (format!("{good},{good}"), "tensor `w` is there twice"),
            (format!("{good},{}", tensor("v", "F32", "[6]", "[0,24]")), "expected them to begin with 24"),
            (format!("{good},{}", tensor("v", "F32", "[6]", "[28,52]")), "expected them to begin with 24"),
            (r#""w":{"dtype":"F32"}"#.to_owned(), "missing field `shape`"),
        ] {
            let reason = parse(format!("{{{tensors}}}").as_bytes()).unwrap_err();
            assert!(reason.contains(expected), "{expected}: {reason}");
        }
        assert!(parse(b"[]").is_err() && parse(b"{").is_err() && parse(b"{}x").is_err());
    }
}
