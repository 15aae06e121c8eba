//! `adapter_config.json`: what PEFT knows about an adapter besides its tensors.
//!
//! Only plain LoRA: `bias` is none, `fan_in_fan_out` false and so on for every adapter that exists here; the rest is
//! refused (see `unsupported`) rather than kept in a field.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{AdapterError, Selection, TargetModules, unsupported};

/// The longest text, in bytes: PEFT writes a thousand, and more where it names every module of a model.
const LONGEST: usize = 128 << 10;

/// The settings of a plain LoRA adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterConfig {
    /// Name or directory of the model that it was trained on.
    pub base_model_name_or_path: Option<String>,
    /// Rank, at least 1.
    pub r: usize,
    /// Numerator of the scaling.
    pub lora_alpha: f64,
    /// Probability of dropping an input of A while training, in [0, 1).
    pub lora_dropout: f64,
    /// The adapted modules: `target_modules`, `layers_to_transform` and `layers_pattern`.
    pub selection: Selection,
    /// Scaling alpha / sqrt(r) instead of alpha / r.
    pub use_rslora: bool,
}

/// What is written: in alphabetical order as PEFT does, and nothing that an old PEFT does not know.
#[derive(Serialize)]
struct Written<'a> {
    base_model_name_or_path: Option<&'a str>,
    bias: &'static str,
    fan_in_fan_out: bool,
    inference_mode: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers_pattern: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers_to_transform: Option<&'a [u64]>,
    lora_alpha: Value,
    lora_dropout: f64,
    peft_type: &'static str,
    r: usize,
    target_modules: Value,
    task_type: &'static str,
    #[serde(skip_serializing_if = "is_false")]
    use_rslora: bool, // newer than the rest, so only where it is needed
}

fn is_false(value: &bool) -> bool {
    !value
}

impl AdapterConfig {
    /// What the product B·A is multiplied by: alpha / r, or alpha / sqrt(r) for rsLoRA.
    pub fn scaling(&self) -> f64 {
        let r = self.r as f64;
        self.lora_alpha / if self.use_rslora { r.sqrt() } else { r }
    }

    /// Parses the text of the file at `path`, which is only named in errors.
    ///
    /// # Errors
    /// [`AdapterError::Config`] for invalid settings, [`AdapterError::Unsupported`] for what gptjc does not compute.
    pub fn from_json(text: &str, path: &Path) -> Result<AdapterConfig, AdapterError> {
        let invalid = |reason| AdapterError::Config { path: path.to_owned(), reason };
        if text.len() > LONGEST {
            return Err(invalid(format!("it has {} bytes, expected at most {LONGEST}", text.len())));
        }
        let config: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| invalid(format!("expected a JSON object with the settings: {error}")))?;
        if let Some((setting, advice)) = unsupported::find(&config) {
            return Err(AdapterError::Unsupported { path: path.to_owned(), setting, advice });
        }
        Settings(&config).read().map_err(invalid)
    }

    /// The text of adapter_config.json: the settings that every version of PEFT reads, in a fixed order.
    pub fn to_json(&self) -> String {
        let integral = self.lora_alpha.fract() == 0.0 && self.lora_alpha.abs() < 1e15;
        let written = Written {
            base_model_name_or_path: self.base_model_name_or_path.as_deref(),
            bias: "none",
            fan_in_fan_out: false,
            inference_mode: true,
            layers_pattern: Some(self.selection.layers_pattern.as_slice())
                .filter(|patterns| !patterns.is_empty()),
            layers_to_transform: self.selection.layers.as_deref(),
            // PEFT declares an integer; write one wherever it is one.
            lora_alpha: if integral { (self.lora_alpha as i64).into() } else { self.lora_alpha.into() },
            lora_dropout: self.lora_dropout,
            peft_type: "LORA",
            r: self.r,
            target_modules: self.selection.modules.to_json(),
            task_type: "CAUSAL_LM",
            use_rslora: self.use_rslora,
        };
        // Strings, numbers and a map with string keys: serialisation has nothing to fail on.
        serde_json::to_string_pretty(&written).unwrap_or_default() + "\n"
    }
}

