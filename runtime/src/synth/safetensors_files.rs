//! Tensors in one or several safetensors files.

use super::file::{Content, ContentKind, Frame, PlannedFile};
use crate::weights::layout::{HeaderEntry, INDEX_FILE, cut, index_text, safetensors_header, shard_name};
use crate::weights::{TensorSpec, WeightDtype};

/// The files of `tensors`, each of at most `max_bytes` of data or of one tensor; more than one come with their index.
pub(super) fn plan(tensors: &[TensorSpec], dtype: WeightDtype, max_bytes: u64) -> Vec<PlannedFile> {
    let lengths = tensors.iter().map(|spec| spec.len() as u64 * dtype.size() as u64);
    let shards: Vec<&[TensorSpec]> =
        cut(lengths, max_bytes).into_iter().map(|range| &tensors[range]).collect();
    let name = |index| shard_name(index, shards.len());
    let mut files: Vec<PlannedFile> =
        shards.iter().enumerate().map(|(index, shard)| file(name(index), shard, dtype)).collect();
    if shards.len() > 1 {
        let names: Vec<String> = (0..shards.len()).map(name).collect();
        let places = shards
            .iter()
            .zip(&names)
            .flat_map(|(shard, file)| shard.iter().map(move |spec| (spec.name.as_str(), file.as_str())));
        let parameters: u64 = tensors.iter().map(|spec| spec.len() as u64).sum();
        let text = index_text(places, parameters * dtype.size() as u64, parameters).into_bytes();
        files.push(PlannedFile {
            name: INDEX_FILE.to_owned(),
            bytes: text.len() as u64,
            contents: Vec::new(),
            frame: Frame::Header(text),
        });
    }
    files
}

fn file(name: String, tensors: &[TensorSpec], dtype: WeightDtype) -> PlannedFile {
    let entries = tensors.iter().map(|TensorSpec { name, shape }| HeaderEntry { name, dtype, shape });
    let header = safetensors_header(entries);
    let mut offset = header.len() as u64;
    let mut contents = Vec::with_capacity(tensors.len());
    for TensorSpec { name, shape } in tensors {
        let kind = ContentKind::Random(dtype);
        let content = Content { name: name.clone(), shape: shape.clone(), kind, offset };
        offset += content.bytes();
        contents.push(content);
    }
    PlannedFile { name, bytes: offset, contents, frame: Frame::Header(header) }
}
