//! `model.safetensors.index.json`: which tensor of a sharded checkpoint is in which file.
//!
//! A file is named by its plain name only: an index that leads out of its directory is refused.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;

use super::WeightsError;

/// The part of the index that we read. `metadata` (total_size) is not needed: the files say it themselves.
#[derive(Debug, Deserialize)]
struct IndexFile {
    weight_map: BTreeMap<String, String>,
}

/// Reads the index at `path`: tensor name to file name, each a plain name inside the directory.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, String>, WeightsError> {
    let invalid = |reason| WeightsError::IndexInvalid { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path)
        .map_err(|source| WeightsError::IndexRead { path: path.to_owned(), source })?;
    let index: IndexFile = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    if index.weight_map.is_empty() {
        return Err(invalid("`weight_map` names no tensor".to_owned()));
    }
    for (tensor, file) in &index.weight_map {
        let mut components = Path::new(file).components();
        let plain = matches!(components.next(), Some(Component::Normal(name)) if name == file.as_str());
        if !plain {
            return Err(invalid(format!(
                "tensor `{tensor}` is said to be in `{file}`, expected the plain name of a file in the same directory"
            )));
        }
    }
    Ok(index.weight_map)
}
