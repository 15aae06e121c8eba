//! The files beside the model: configuration, generation defaults and tokenizer.
//!
//! Does not: interpret the configuration beyond what generation defaults need.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::directory::write_file;
use super::error::ExportError;

const CONFIG: &str = "config.json";
const GENERATION_CONFIG: &str = "generation_config.json";

/// Files of a tokenizer, in the two forms in which GPT-J's is published.
const TOKENIZER: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
];

/// Every name that [`sidecars_of_model`] gives.
pub(crate) const NAMES: [&str; 8] = [
    CONFIG,
    GENERATION_CONFIG,
    TOKENIZER[0],
    TOKENIZER[1],
    TOKENIZER[2],
    TOKENIZER[3],
    TOKENIZER[4],
    TOKENIZER[5],
];

/// A file that goes beside the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sidecar {
    /// A copy of a file, under its own name.
    Copy(PathBuf),
    /// A text under a name.
    Text {
        /// File name.
        name: String,
        /// Contents.
        text: String,
    },
}

impl Sidecar {
    pub(crate) fn write_into(&self, directory: &Path) -> Result<(), ExportError> {
        let (name, contents) = match self {
            Sidecar::Copy(path) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                (name, fs::read(path).map_err(ExportError::io("read", path))?)
            }
            Sidecar::Text { name, text } => (name.clone(), text.clone().into_bytes()),
        };
        // Only names that an export knows, so that a later one may replace it.
        if !NAMES.contains(&name.as_str()) {
            return Err(ExportError::FileName(name));
        }
        write_file(&directory.join(name), &contents)
    }
}

/// What goes beside a model from its checkpoint's directory: `config.json`, which must be there;
/// `generation_config.json`, made of the configuration's token ids if it is not; and the files of the tokenizer, from
/// `tokenizer_directory` if it is given.
///
/// # Errors
/// [`ExportError`] if the configuration cannot be read.
pub fn sidecars_of_model(
    model_directory: &Path,
    tokenizer_directory: Option<&Path>,
) -> Result<Vec<Sidecar>, ExportError> {
    let config = model_directory.join(CONFIG);
    let text = fs::read_to_string(&config).map_err(ExportError::io("read", &config))?;
    let parsed: Value = serde_json::from_str(&text)
        .map_err(|error| ExportError::Json { path: config.clone(), reason: error.to_string() })?;
    let mut sidecars = vec![Sidecar::Copy(config)];
    let generation = model_directory.join(GENERATION_CONFIG);
    if generation.is_file() {
        sidecars.push(Sidecar::Copy(generation));
    } else {
        let text = format!("{:#}\n", generation_config(&parsed));
        sidecars.push(Sidecar::Text { name: GENERATION_CONFIG.into(), text });
    }
    let tokenizer = tokenizer_directory.unwrap_or(model_directory);
    sidecars.extend(
        TOKENIZER
            .map(|name| tokenizer.join(name))
            .into_iter()
            .filter(|path| path.is_file())
            .map(Sidecar::Copy),
    );
    Ok(sidecars)
}

/// What transformers makes of a configuration without generation defaults.
fn generation_config(config: &Value) -> Value {
    let mut made = Map::new();
    made.insert("_from_model_config".into(), json!(true));
    for key in ["bos_token_id", "eos_token_id", "pad_token_id"] {
        if let Some(id) = config.get(key).filter(|id| !id.is_null()) {
            made.insert(key.into(), id.clone());
        }
    }
    Value::Object(made)
}
