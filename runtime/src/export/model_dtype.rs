//! `config.json` beside weights of another type than the source's: the same, with that type.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::error::ExportError;
use super::sidecars::Sidecar;
use crate::weights::WeightDtype;

const CONFIG: &str = "config.json";
/// Names of the setting, the old one first; both are read by transformers from 4.56 on.
const KEYS: [&str; 2] = ["torch_dtype", "dtype"];

/// `sidecars`, of which `config.json` says `dtype`.
pub(crate) fn with_dtype(sidecars: Vec<Sidecar>, dtype: WeightDtype) -> Result<Vec<Sidecar>, ExportError> {
    let edit = |sidecar| match sidecar {
        Sidecar::Copy(path) if path.file_name().is_some_and(|name| name == CONFIG) => {
            Ok(Sidecar::Text { name: CONFIG.into(), text: edited(&path, dtype)? })
        }
        other => Ok(other),
    };
    sidecars.into_iter().map(edit).collect()
}

fn edited(path: &Path, dtype: WeightDtype) -> Result<String, ExportError> {
    let text = fs::read_to_string(path).map_err(ExportError::io("read", path))?;
    set_dtype(&text, dtype).map_err(|reason| ExportError::Json { path: path.to_owned(), reason })
}

/// The text of a configuration with its type set, under the names it has, or the one that every version reads.
fn set_dtype(text: &str, dtype: WeightDtype) -> Result<String, String> {
    let mut config: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let object = config.as_object_mut().ok_or("expected an object, found another JSON value")?;
    let name = Value::from(dtype.hugging_face_name());
    let present: Vec<&str> = KEYS.into_iter().filter(|key| object.contains_key(*key)).collect();
    for key in if present.is_empty() { &KEYS[..1] } else { &present } {
        object.insert((*key).to_owned(), name.clone());
    }
    Ok(format!("{config:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str) -> Value {
        serde_json::from_str(&set_dtype(text, WeightDtype::Bf16).unwrap()).unwrap()
    }

    #[test]
    fn the_type_is_set_under_the_name_that_is_there() {
        let new = edited(r#"{"dtype": "float32", "n_layer": 2, "layer_norm_epsilon": 1e-05}"#);
        let expected = serde_json::json!({"dtype": "bfloat16", "n_layer": 2, "layer_norm_epsilon": 1e-05});
        assert_eq!(new, expected);
        assert_eq!(edited(r#"{"torch_dtype": null}"#), serde_json::json!({"torch_dtype": "bfloat16"}));
        assert_eq!(edited("{}"), serde_json::json!({"torch_dtype": "bfloat16"}));
        let both = edited(r#"{"torch_dtype": "float16", "dtype": "float16"}"#);
        assert_eq!(both, serde_json::json!({"torch_dtype": "bfloat16", "dtype": "bfloat16"}));
        assert!(set_dtype("[]", WeightDtype::F32).is_err() && set_dtype("{", WeightDtype::F32).is_err());
    }
}
