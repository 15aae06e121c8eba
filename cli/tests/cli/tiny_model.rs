//! A model of one narrow block with GPT-J's vocabulary and tokenizer, as a checkpoint and as an export.

use crate::common::gptjc;
use crate::reference_workflow::{config, write_model};
use gptjc_graphs::onnx::ElementType;
use gptjc_graphs::onnx::gptj::{ExportOptions, GptjShape, inference_model};
use gptjc_runtime::export::{ExportRequest, MemoryTensors, export, sidecars_of_model};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The model's directories.
pub(crate) struct TinyModel {
    /// Where everything is.
    pub(crate) root: TempDir,
}

impl TinyModel {
    /// Writes the checkpoint and its export.
    pub(crate) fn new() -> Self {
        let tiny = Self { root: TempDir::new().unwrap() };
        write_model(&tiny.model());
        fs::write(tiny.model().join("config.json"), config().to_string()).unwrap();
        tiny.export();
        tiny
    }

    /// A path beside the model.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The checkpoint.
    pub(crate) fn model(&self) -> PathBuf {
        self.path("model")
    }

    /// The export.
    pub(crate) fn onnx(&self) -> PathBuf {
        self.path("onnx")
    }

    fn export(&self) {
        let sizes = config();
        let size = |key: &str| sizes[key].as_u64().unwrap() as usize;
        let shape = GptjShape {
            n_layer: size("n_layer"),
            n_embd: size("n_embd"),
            n_head: size("n_head"),
            rotary_dim: size("rotary_dim"),
            n_inner: size("n_inner"),
            vocab_size: size("vocab_size"),
            n_positions: size("n_positions"),
            layer_norm_epsilon: sizes["layer_norm_epsilon"].as_f64().unwrap(),
        };
        let options = ExportOptions::plain(ElementType::F32, None);
        let model = inference_model(&shape, &options).unwrap();
        let sidecars = sidecars_of_model(&self.model(), None).unwrap();
        let directory = self.onnx();
        let request =
            ExportRequest { model: &model, sidecars: &sidecars, directory: &directory, overwrite: false };
        export(&request, &read_tensors(&self.model().join("model.safetensors")), &mut |_| {}).unwrap();
    }

    /// Writes rows, one of them with label `-` and one without any, and returns the file.
    pub(crate) fn rows(&self) -> PathBuf {
        let row = |premise: &str, hypothesis: &str, label: Value| {
            format!("{}\n", json!({"sentence1": premise, "sentence2": hypothesis, "gold_label": label}))
        };
        let text = [
            row("The clerk put three letters on the desk.", "There were letters.", json!("entailment")),
            row("It rained.", "Nobody was at home that day.", json!("neutral")),
            row("A long sentence about nothing at all, said twice.", "Short.", json!("contradiction")),
            "\n".to_owned(),
            row("No.", "Yes.", json!("-")),
            format!("{}\n", json!({"premise": "She sings.", "hypothesis": "He sings loudly."})),
            row("Four.", "Five dogs.", json!("entailment")),
        ];
        let file = self.path("rows.jsonl");
        fs::write(&file, text.concat()).unwrap();
        file
    }
}

fn read_tensors(file: &Path) -> MemoryTensors {
    let bytes = fs::read(file).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let data = &bytes[8 + length..];
    let numbers = |value: &Value| -> Vec<usize> {
        value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as usize).collect()
    };
    let mut tensors = MemoryTensors::new();
    for (name, tensor) in header.as_object().unwrap() {
        let offsets = numbers(&tensor["data_offsets"]);
        let four = data[offsets[0]..offsets[1]].chunks_exact(4);
        let values = four.map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        tensors.insert(name, numbers(&tensor["shape"]), values);
    }
    tensors
}

/// A labelled row, another for each number: a line of JSON.
pub(crate) fn office_row(number: usize) -> String {
    let label = ["entailment", "neutral", "contradiction"][number % 3];
    let (premise, hypothesis) = (format!("Office {number} has letters."), format!("{number} desks."));
    format!("{}\n", json!({"premise": premise, "hypothesis": hypothesis, "label": label}))
}

/// Whether the binary finds libonnxruntime. If it does not, this says so loudly, or fails where that is asked for.
pub(crate) fn has_onnxruntime(test: &str) -> bool {
    let page: Value = serde_json::from_str(&gptjc("doctor --json", &[]).ok().out).unwrap();
    let found = &page["onnxruntime"];
    if found["found"].is_string() {
        return true;
    }
    assert!(std::env::var_os("GPTJC_REQUIRE_ONNXRUNTIME").is_none(), "{found}");
    // Not `eprintln!`: its output is hidden when a test passes.
    let mut terminal = std::io::stderr();
    writeln!(terminal, "SKIPPED {test}, nothing was tested: {}", found["error"]).unwrap();
    false
}
