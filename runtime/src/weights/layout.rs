//! How safetensors files and their index are laid out by those who write them.

use std::ops::Range;

use serde_json::{Map, Value, json};

use super::WeightDtype;

/// Name of a model in one file.
pub(crate) const SINGLE_FILE: &str = "model.safetensors";
/// Name of the table of tensors of a model in several files.
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";

/// A tensor in the header of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderEntry<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Its type.
    pub(crate) dtype: WeightDtype,
    /// Its dimensions.
    pub(crate) shape: &'a [usize],
}

impl HeaderEntry<'_> {
    fn bytes(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64 * self.dtype.size() as u64
    }
}

/// The bytes before the data of a file with these tensors back to back: the length of the table, and the table.
pub(crate) fn safetensors_header<'a>(entries: impl IntoIterator<Item = HeaderEntry<'a>>) -> Vec<u8> {
    let mut table = Map::new();
    table.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut offset = 0;
    for entry in entries {
        let end = offset + entry.bytes();
        let dtype = match entry.dtype {
            WeightDtype::F32 => "F32",
            WeightDtype::F16 => "F16",
            WeightDtype::Bf16 => "BF16",
        };
        let value = json!({"dtype": dtype, "shape": entry.shape, "data_offsets": [offset, end]});
        table.insert(entry.name.to_owned(), value);
        offset = end;
    }
    let mut text = Value::Object(table).to_string().into_bytes();
    // Data starts at a multiple of 8 bytes, as the format's own writer has it.
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.append(&mut text);
    header
}

/// Name of file `index` (from 0) of `count`.
pub(crate) fn shard_name(index: usize, count: usize) -> String {
    match count {
        1 => SINGLE_FILE.to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
    }
}

/// True for the names of [`shard_name`] and of the table of tensors, whatever the model.
pub(crate) fn is_weights_file(name: &str) -> bool {
    let shard = name.strip_prefix("model-").and_then(|rest| rest.strip_suffix(".safetensors"));
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_shard = shard.and_then(|shard| shard.split_once("-of-"));
    name == SINGLE_FILE
        || name == INDEX_FILE
        || is_shard.is_some_and(|(index, count)| is_number(index) && is_number(count))
}

/// Cuts tensors of these lengths in bytes into files of at most `max_bytes`, or of one tensor: which go into each.
pub(crate) fn cut(lengths: impl IntoIterator<Item = u64>, max_bytes: u64) -> Vec<Range<usize>> {
    let mut files = Vec::new();
    let (mut first, mut end, mut filled) = (0, 0, 0u64);
    for length in lengths {
        if end > first && filled.saturating_add(length) > max_bytes {
            files.push(first..end);
            (first, filled) = (end, 0);
        }
        filled += length;
        end += 1;
    }
    files.push(first..end);
    files
}

/// The table of tensors of a model in several files: (tensor, file) for each tensor, bytes and elements of all.
pub(crate) fn index_text<'a>(
    places: impl IntoIterator<Item = (&'a str, &'a str)>,
    bytes: u64,
    parameters: u64,
) -> String {
    let map: Map<String, Value> =
        places.into_iter().map(|(tensor, file)| (tensor.to_owned(), Value::from(file))).collect();
    let metadata = json!({"total_parameters": parameters, "total_size": bytes});
    format!("{:#}\n", json!({"metadata": metadata, "weight_map": map}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_weights_are_known() {
        for name in ["model.safetensors", INDEX_FILE, "model-00001-of-00003.safetensors"] {
            assert!(is_weights_file(name), "{name}");
        }
        for name in ["model-1-of-3.safetensors", "model-00001-of-00003.bin", "adapter_model.safetensors", ""]
        {
            assert!(!is_weights_file(name), "{name}");
        }
    }

    #[test]
    fn a_file_holds_what_fits_or_one_tensor() {
        assert_eq!(cut([3, 3, 3, 9, 1], 6), [0..2, 2..3, 3..4, 4..5]);
        let only = |files: Vec<Range<usize>>| (files.len(), files[0].clone());
        assert_eq!(only(cut([3, 3], u64::MAX)), (1, 0..2));
        assert_eq!(only(cut([], 6)), (1, 0..0));
    }
}
