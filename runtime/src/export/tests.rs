//! Exports of a small model: every byte where the model says, whole directories or none, clear refusals.

use std::fs;
use std::path::Path;

use gptjc_graphs::onnx::gptj::{ExportOptions, GptjShape, LoraMerge, inference_model};
use gptjc_graphs::onnx::{
    DATA_FILE, ElementType, MODEL_FILE, ModelSummary, OnnxModel, PlacedInitializer, Source,
};

use super::*;

fn shape() -> GptjShape {
    GptjShape {
        n_layer: 1,
        n_embd: 8,
        n_head: 2,
        rotary_dim: 2,
        n_inner: 12,
        vocab_size: 10,
        n_positions: 4,
        layer_norm_epsilon: 1e-5,
    }
}

fn model(matrices: ElementType) -> OnnxModel {
    let lora = Some(LoraMerge { scaling: 0.5, modules: ["transformer.h.0.attn.q_proj".to_owned()].into() });
    inference_model(&shape(), &ExportOptions { matrices, lora }).unwrap()
}

/// Values that bf16 holds exactly and that differ everywhere.
fn values(length: usize, seed: usize) -> Vec<f32> {
    (0..length).map(|index| ((index * 7 + seed * 13) % 97) as f32 / 4.0 - 12.0).collect()
}

fn tensors(model: &OnnxModel) -> MemoryTensors {
    let mut tensors = MemoryTensors::new();
    for (seed, placed) in model.initializers.iter().enumerate() {
        let shape = placed.initializer.source_shape();
        let source = &placed.initializer.recipe.source;
        tensors.insert(source.base(), shape.clone(), values(shape.iter().product(), seed));
        if let Source::LoraMerged { a, b, .. } = source {
            tensors.insert(a, vec![2, shape[1]], values(2 * shape[1], 3));
            tensors.insert(b, vec![shape[0], 2], values(shape[0] * 2, 5));
        }
    }
    tensors
}

fn run(
    model: &OnnxModel,
    tensors: &MemoryTensors,
    directory: &Path,
    overwrite: bool,
) -> Result<ExportReport, ExportError> {
    let config = Sidecar::Text { name: "config.json".into(), text: "{}".into() };
    let request = ExportRequest { model, sidecars: &[config], directory, overwrite };
    export(&request, tensors, &mut |_| {})
}

fn stored(data: &[u8], placed: &PlacedInitializer) -> Vec<f32> {
    let begin = placed.offset as usize;
    let bytes = &data[begin..begin + placed.initializer.byte_length() as usize];
    match placed.initializer.element {
        ElementType::Bf16 => {
            bytes.chunks_exact(2).map(|pair| half::bf16::from_le_bytes([pair[0], pair[1]]).to_f32()).collect()
        }
        _ => bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect(),
    }
}

fn find<'a>(model: &'a OnnxModel, name: &str) -> &'a PlacedInitializer {
    model.initializers.iter().find(|placed| placed.initializer.name == name).unwrap()
}

#[test]
fn every_tensor_lies_where_the_model_says() {
    for matrices in [ElementType::F32, ElementType::Bf16] {
        let model = model(matrices);
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("onnx");
        let report = run(&model, &tensors(&model), &directory, false).unwrap();
        assert_eq!((report.tensors, report.merged), (model.initializers.len(), 1));

        let data = fs::read(directory.join(DATA_FILE)).unwrap();
        assert_eq!(data.len() as u64, model.data_length);
        assert_eq!(
            ModelSummary::decode(&fs::read(directory.join(MODEL_FILE)).unwrap()).unwrap().external.len(),
            report.tensors
        );

        let bias = find(&model, "transformer.h.0.mlp.fc_in.bias");
        let seed = model.initializers.iter().position(|placed| placed == bias).unwrap();
        assert_eq!(stored(&data, bias), values(12, seed));
        let weight = find(&model, "transformer.h.0.mlp.fc_in.weight");
        let seed = model.initializers.iter().position(|placed| placed == weight).unwrap();
        let source = values(12 * 8, seed);
        let transposed: Vec<f32> = (0..8 * 12).map(|i| source[(i % 12) * 8 + i / 12]).collect();
        assert_eq!(stored(&data, weight), transposed, "{matrices:?}");
    }
}

