//! Settings of PEFT that change what an adapter means and that gptjc does not compute.
//!
//! Each is refused with its own advice. A setting that this table does not know is refused if it looks switched
//! on (`true`, a non-empty list or object); bare numbers and strings are parameters of some feature that
//! is off, and are passed over. So a file of a newer PEFT loads as long as it uses nothing new.

use serde_json::{Map, Value};

/// Settings that are read elsewhere, or describe how an adapter came about and not what it computes.
const HARMLESS: [&str; 24] = [
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "r",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
];

const TRAIN_ANEW: &str = "train or convert it as plain LoRA";
const MERGE: &str =
    "merge it into its base model with PEFT (`merge_and_unload`) and start from the merged model";

/// Settings that must be absent, null, false or empty.
const MUST_BE_OFF: [(&str, &str); 18] = [
    ("use_dora", MERGE),
    ("lora_bias", MERGE),
    ("modules_to_save", MERGE),
    ("trainable_token_indices", MERGE),
    ("rank_pattern", "save an adapter with the same rank in all modules"),
    ("alpha_pattern", "save an adapter with the same lora_alpha in all modules"),
    ("layer_replication", MERGE),
    ("exclude_modules", "name the wanted modules in target_modules instead"),
    ("target_parameters", "name whole modules in target_modules instead"),
    ("megatron_config", TRAIN_ANEW),
    ("use_qalora", MERGE),
    ("use_bdlora", MERGE),
    ("alora_invocation_tokens", TRAIN_ANEW),
    ("arrow_config", TRAIN_ANEW),
    ("kasa_config", MERGE),
    ("monteclora_config", TRAIN_ANEW),
    ("velora_config", TRAIN_ANEW),
    ("fan_in_fan_out", "GPT-J's linear layers are stored [out, in]: set fan_in_fan_out to false"),
];

/// Ways of initialising that also change the base weights: such an adapter means nothing on the original ones.
const CHANGES_BASE: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];
const CONVERT: &str =
    "save it with `path_initial_model_for_weight_conversion`, which makes it fit the original base weights";

/// The first unsupported setting of an adapter_config.json, as it stands there, and what to do.
pub(super) fn find(config: &Map<String, Value>) -> Option<(String, &'static str)> {
    let shown = |key: &str, value: &Value| format!("`{key}: {value}`");
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    match config.get("peft_type") {
        Some(Value::String(kind)) if kind == "LORA" => {}
        other => {
            let value = other.unwrap_or(&Value::Null);
            return Some((shown("peft_type", value), "give an adapter with peft_type LORA"));
        }
    }
    if let Some(task) = text("task_type").filter(|task| *task != "CAUSAL_LM") {
        return Some((
            shown("task_type", &task.into()),
            "give an adapter of a causal language model (CAUSAL_LM)",
        ));
    }
    if let Some(bias) = text("bias").filter(|bias| *bias != "none") {
        return Some((shown("bias", &bias.into()), MERGE));
    }
    let init = text("init_lora_weights").filter(|init| CHANGES_BASE.iter().any(|way| init.starts_with(way)));
    if let Some(init) = init {
        return Some((shown("init_lora_weights", &init.into()), CONVERT));
    }
    for (key, advice) in MUST_BE_OFF {
        if let Some(value) = config.get(key).filter(|value| is_on(value)) {
            return Some((shown(key, value), advice));
        }
    }
    let unknown = config.iter().find(|(key, value)| {
        !HARMLESS.contains(&key.as_str())
            && matches!(value, Value::Bool(true) | Value::Array(_) | Value::Object(_))
            && is_on(value)
    });
    unknown.map(|(key, value)| {
        (shown(key, value), "switch that feature off, or merge the adapter into its base model with PEFT")
    })
}

fn is_on(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Number(_) | Value::String(_) => true,
    }
}
