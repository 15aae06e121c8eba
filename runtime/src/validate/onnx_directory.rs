//! Opens an export directory and checks it before ONNX Runtime sees it.
//!
//! `model.onnx` must have the inputs and outputs that `config.json` implies, and every part of every external file that it
//! refers to must be there, inside of the directory. So a damaged or foreign directory gives one clear message, and a
//! model cannot name files of somebody else.
//!
//! Does not: check nodes or values.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use gptjc_graphs::onnx::{
    DeclaredDim, DeclaredValue, ElementType, ExternalEntry, MODEL_FILE, ModelSummary, ReadError, Uncommon,
};
use serde::Deserialize;

/// The part of `config.json` that a session needs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ModelSizes {
    /// Must be `gptj`.
    pub model_type: String,
    /// Number of blocks.
    pub n_layer: usize,
    /// Width of the hidden state.
    pub n_embd: usize,
    /// Attention heads.
    pub n_head: usize,
    /// Number of tokens.
    pub vocab_size: usize,
    /// Number of positions.
    pub n_positions: usize,
    /// The token that ends a text.
    #[serde(default)]
    pub eos_token_id: Option<u32>,
}

/// A directory that passed all checks.
#[derive(Clone, Debug)]
pub struct OnnxDirectory {
    /// The model file.
    pub model: PathBuf,
    /// Sizes from the configuration.
    pub sizes: ModelSizes,
    /// Whether weights are stored in a 16-bit float type and widened in the graph.
    pub widens_weights: bool,
    /// What of it another runtime than ONNX Runtime may not know.
    pub uncommon: Uncommon,
    /// What the model's writer noted about it.
    pub metadata: BTreeMap<String, String>,
}

/// Why a directory is not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file cannot be read.
    #[error("cannot read `{}`: {source}; expected an export directory, as `gptjc export` writes it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The configuration is not understood.
    #[error("`{}` is no configuration of a GPT-J: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The model file is damaged.
    #[error("`{}`: {source}; export the model again", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ReadError,
    },
    /// The model has other inputs or outputs.
    #[error(
        "`{}` is not a text-generation model with past that fits its config.json: {what}; expected {expected}, found \
         {found}. Export with `gptjc export`, or with Optimum's task `text-generation-with-past`",
        path.display()
    )]
    Interface {
        /// The model file.
        path: PathBuf,
        /// Which input or output.
        what: String,
        /// What the configuration implies.
        expected: String,
        /// What the model declares.
        found: String,
    },
    /// A weight refers to a file outside of the directory.
    #[error(
        "`{}`: tensor `{tensor}` lies in `{location}`, which leads out of the directory; refused. Weights must lie beside \
         the model, in a plain file",
        path.display()
    )]
    OutsidePath {
        /// The model file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What it refers to.
        location: String,
    },
    /// The file of the weights is not there.
    #[error(
        "`{}` is missing: it holds the weights of `{MODEL_FILE}` (first `{tensor}`). Copy it beside the model, or export again",
        path.display()
    )]
    DataMissing {
        /// The file.
        path: PathBuf,
        /// The first tensor in it.
        tensor: String,
    },
    /// The file of the weights is cut off.
    #[error(
        "`{}` has {found} bytes, but tensor `{tensor}` ends at byte {needed}: the file is cut off. Copy it again, or export again",
        path.display()
    )]
    DataShort {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where it ends.
        needed: u64,
        /// Bytes of the file.
        found: u64,
    },
}

impl OnnxDirectory {
    /// Reads and checks a directory.
    ///
    /// # Errors
    /// [`OpenError`] for the first thing that does not fit.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let sizes = read_sizes(&directory.join("config.json"))?;
        let model = directory.join(MODEL_FILE);
        let bytes = fs::read(&model).map_err(|source| OpenError::Read { path: model.clone(), source })?;
        let summary = ModelSummary::decode(&bytes)
            .map_err(|source| OpenError::Model { path: model.clone(), source })?;
        check_interface(&model, &sizes, &summary)?;
        check_external(directory, &model, &summary.external)?;
        let ModelSummary { widens_weights, uncommon, metadata, .. } = summary;
        Ok(OnnxDirectory { model, sizes, widens_weights, uncommon, metadata })
    }
}

fn read_sizes(path: &Path) -> Result<ModelSizes, OpenError> {
    let text = fs::read(path).map_err(|source| OpenError::Read { path: path.into(), source })?;
    let refuse = |reason: String| OpenError::Config { path: path.into(), reason };
    let sizes: ModelSizes = serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
    if sizes.model_type != "gptj" {
        return Err(refuse(format!("`model_type` is `{}`, expected `gptj`", sizes.model_type)));
    }
    if sizes.n_layer == 0 || sizes.n_head == 0 || !sizes.n_embd.is_multiple_of(sizes.n_head) {
        let ModelSizes { n_layer, n_embd, n_head, .. } = sizes;
        return Err(refuse(format!(
            "`n_layer` is {n_layer}, `n_embd` is {n_embd}, `n_head` is {n_head}; expected layers, and heads that divide the width"
        )));
    }
    Ok(sizes)
}

/// What a value must be: its type and its dimensions, `None` where the data decides.
type Expected = (ElementType, Vec<Option<usize>>);

