//! Hugging Face `config.json` of a GPT-J.

use crate::plan::ModelConfig;
use serde::Deserialize;

/// A `config.json` that is not a GPT-J that can be compiled.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, or fields of other types.
    #[error("this is not a Hugging Face config.json of a GPT-J: {0}")]
    Json(#[from] serde_json::Error),
    /// A field with a value that GPT-J cannot have or that is not implemented.
    #[error("`{field}`: expected {expected}, found {found}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// What it should have been.
        expected: String,
        /// What it was.
        found: String,
    },
}

#[derive(Deserialize)]
struct Raw {
    model_type: Option<String>,
    n_layer: Option<u64>,
    n_embd: Option<u64>,
    n_head: Option<u64>,
    rotary_dim: Option<u64>,
    n_inner: Option<u64>,
    vocab_size: Option<u64>,
    n_positions: Option<u64>,
    layer_norm_epsilon: Option<f64>,
    activation_function: Option<String>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attn_pdrop: f64,
    #[serde(default)]
    embd_pdrop: f64,
    #[serde(default)]
    resid_pdrop: f64,
}

fn wrong(field: &'static str, expected: impl Into<String>, found: impl ToString) -> ConfigError {
    ConfigError::Field { field, expected: expected.into(), found: found.to_string() }
}

/// A size that must be given and is at most `limit`.
fn size(field: &'static str, value: Option<u64>, limit: u64) -> Result<u64, ConfigError> {
    match value {
        Some(value) if (1..=limit).contains(&value) => Ok(value),
        Some(value) => Err(wrong(field, format!("a size from 1 to {limit}"), value)),
        None => Err(wrong(field, format!("a size from 1 to {limit}"), "nothing")),
    }
}

/// Reads the dimensions of a GPT-J out of a `config.json`.
///
/// # Errors
/// [`ConfigError`] if it is not JSON, not a GPT-J, or a GPT-J with a feature that is not implemented.
pub fn parse(json: &str) -> Result<ModelConfig, ConfigError> {
    let raw: Raw = serde_json::from_str(json)?;
    match raw.model_type.as_deref() {
        Some("gptj") => {}
        other => return Err(wrong("model_type", "gptj", other.unwrap_or("nothing"))),
    }
    if let Some(other) = raw.activation_function.as_deref().filter(|&name| name != "gelu_new") {
        return Err(wrong("activation_function", "gelu_new", other));
    }
    if raw.tie_word_embeddings {
        return Err(wrong(
            "tie_word_embeddings",
            "false: lm_head of a GPT-J has a weight and a bias of its own",
            true,
        ));
    }
    let dropouts =
        [("attn_pdrop", raw.attn_pdrop), ("embd_pdrop", raw.embd_pdrop), ("resid_pdrop", raw.resid_pdrop)];
    for (field, value) in dropouts {
        if value != 0.0 {
            return Err(wrong(
                field,
                "0.0 (GPT-J is trained without; adapters have their own dropout)",
                value,
            ));
        }
    }
    let n_embd = size("n_embd", raw.n_embd, 1 << 20)?;
    let n_head = size("n_head", raw.n_head, n_embd)?;
    if !n_embd.is_multiple_of(n_head) {
        return Err(wrong("n_head", format!("a divisor of n_embd = {n_embd}"), n_head));
    }
    let head_dim = n_embd / n_head;
    let rotary_dim = size("rotary_dim", raw.rotary_dim, head_dim)?;
    if !rotary_dim.is_multiple_of(2) {
        return Err(wrong("rotary_dim", "an even number: lanes are rotated in pairs", rotary_dim));
    }
    let layer_norm_epsilon = raw.layer_norm_epsilon.unwrap_or(1e-5);
    if !(layer_norm_epsilon > 0.0 && layer_norm_epsilon < 1.0) {
        return Err(wrong("layer_norm_epsilon", "a number between 0 and 1", layer_norm_epsilon));
    }
    Ok(ModelConfig {
        // A dropout site is one of 8 modules of a layer, and there are 2^16 sites.
        n_layer: size("n_layer", raw.n_layer, 8191)?,
        n_embd,
        n_head,
        rotary_dim,
        n_inner: size("n_inner", raw.n_inner.or(Some(4 * n_embd)), 1 << 22)?,
        vocab_size: size("vocab_size", raw.vocab_size, 1 << 24)?,
        n_positions: size("n_positions", raw.n_positions, 65536)?,
        layer_norm_epsilon,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"{"model_type": "gptj", "n_layer": 2, "n_embd": 64, "n_head": 4, "rotary_dim": 8,
        "n_inner": null, "vocab_size": 512, "n_positions": 256, "layer_norm_epsilon": 1e-05,
        "activation_function": "gelu_new"}"#;

    #[test]
    fn a_config_is_read() {
        let config = parse(SMALL).unwrap();
        assert_eq!((config.n_inner, config.head_dim(), config.layer_norm_epsilon), (256, 16, 1e-5));
    }

    #[test]
    fn what_is_not_a_gptj_is_refused() {
        let cases = [
            ("\"gptj\"", "\"gpt2\"", "`model_type`: expected gptj, found gpt2"),
            ("gelu_new", "relu", "`activation_function`: expected gelu_new, found relu"),
            ("\"n_head\": 4", "\"n_head\": 5", "`n_head`: expected a divisor of n_embd = 64, found 5"),
            ("\"rotary_dim\": 8", "\"rotary_dim\": 7", "`rotary_dim`: expected an even number"),
            (
                "\"rotary_dim\": 8",
                "\"rotary_dim\": 32",
                "`rotary_dim`: expected a size from 1 to 16, found 32",
            ),
            ("\"n_layer\": 2", "\"n_layer\": 0", "`n_layer`: expected a size from 1 to 8191, found 0"),
            (
                "\"vocab_size\": 512",
                "\"vocab\": 512",
                "`vocab_size`: expected a size from 1 to 16777216, found nothing",
            ),
            ("1e-05", "0", "`layer_norm_epsilon`: expected a number between 0 and 1, found 0"),
            ("\"n_inner\": null", "\"attn_pdrop\": 0.1", "`attn_pdrop`: expected 0.0"),
            ("\"n_inner\": null", "\"tie_word_embeddings\": true", "`tie_word_embeddings`: expected false"),
            ("{", "[", "this is not a Hugging Face config.json"),
        ];
        for (from, to, message) in cases {
            let error = parse(&SMALL.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.starts_with(message), "{from} -> {to}: {error}");
        }
    }
}