/// Typed access to the settings; errors are sentences that name the setting.
struct Settings<'a>(&'a Map<String, Value>);

impl Settings<'_> {
    fn read(&self) -> Result<AdapterConfig, String> {
        let r = self.value("r").and_then(Value::as_u64).filter(|r| *r > 0);
        let r = r.ok_or_else(|| self.wrong("r", "an integer of 1 or more"))?;
        let lora_dropout = self.number("lora_dropout", Some(0.0))?;
        if !(0.0..1.0).contains(&lora_dropout) {
            return Err(self.wrong("lora_dropout", "a number from 0 to below 1"));
        }
        Ok(AdapterConfig {
            base_model_name_or_path: self.optional_text("base_model_name_or_path")?,
            r: r as usize,
            lora_alpha: self.number("lora_alpha", None)?,
            lora_dropout,
            selection: self.selection()?,
            use_rslora: self.flag("use_rslora")?,
        })
    }

    fn selection(&self) -> Result<Selection, String> {
        Ok(Selection {
            modules: self.target_modules()?,
            layers: self.layers_to_transform()?,
            layers_pattern: self.layers_pattern()?,
        })
    }

    /// The layers, ascending, each once; an empty list is none, as for PEFT.
    fn layers_to_transform(&self) -> Result<Option<Vec<u64>>, String> {
        let layers: Option<Vec<u64>> = match self.value("layers_to_transform") {
            None => return Ok(None),
            Some(Value::Array(items)) => items.iter().map(Value::as_u64).collect(),
            Some(one) => one.as_u64().map(|layer| vec![layer]),
        };
        let expected = "a layer's number or a list of them";
        let mut layers = layers.ok_or_else(|| self.wrong("layers_to_transform", expected))?;
        layers.sort_unstable();
        layers.dedup();
        Ok(Some(layers).filter(|layers| !layers.is_empty()))
    }

    fn layers_pattern(&self) -> Result<Vec<String>, String> {
        let patterns: Option<Vec<String>> = match self.value("layers_pattern") {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            Some(one) => one.as_str().map(|pattern| vec![pattern.to_owned()]),
        };
        let patterns =
            patterns.ok_or_else(|| self.wrong("layers_pattern", "a string or a list of strings"))?;
        Ok(patterns.into_iter().filter(|pattern| !pattern.is_empty()).collect())
    }

    fn target_modules(&self) -> Result<TargetModules, String> {
        let expected = "a list of module names, a regular expression or \"all-linear\"";
        match self.value("target_modules") {
            Some(Value::String(text)) if text == "all-linear" => Ok(TargetModules::AllLinear),
            Some(Value::String(text)) if !text.is_empty() => Ok(TargetModules::Pattern(text.clone())),
            Some(Value::Array(items)) if !items.is_empty() => {
                let names: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
                names.map(TargetModules::names).ok_or_else(|| self.wrong("target_modules", expected))
            }
            _ => Err(self.wrong("target_modules", expected)),
        }
    }

    /// The setting, unless it is null.
    fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn number(&self, key: &str, default: Option<f64>) -> Result<f64, String> {
        match self.value(key) {
            Some(value) => value.as_f64().ok_or_else(|| self.wrong(key, "a number")),
            None => default.ok_or_else(|| self.wrong(key, "a number")),
        }
    }

    fn flag(&self, key: &str) -> Result<bool, String> {
        match self.value(key) {
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, "true or false")),
            None => Ok(false),
        }
    }

    fn optional_text(&self, key: &str) -> Result<Option<String>, String> {
        match self.value(key) {
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.wrong(key, "a string or null")),
            None => Ok(None),
        }
    }

    fn wrong(&self, key: &str, expected: &str) -> String {
        let found = self.0.get(key).map_or("nothing".to_owned(), Value::to_string);
        format!(
            "`{key}`: expected {expected}, found {found}; correct it, or save the adapter again with PEFT"
        )
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