fn check_interface(model: &Path, sizes: &ModelSizes, summary: &ModelSummary) -> Result<(), OpenError> {
    let cache = (ElementType::F32, vec![None, Some(sizes.n_head), None, Some(sizes.n_embd / sizes.n_head)]);
    let ids = || (ElementType::I64, vec![None, None]);
    let mut inputs: BTreeMap<String, Expected> =
        ["input_ids", "attention_mask", "position_ids"].map(|name| (name.to_owned(), ids())).into();
    let logits = (ElementType::F32, vec![None, None, Some(sizes.vocab_size)]);
    let mut outputs: BTreeMap<String, Expected> = [("logits".to_owned(), logits)].into();
    // One layer more than there are inputs is enough to find that one is missing, whatever the config says.
    for layer in 0..sizes.n_layer.min(summary.inputs.len() + 1) {
        for part in ["key", "value"] {
            inputs.insert(format!("past_key_values.{layer}.{part}"), cache.clone());
            outputs.insert(format!("present.{layer}.{part}"), cache.clone());
        }
    }
    check_values(model, "input", &inputs, &summary.inputs)?;
    check_values(model, "output", &outputs, &summary.outputs)
}

fn check_values(
    model: &Path,
    kind: &str,
    expected: &BTreeMap<String, Expected>,
    found: &[DeclaredValue],
) -> Result<(), OpenError> {
    let refuse = |what: String, expected: String, found: String| OpenError::Interface {
        path: model.into(),
        what,
        expected,
        found,
    };
    let by_name: BTreeMap<&str, &DeclaredValue> =
        found.iter().map(|value| (value.name.as_str(), value)).collect();
    for (name, expected) in expected {
        let value = by_name.get(name.as_str()).copied();
        if !value.is_some_and(|value| fits(expected, value)) {
            let found = value.map_or("no such ".to_owned() + kind, show_found);
            return Err(refuse(format!("{kind} `{name}`"), show_expected(expected), found));
        }
    }
    match found.iter().find(|value| !expected.contains_key(&value.name)) {
        Some(extra) => {
            Err(refuse(format!("{kind} `{}`", extra.name), format!("no such {kind}"), show_found(extra)))
        }
        None => Ok(()),
    }
}

fn fits((element, dims): &Expected, found: &DeclaredValue) -> bool {
    let Some(found_dims) = &found.dims else { return false };
    let dim_fits = |(expected, found): (&Option<usize>, &DeclaredDim)| match (expected, found) {
        (Some(size), DeclaredDim::Fixed(found)) => i64::try_from(*size) == Ok(*found),
        // A size that the data decides may be anything; a fixed one would refuse other batches.
        (_, DeclaredDim::Named(_)) => true,
        (None, DeclaredDim::Fixed(_)) => false,
    };
    found.element == Some(*element)
        && dims.len() == found_dims.len()
        && dims.iter().zip(found_dims).all(dim_fits)
}

fn show_expected((element, dims): &Expected) -> String {
    let dims: Vec<String> =
        dims.iter().map(|dim| dim.map_or("?".to_owned(), |size| size.to_string())).collect();
    format!("{} [{}]", element.name(), dims.join(", "))
}

fn show_found(value: &DeclaredValue) -> String {
    let element = value.element.map_or("another type", ElementType::name);
    let dims: Vec<String> = value.dims.iter().flatten().map(ToString::to_string).collect();
    format!("{element} [{}]", dims.join(", "))
}

fn check_external(directory: &Path, model: &Path, entries: &[ExternalEntry]) -> Result<(), OpenError> {
    let mut lengths: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in entries {
        let path = directory.join(&entry.location);
        let found = match lengths.get(entry.location.as_str()) {
            Some(&length) => length,
            None => {
                let length = plain_file_length(directory, model, entry)?;
                lengths.insert(&entry.location, length);
                length
            }
        };
        let needed = entry.offset.saturating_add(entry.length.unwrap_or(0));
        if needed > found {
            return Err(OpenError::DataShort { path, tensor: entry.tensor.clone(), needed, found });
        }
    }
    Ok(())
}

/// The length of the file that an entry names, after a check that it is inside of the directory.
fn plain_file_length(directory: &Path, model: &Path, entry: &ExternalEntry) -> Result<u64, OpenError> {
    let outside = || OpenError::OutsidePath {
        path: model.into(),
        tensor: entry.tensor.clone(),
        location: entry.location.clone(),
    };
    let location = Path::new(&entry.location);
    let is_plain = location.components().all(|component| matches!(component, Component::Normal(_)));
    if !is_plain || location.as_os_str().is_empty() {
        return Err(outside());
    }
    let path = directory.join(location);
    let missing = || OpenError::DataMissing { path: path.clone(), tensor: entry.tensor.clone() };
    let read = |source| OpenError::Read { path: path.clone(), source };
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
        Err(error) => return Err(read(error)),
    };
    // Follows links: a link inside of the directory is fine, one that leads out of it is not.
    if !real.starts_with(directory.canonicalize().map_err(read)?) {
        return Err(outside());
    }
    let metadata = fs::metadata(&real).map_err(read)?;
    if metadata.is_file() { Ok(metadata.len()) } else { Err(missing()) }
}

#[cfg(test)]
#[path = "onnx_directory_tests.rs"]
mod tests;