#[test]
fn adapters_are_merged_in_f32() {
    let model = model(ElementType::F32);
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("onnx");
    run(&model, &tensors(&model), &directory, false).unwrap();
    let merged = find(&model, "transformer.h.0.attn.q_proj.weight");
    let found = stored(&fs::read(directory.join(DATA_FILE)).unwrap(), merged);
    let seed = model.initializers.iter().position(|placed| placed == merged).unwrap();
    let (base, a, b) = (values(64, seed), values(16, 3), values(16, 5));
    for out in 0..8 {
        for input in 0..8 {
            let delta = b[out * 2] * a[input] + b[out * 2 + 1] * a[8 + input];
            assert_eq!(found[input * 8 + out], base[out * 8 + input] + 0.5 * delta, "out {out}, in {input}");
        }
    }
}

#[test]
fn a_directory_is_replaced_only_if_asked_and_only_if_it_is_an_export() {
    let model = model(ElementType::F32);
    let tensors = tensors(&model);
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("deep/onnx");
    run(&model, &tensors, &directory, false).unwrap();
    let error = run(&model, &tensors, &directory, false).unwrap_err().to_string();
    assert!(error.contains("is not empty") && error.contains("--overwrite_output_dir"), "{error}");
    run(&model, &tensors, &directory, true).unwrap();
    fs::write(directory.join("thesis.tex"), "precious").unwrap();
    let error = run(&model, &tensors, &directory, true).unwrap_err().to_string();
    assert!(error.contains("`thesis.tex`") && error.contains("nothing was replaced"), "{error}");
    assert_eq!(fs::read_to_string(directory.join("thesis.tex")).unwrap(), "precious");
    let beside: Vec<_> =
        fs::read_dir(parent.path().join("deep")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(beside, ["onnx"], "nothing is left beside the export");
}

#[test]
fn an_export_that_fails_leaves_nothing_behind() {
    let model = model(ElementType::F32);
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("onnx");
    let mut missing = tensors(&model);
    missing.remove("transformer.ln_f.weight");
    let error = run(&model, &missing, &directory, false).unwrap_err();
    assert_eq!(error.to_string(), "cannot make `transformer.ln_f.weight`");
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[test]
fn tensors_of_another_shape_are_refused() {
    let model = model(ElementType::F32);
    let parent = tempfile::tempdir().unwrap();
    let refused = |name: &str, shape: Vec<usize>| {
        let mut tensors = tensors(&model);
        let length = shape.iter().product();
        tensors.insert(name, shape, vec![0.0; length]);
        run(&model, &tensors, &parent.path().join("onnx"), false).unwrap_err().to_string()
    };
    assert_eq!(
        refused("transformer.h.0.mlp.fc_in.weight", vec![8, 12]),
        "tensor `transformer.h.0.mlp.fc_in.weight` has shape [8, 12]; expected [12, 8] for `transformer.h.0.mlp.fc_in.weight`"
    );
    let b = "base_model.model.transformer.h.0.attn.q_proj.lora_B.weight";
    let expected =
        format!("tensor `{b}` has shape [8, 4]; expected [8, 2] for `transformer.h.0.attn.q_proj.weight`");
    assert_eq!(refused(b, vec![8, 4]), expected);
}

#[test]
fn a_full_disk_is_said_with_what_is_needed() {
    let model = model(ElementType::F32);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let error =
        stream::write_to(full, &model, &tensors(&model), Path::new("onnx/model.onnx_data"), &mut |_| {});
    let error = error.unwrap_err().to_string();
    let expected =
        format!("no space is left for `onnx/model.onnx_data`: the weights take {} bytes.", model.data_length);
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn files_beside_the_model_come_from_its_directory() {
    let from = tempfile::tempdir().unwrap();
    let error = sidecars_of_model(from.path(), None).unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
    fs::write(from.path().join("config.json"), r#"{"eos_token_id": 9, "bos_token_id": null}"#).unwrap();
    fs::write(from.path().join("vocab.json"), "{}").unwrap();
    fs::write(from.path().join("model.safetensors"), "weights").unwrap();
    let to = tempfile::tempdir().unwrap();
    for sidecar in sidecars_of_model(from.path(), None).unwrap() {
        sidecar.write_into(to.path()).unwrap();
    }
    let mut names: Vec<_> = fs::read_dir(to.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "generation_config.json", "vocab.json"]);
    let generation: serde_json::Value =
        serde_json::from_slice(&fs::read(to.path().join("generation_config.json")).unwrap()).unwrap();
    assert_eq!(generation, serde_json::json!({"_from_model_config": true, "eos_token_id": 9}));
}
