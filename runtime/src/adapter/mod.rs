//! LoRA adapters in PEFT's own files, both ways.
//!
//! An adapter directory holds `adapter_config.json` and `adapter_model.safetensors`; the tensors are called
//! `base_model.model.transformer.h.N.attn.q_proj.lora_A.weight` (A is `[r, in]`) and `...lora_B.weight` (B is `[out, r]`).
//! Reading takes what any PEFT version writes and refuses, one message each, what gptjc does not compute; writing is
//! minimal, so that old and new versions read it.
//! Does not: merge, or read `adapter_model.bin`.

mod config;
mod error;
mod init;
mod names;
mod selection;
mod store;
mod unsupported;

pub use config::AdapterConfig;
pub use error::AdapterError;
pub use names::{lora_a_name, lora_b_name, module_of, tensor_specs};
pub use selection::{Matcher, Selection, SelectionError, TargetModules};
pub use store::{Adapter, AdapterTensor};

/// File name of the settings.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// File name of the tensors.
pub const MODEL_FILE: &str = "adapter_model.safetensors";
