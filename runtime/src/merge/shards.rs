//! Which tensor goes into which file, with which type: names and limits as transformers has them.
//!
//! Does not: write.

use std::ops::Range;

use gptjc_graphs::onnx::{ElementType, Initializer, Recipe, Source};

use super::{AdapterFit, MergeError, MergeRequest};
use crate::adapter::{lora_a_name, lora_b_name};
use crate::weights::WeightDtype;
use crate::weights::layout::{HeaderEntry, cut, index_text, safetensors_header, shard_name};

/// All tensors in their files.
pub(super) struct Plan {
    pub(super) shards: Vec<Shard>,
    /// Bytes of all tensors.
    pub(super) bytes: u64,
    /// The type of most bytes.
    pub(super) main_dtype: WeightDtype,
}

/// One file.
pub(super) struct Shard {
    pub(super) name: String,
    pub(super) tensors: Vec<Stored>,
}

/// One tensor in a file.
pub(super) struct Stored {
    /// What to store; its shape is that of the checkpoint.
    pub(super) initializer: Initializer,
    pub(super) dtype: WeightDtype,
}

/// Puts the tensors of `request` into files, in their order.
pub(super) fn plan(request: &MergeRequest<'_>, fit: &AdapterFit) -> Result<Plan, MergeError> {
    let all: Vec<Stored> =
        request.tensors.iter().map(|spec| stored(request, fit, &spec.name)).collect::<Result<_, _>>()?;
    let mut bytes_by_dtype: Vec<(WeightDtype, u64)> = Vec::new();
    for stored in &all {
        let length = stored.initializer.byte_length();
        match bytes_by_dtype.iter_mut().find(|(dtype, _)| *dtype == stored.dtype) {
            Some((_, sum)) => *sum += length,
            None => bytes_by_dtype.push((stored.dtype, length)),
        }
    }
    let bytes = bytes_by_dtype.iter().map(|(_, sum)| sum).sum();
    let files = cut(all.iter().map(|stored| stored.initializer.byte_length()), request.max_shard_bytes);
    let count = files.len();
    let mut all = all.into_iter();
    let shard = |(index, range): (usize, Range<usize>)| Shard {
        name: shard_name(index, count),
        tensors: all.by_ref().take(range.len()).collect(),
    };
    let shards = files.into_iter().enumerate().map(shard).collect();
    let main_dtype = bytes_by_dtype.iter().max_by_key(|(_, sum)| *sum);
    let main_dtype = main_dtype.map_or(WeightDtype::F32, |(dtype, _)| *dtype);
    Ok(Plan { shards, bytes, main_dtype })
}

fn stored(request: &MergeRequest<'_>, fit: &AdapterFit, name: &str) -> Result<Stored, MergeError> {
    let view = request.checkpoint.tensor(name).ok_or_else(|| MergeError::NoTensor {
        tensor: name.to_owned(),
        model: request.checkpoint.dir().to_owned(),
    })?;
    let module = name
        .strip_suffix(".weight")
        .filter(|module| fit.modules.binary_search_by(|adapted| adapted.as_str().cmp(module)).is_ok());
    let source = match module {
        Some(module) => Source::LoraMerged {
            base: name.to_owned(),
            a: lora_a_name(module),
            b: lora_b_name(module),
            scaling: request.adapter.config.scaling(),
        },
        None => Source::Tensor(name.to_owned()),
    };
    let dtype = request.dtype.unwrap_or(view.dtype);
    let element = ElementType::from(dtype);
    let recipe = Recipe::as_stored(source);
    let shape = view.shape.to_vec();
    Ok(Stored { initializer: Initializer { name: name.to_owned(), element, shape, recipe }, dtype })
}

impl Shard {
    /// The bytes before the data of the file: the length of the table, and the table.
    pub(super) fn header(&self) -> Vec<u8> {
        safetensors_header(self.tensors.iter().map(|Stored { initializer, dtype }| HeaderEntry {
            name: &initializer.name,
            dtype: *dtype,
            shape: &initializer.shape,
        }))
    }
}

impl Plan {
    /// The text of the table of tensors, for a model in several files.
    pub(super) fn index(&self) -> Option<String> {
        if self.shards.len() < 2 {
            return None;
        }
        let tensors =
            || self.shards.iter().flat_map(|shard| shard.tensors.iter().map(move |stored| (stored, shard)));
        let parameters =
            tensors().map(|(stored, _)| stored.initializer.shape.iter().product::<usize>() as u64).sum();
        let places = tensors().map(|(stored, shard)| (stored.initializer.name.as_str(), shard.name.as_str()));
        Some(index_text(places, self.bytes, parameters))
    }
}
