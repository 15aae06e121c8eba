//! ONNX Runtime for tests, and a small model to export.

use crate::random_model::Random;
use gptjc_graphs::onnx::gptj::{ExportOptions, GptjShape, LoraMerge, inference_model};
use gptjc_graphs::onnx::{ElementType, OnnxModel, Source};
use gptjc_runtime::export::{ExportReport, ExportRequest, MemoryTensors, Sidecar, export};
use gptjc_runtime::validate::library::{OnnxRuntime, Surroundings, load};
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use tempfile::TempDir;

/// The library, if this machine has it. Without it, tests say loudly that they were skipped; with
/// `GPTJC_REQUIRE_ONNXRUNTIME` set they fail.
///
/// # Panics
/// If there is no library and the variable is set.
pub fn runtime() -> Option<OnnxRuntime> {
    match load(&Surroundings::of_process()) {
        Ok(runtime) => Some(runtime),
        Err(error) => {
            assert!(std::env::var_os("GPTJC_REQUIRE_ONNXRUNTIME").is_none(), "{error}");
            // Not `eprintln!`, which the test harness would keep to itself.
            let _ = std::io::stderr().write_all(format!("SKIPPED, nothing was tested: {error}\n").as_bytes());
            None
        }
    }
}

/// A model whose widths no block size divides.
pub fn shape() -> GptjShape {
    GptjShape {
        n_layer: 2,
        n_embd: 40,
        n_head: 4,
        rotary_dim: 4,
        n_inner: 72,
        vocab_size: 96,
        n_positions: 32,
        layer_norm_epsilon: 1e-5,
    }
}

/// An adapter on two of a block's matrices.
pub fn lora() -> Option<LoraMerge> {
    let on =
        |layer| [format!("transformer.h.{layer}.attn.q_proj"), format!("transformer.h.{layer}.mlp.fc_out")];
    Some(LoraMerge { scaling: 2.0, modules: (0..shape().n_layer).flat_map(on).collect() })
}

/// Normally distributed weights of a size that keeps activations near 1, and an adapter.
pub fn tensors() -> MemoryTensors {
    let mut random = Random::new(4);
    let mut normal = move |count: usize, scale: f32| -> Vec<f32> {
        let mut uniform = || (random.bits() >> 40) as f32 / (1 << 24) as f32;
        (0..count).map(|_| scale * ((0..12).map(|_| uniform()).sum::<f32>() - 6.0)).collect()
    };
    let mut tensors = MemoryTensors::new();
    let model = inference_model(&shape(), &ExportOptions::plain(ElementType::F32, lora())).unwrap();
    for placed in &model.initializers {
        let shape = placed.initializer.source_shape();
        let source = &placed.initializer.recipe.source;
        let count = shape.iter().product();
        let mut values = normal(count, if shape.len() == 2 { 0.2 } else { 0.1 });
        if source.base().contains("ln_") && source.base().ends_with("weight") {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        tensors.insert(source.base(), shape.clone(), values);
        if let Source::LoraMerged { a, b, .. } = source {
            tensors.insert(a, vec![3, shape[1]], normal(3 * shape[1], 0.1));
            tensors.insert(b, vec![shape[0], 3], normal(shape[0] * 3, 0.1));
        }
    }
    tensors
}

/// Rows of different lengths, the longest one of 20 tokens.
pub fn rows() -> Vec<Vec<u32>> {
    let mut random = Random::new(9);
    let mut row = |length: usize| (0..length).map(|_| (random.bits() % 96) as u32).collect();
    vec![row(12), row(3), row(20), row(1)]
}

/// An export of this model.
pub struct Exported {
    /// What holds its directory.
    pub parent: TempDir,
    /// The graph, and where its weights lie.
    pub model: OnnxModel,
    /// What was written.
    pub report: ExportReport,
}

impl Exported {
    /// Its directory.
    pub fn directory(&self) -> PathBuf {
        self.parent.path().join("onnx")
    }
}

/// Exports the model.
///
/// # Panics
/// If it cannot be written.
pub fn exported(options: &ExportOptions) -> Exported {
    let model = inference_model(&shape(), options).unwrap();
    let parent = tempfile::tempdir().unwrap();
    let GptjShape { n_layer, n_embd, n_head, vocab_size, n_positions, .. } = shape();
    let config = json!({"model_type": "gptj", "n_layer": n_layer, "n_embd": n_embd, "n_head": n_head,
        "vocab_size": vocab_size, "n_positions": n_positions});
    let sidecars = [Sidecar::Text { name: "config.json".into(), text: config.to_string() }];
    let directory = parent.path().join("onnx");
    let request =
        ExportRequest { model: &model, sidecars: &sidecars, directory: &directory, overwrite: false };
    let report = export(&request, &tensors(), &mut |_| {}).unwrap();
    Exported { parent, model, report }
}
