//! Exports of a small model: every byte where the model says, whole directories or none, clear refusals.

use std::fs;
use std::path::Path;

use gptjc_graphs::onnx::gptj::{ExportOptions, GptjShape, LoraMerge, inference_model};
use gptjc_graphs::onnx::{
    Blockwise, CodeBits, DATA_FILE, ElementType, MODEL_FILE, ModelSummary, OnnxModel, PlacedInitializer,
    Source,
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
    inference_model(&shape(), &ExportOptions::plain(matrices, lora)).unwrap()
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
        assert_eq!((report.tensors(), report.merged()), (model.initializers.len(), 1));

        let data = fs::read(directory.join(DATA_FILE)).unwrap();
        assert_eq!(data.len() as u64, model.data_length);
        assert_eq!(
            ModelSummary::decode(&fs::read(directory.join(MODEL_FILE)).unwrap()).unwrap().external.len(),
            report.tensors()
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

fn quantised(widened: bool) -> OnnxModel {
    let lora = Some(LoraMerge { scaling: 0.5, modules: ["transformer.h.0.attn.q_proj".to_owned()].into() });
    let blockwise = Blockwise { bits: CodeBits::Four, size: 16 };
    let options = ExportOptions { widened, ..ExportOptions::quantised(blockwise, lora) };
    inference_model(&shape(), &options).unwrap()
}

fn bytes<'a>(data: &'a [u8], placed: &PlacedInitializer) -> &'a [u8] {
    &data[placed.offset as usize..][..placed.initializer.byte_length() as usize]
}

#[test]
fn parts_of_a_quantised_matrix_lie_where_the_model_says() {
    let parent = tempfile::tempdir().unwrap();
    let (model, widened) = (quantised(false), quantised(true));
    let tensors = tensors(&widened);
    let run_into = |model: &OnnxModel, name: &str| {
        let directory = parent.path().join(name);
        let report = run(model, &tensors, &directory, false).unwrap();
        (report, fs::read(directory.join(DATA_FILE)).unwrap())
    };
    let ((report, data), (widened_report, values)) = (run_into(&model, "int4"), run_into(&widened, "f32"));
    assert_eq!((report.tensors(), report.merged()), (widened_report.tensors(), 1));
    assert_eq!(data.len() as u64, model.data_length);
    // [12, 8]: one block a row, half of it used.
    let weight = "transformer.h.0.mlp.fc_in.weight";
    let part = |suffix: &str| bytes(&data, find(&model, &format!("{weight}_{suffix}")));
    let (codes, scales, zero_points) = (part("Q4"), part("scales"), part("zero_points"));
    assert_eq!((codes.len(), scales.len(), zero_points.len()), (12 * 8, 12 * 4, 12));
    let values = stored(&values, find(&widened, weight));
    for row in 0..12 {
        let scale = f32::from_le_bytes(scales[4 * row..][..4].try_into().unwrap());
        let zero_point = f32::from(zero_points[row] & 15);
        for column in 0..8 {
            let code = (codes[8 * row + column / 2] >> (4 * (column % 2))) & 15;
            let value = (f32::from(code) - zero_point) * scale;
            assert_eq!(value, values[column * 12 + row], "row {row}, column {column}");
        }
    }
}

#[test]
fn the_report_says_what_each_storage_lost() {
    let parent = tempfile::tempdir().unwrap();
    let model = quantised(false);
    let directory = parent.path().join("onnx");
    let report = run(&model, &tensors(&model), &directory, false).unwrap();
    let found: Vec<_> = report
        .storages
        .iter()
        .map(|storage| (storage.storage.to_string(), storage.tensors, storage.relative_rms_error))
        .collect();
    let names: Vec<_> = found.iter().map(|(name, tensors, _)| (name.as_str(), *tensors)).collect();
    assert_eq!(names, [("float16", 1), ("float", 7), ("int4/16", 6), ("int8/16", 1)]);
    // The values are quarters from -12 to 12, which f16 and f32 hold.
    assert_eq!((found[0].2, found[1].2), (0.0, 0.0));
    assert!((0.01..0.1).contains(&found[2].2) && (0.0005..0.01).contains(&found[3].2), "{found:?}");
    let worst = report.storages[2].worst.as_ref().unwrap();
    let of_weights =
        report.weights.iter().filter(|weight| weight.storage == report.storages[2].storage).map(|w| w.loss);
    let largest = of_weights.map(Loss::relative_rms).fold(0.0, f64::max);
    assert_eq!(worst.relative_rms_error, largest);
    assert!(report.storages[0].to_string().ends_with("exact"), "{}", report.storages[0]);
    assert!(report.storages[2].to_string().contains(&worst.tensor), "{}", report.storages[2]);

    let written: serde_json::Value =
        serde_json::from_slice(&fs::read(directory.join(REPORT_FILE)).unwrap()).unwrap();
    assert_eq!(written["storages"][2]["storage"], "int4/16");
    assert_eq!(written["storages"][2]["relative_rms_error"], report.storages[2].relative_rms_error);
    assert_eq!(written["weights"].as_array().unwrap().len(), report.tensors());
    assert_eq!(written["check"], serde_json::Value::Null);
    // A report does not keep an export from being replaced.
    run(&model, &tensors(&model), &directory, true).unwrap();
}

#[test]
fn what_has_no_code_is_refused_with_its_row() {
    let parent = tempfile::tempdir().unwrap();
    let name = "transformer.h.0.mlp.fc_in.weight";
    for model in [quantised(false), quantised(true)] {
        let mut tensors = tensors(&model);
        let mut values = values(96, 1);
        values[3 * 8 + 5] = f32::NAN;
        tensors.insert(name, vec![12, 8], values);
        let error = run(&model, &tensors, &parent.path().join("onnx"), false).unwrap_err().to_string();
        assert!(error.contains("holds NaN in row 3") && error.contains(name), "{error}");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}

#[test]
fn parts_that_are_not_together_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let mut model = quantised(false);
    let scales = model.initializers.iter().position(|placed| placed.initializer.name.ends_with("_scales"));
    model.initializers.remove(scales.unwrap());
    let error = run(&model, &tensors(&quantised(false)), &parent.path().join("onnx"), false).unwrap_err();
    assert!(error.to_string().contains("expected codes, scales and zero points"), "{error}");
}
