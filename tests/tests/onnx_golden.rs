//! The exported model under ONNX Runtime against what Hugging Face computed (`tests/golden`).
//!
//! Without libonnxruntime these tests say loudly that they were skipped; with `GPTJC_REQUIRE_ONNXRUNTIME` set they fail.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};

use gptjc_graphs::onnx::ElementType;
use gptjc_graphs::onnx::gptj::{ExportOptions, GptjShape, LoraMerge, inference_model};
use gptjc_runtime::adapter::Adapter;
use gptjc_runtime::export::{
    CheckpointSource, ExportRequest, MemoryTensors, TensorSource, export, sidecars_of_model,
};
use gptjc_runtime::validate::Engine;
use gptjc_runtime::validate::library::OnnxRuntime;
use gptjc_runtime::validate::ort_engine::OrtEngine;
use gptjc_runtime::weights::Checkpoint;
use gptjc_tests::onnx::runtime;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tempfile::TempDir;

/// Largest difference of a logit from the golden one. Both are f32 with logits of size 1; the sums run over at most 256
/// products in another order.
const TOLERANCE: f32 = 2e-5;

struct Case {
    name: &'static str,
    directory: PathBuf,
    vocabulary: usize,
    /// Tokens of each row of batch 0, without pad slots.
    rows: Vec<Vec<u32>>,
    /// Merged logits of those tokens, `[tokens, vocabulary]` for each row.
    logits: Vec<Vec<f32>>,
    /// The rows with their greedy continuation; cases without padding only.
    generated: Option<Vec<Vec<u32>>>,
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn f32_values(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

fn i64_values(bytes: &[u8]) -> Vec<i64> {
    bytes.chunks_exact(8).map(|eight| i64::from_le_bytes(eight.try_into().unwrap())).collect()
}

impl Case {
    fn open(name: &'static str) -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
        let batches = fs::read(directory.join("batches.safetensors")).unwrap();
        let batches = SafeTensors::deserialize(&batches).unwrap();
        let expected = fs::read(directory.join("expected.safetensors")).unwrap();
        let expected = SafeTensors::deserialize(&expected).unwrap();
        let merged = expected.tensor("merged_logits").unwrap();
        let [batch, length, vocabulary] = merged.shape() else {
            panic!("merged_logits: {:?}", merged.shape())
        };
        let ids = i64_values(batches.tensor("input_ids").unwrap().data());
        let mask = i64_values(batches.tensor("attention_mask").unwrap().data());
        let logits = f32_values(merged.data());

        let mut rows = vec![Vec::new(); *batch];
        let mut row_logits = vec![Vec::new(); *batch];
        for slot in (0..batch * length).filter(|&slot| mask[slot] != 0) {
            rows[slot / length].push(ids[slot] as u32);
            row_logits[slot / length].extend(&logits[slot * vocabulary..(slot + 1) * vocabulary]);
        }
        let generated = expected.tensor("generated").ok().map(|tensor| {
            let width = tensor.shape()[1];
            let values = i64_values(tensor.data());
            values.chunks_exact(width).map(|row| row.iter().map(|&id| id as u32).collect()).collect()
        });
        Case { name, directory, vocabulary: *vocabulary, rows, logits: row_logits, generated }
    }

    fn shape(&self) -> GptjShape {
        let config = json(&self.directory.join("model/config.json"));
        let size = |key: &str| config[key].as_u64().map(|size| size as usize);
        let n_embd = size("n_embd").unwrap();
        GptjShape {
            n_layer: size("n_layer").unwrap(),
            n_embd,
            n_head: size("n_head").unwrap(),
            rotary_dim: size("rotary_dim").unwrap(),
            n_inner: size("n_inner").unwrap_or(4 * n_embd),
            vocab_size: size("vocab_size").unwrap(),
            n_positions: size("n_positions").unwrap(),
            layer_norm_epsilon: config["layer_norm_epsilon"].as_f64().unwrap(),
        }
    }

    /// Exports the model after training: all of its weights, or the base model's with an adapter.
    fn export(&self) -> TempDir {
        let trained = self.directory.join("adapter_final");
        let is_adapter = trained.join("adapter_model.safetensors").is_file();
        let weights = if is_adapter { self.directory.join("model") } else { trained.clone() };
        let checkpoint = Checkpoint::open(&weights).unwrap();
        let adapter = is_adapter.then(|| Adapter::load(&trained).unwrap());
        let lora = adapter.as_ref().map(|adapter| LoraMerge {
            scaling: adapter.config.scaling(),
            modules: adapter.modules().into_iter().map(str::to_owned).collect(),
        });
        let source = CheckpointSource::new(&checkpoint, adapter.as_ref());
        self.export_as(&source, ExportOptions::plain(ElementType::F32, lora))
    }

    fn export_as(&self, tensors: &dyn TensorSource, options: ExportOptions) -> TempDir {
        let model = inference_model(&self.shape(), &options).unwrap();
        let parent = tempfile::tempdir().unwrap();
        let sidecars = sidecars_of_model(&self.directory.join("model"), None).unwrap();
        let directory = parent.path().join("onnx");
        let request =
            ExportRequest { model: &model, sidecars: &sidecars, directory: &directory, overwrite: false };
        export(&request, tensors, &mut |_| {}).unwrap();
        parent
    }
}

fn read_into(tensors: &mut MemoryTensors, path: &Path, change: &dyn Fn(f32) -> f32) {
    let bytes = fs::read(path).unwrap();
    for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
        assert_eq!(view.dtype(), Dtype::F32, "{name}");
        let is_matrix = view.shape().len() == 2;
        let values = f32_values(view.data());
        let values = values.into_iter().map(|value| if is_matrix { change(value) } else { value }).collect();
        tensors.insert(name, view.shape().to_vec(), values);
    }
}

fn open(parent: &TempDir, runtime: &OnnxRuntime) -> OrtEngine {
    OrtEngine::open(&parent.path().join("onnx"), runtime, Some(1)).unwrap()
}

fn check_logits(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let worst = found.iter().zip(expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
    // Not `>`: a NaN must not pass.
    assert!(worst <= TOLERANCE && found.iter().all(|value| value.is_finite()), "{what}: off by {worst}");
}

const CASES: [&str; 5] = ["plain", "alltargets", "full", "padded", "accumulate"];

#[test]
fn logits_are_those_of_the_merged_model_with_and_without_cache() {
    let Some(runtime) = runtime() else { return };
    for case in CASES.map(Case::open) {
        let directory = case.export();
        let mut engine = open(&directory, &runtime);
        for chunk in [usize::MAX, 1, 3, 7] {
            let found = engine.logits_by_chunks(&case.rows, chunk).unwrap();
            for (row, (found, expected)) in found.iter().zip(&case.logits).enumerate() {
                check_logits(&format!("{}, chunk {chunk}, row {row}", case.name), &found.values, expected);
            }
        }
    }
}

#[test]
fn logits_do_not_depend_on_the_batch() {
    let Some(runtime) = runtime() else { return };
    for case in CASES.map(Case::open) {
        let directory = case.export();
        let mut engine = open(&directory, &runtime);
        // Beginnings of rows: causal, so that their logits are the beginnings of the rows' logits.
        let cut = |row: usize, length: usize| case.rows[row][..length].to_vec();
        let last = case.rows.len() - 1;
        let lengths = [(0, 1), (last, case.rows[last].len()), (0, 4), (last, 2), (0, case.rows[0].len() - 1)];
        for size in 1..=lengths.len() {
            let rows: Vec<Vec<u32>> = lengths[..size].iter().map(|&(row, length)| cut(row, length)).collect();
            let found = engine.logits(&rows).unwrap();
            for (&(row, length), found) in lengths.iter().zip(&found) {
                let expected = &case.logits[row][..length * case.vocabulary];
                let what = format!("{}, batch of {size}, row {row}, {length} tokens", case.name);
                check_logits(&what, &found.values, expected);
            }
        }
    }
}

#[test]
fn greedy_answers_are_those_of_the_merged_model() {
    let Some(runtime) = runtime() else { return };
    let mut cases = 0;
    for case in CASES.map(Case::open) {
        let Some(generated) = &case.generated else { continue };
        cases += 1;
        let directory = case.export();
        let mut engine = open(&directory, &runtime);
        let eos = engine.eos_token_id().unwrap();
        let expected: Vec<Vec<u32>> = case
            .rows
            .iter()
            .zip(generated)
            .map(|(row, whole)| {
                whole[row.len()..].iter().copied().take_while(|&token| token != eos).collect()
            })
            .collect();
        assert_eq!(engine.generate(&case.rows, 5, eos).unwrap(), expected, "{}", case.name);
        let mut mixed = vec![case.rows[0][..3].to_vec(), case.rows[1][..9].to_vec()];
        mixed.extend(case.rows.iter().cloned());
        let answers = engine.generate(&mixed, 5, eos).unwrap();
        assert_eq!(answers[2..], expected, "{}: beside shorter rows", case.name);
        for (row, answer) in mixed.iter().zip(&answers) {
            let alone = engine.generate(std::slice::from_ref(row), 5, eos).unwrap();
            assert_eq!(alone[0], *answer, "{}: alone", case.name);
        }
        // The second token as end of the text: one token remains, or none if it is also the first.
        let end = expected[0][1];
        let ended = engine.generate(&case.rows[..1], 5, end).unwrap();
        assert_eq!(ended[0].len(), expected[0].iter().position(|&token| token == end).unwrap());
    }
    assert!(cases >= 3, "golden cases with `generated`: {cases}");
}

#[test]
fn scores_are_the_log_probabilities_of_the_merged_model() {
    let Some(runtime) = runtime() else { return };
    for case in CASES.map(Case::open) {
        let directory = case.export();
        let mut engine = open(&directory, &runtime);
        for (row, tokens) in case.rows.iter().enumerate() {
            let cut = tokens.len() - 3;
            let prompts = [tokens[..cut].to_vec(), vec![1, 2], tokens[..cut].to_vec()];
            let candidates = [tokens[cut..].to_vec(), tokens[cut..=cut].to_vec()];
            let scores = engine.score(&prompts, &candidates).unwrap();
            let expected = |count: usize| -> f64 {
                (cut..cut + count).map(|slot| log_probability(&case, row, slot - 1, tokens[slot])).sum()
            };
            for (prompt, candidate, count) in [(0, 0, 3), (2, 0, 3), (0, 1, 1)] {
                let (found, expected) = (f64::from(scores[prompt][candidate]), expected(count));
                // A logit and the logarithm of the sum are each off by at most the tolerance.
                let bound = 2.0 * f64::from(TOLERANCE) * count as f64 + 1e-5;
                assert!((found - expected).abs() <= bound, "{}: {found}, expected {expected}", case.name);
            }
        }
    }
}

fn log_probability(case: &Case, row: usize, slot: usize, token: u32) -> f64 {
    let logits = &case.logits[row][slot * case.vocabulary..(slot + 1) * case.vocabulary];
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
    f64::from(logits[token as usize]) - sum.ln()
}

#[test]
fn half_storage_computes_in_f32() {
    let Some(runtime) = runtime() else { return };
    let case = Case::open("plain");
    let bf16 = |value: f32| half::bf16::from_f32(value).to_f32();
    let f16 = |value: f32| half::f16::from_f32(value).to_f32();
    let storages: [(ElementType, &dyn Fn(f32) -> f32); 2] =
        [(ElementType::Bf16, &bf16), (ElementType::F16, &f16)];
    for (matrices, round) in storages {
        let mut rounded = MemoryTensors::new();
        read_into(&mut rounded, &case.directory.join("model/model.safetensors"), round);
        let logits = |matrices| {
            let directory = case.export_as(&rounded, ExportOptions::plain(matrices, None));
            open(&directory, &runtime).logits(&case.rows).unwrap()
        };
        for (found, expected) in logits(matrices).iter().zip(&logits(ElementType::F32)) {
            check_logits(&format!("{matrices:?}"), &found.values, &expected.values);
        }
    }
}
