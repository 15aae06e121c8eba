//! Damaged and foreign directories give one clear message each, without ONNX Runtime.

use gptjc_graphs::onnx::gptj::{ExportOptions, GptjShape, inference_model};
use gptjc_graphs::onnx::{DATA_FILE, Dim, Initializer, ModelBuilder, Recipe, Source};
use tempfile::TempDir;

use super::*;

const CONFIG: &str = r#"{"model_type": "gptj", "n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 10,
    "n_positions": 4, "eos_token_id": 9}"#;

fn export() -> TempDir {
    let shape = GptjShape {
        n_layer: 1,
        n_embd: 8,
        n_head: 2,
        rotary_dim: 2,
        n_inner: 12,
        vocab_size: 10,
        n_positions: 4,
        layer_norm_epsilon: 1e-5,
    };
    let model = inference_model(&shape, &ExportOptions::plain(ElementType::F32, None)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config.json"), CONFIG).unwrap();
    fs::write(directory.path().join(MODEL_FILE), &model.bytes).unwrap();
    fs::write(directory.path().join(DATA_FILE), vec![0; model.data_length as usize]).unwrap();
    directory
}

fn refused(directory: &TempDir) -> String {
    let text = OnnxDirectory::open(directory.path()).unwrap_err().to_string();
    text.replace(&directory.path().display().to_string(), "DIR")
}

/// A model whose only weight says that it lies in `location`.
fn model_with_data_in(location: &str) -> Vec<u8> {
    let mut builder = ModelBuilder::new("g");
    let recipe = Recipe::as_stored(Source::Tensor("w".into()));
    builder.weight(Initializer { name: "w".into(), element: ElementType::F32, shape: vec![1], recipe });
    let bytes = builder.finish().unwrap().bytes;
    assert_eq!(location.len(), DATA_FILE.len(), "lengths stand in the encoding");
    let at = bytes.windows(DATA_FILE.len()).position(|window| window == DATA_FILE.as_bytes()).unwrap();
    [&bytes[..at], location.as_bytes(), &bytes[at + location.len()..]].concat()
}

#[test]
fn a_whole_directory_opens() {
    let directory = export();
    let opened = OnnxDirectory::open(directory.path()).unwrap();
    assert_eq!((opened.sizes.n_layer, opened.sizes.eos_token_id), (1, Some(9)));
    assert!(!opened.widens_weights);
}

#[test]
fn missing_and_short_data_files_are_named() {
    let directory = export();
    let data = directory.path().join(DATA_FILE);
    fs::write(&data, [0; 100]).unwrap();
    assert_eq!(
        refused(&directory),
        "`DIR/model.onnx_data` has 100 bytes, but tensor `transformer.wte.weight` ends at byte 320: the file is cut off. \
         Copy it again, or export again"
    );
    fs::remove_file(&data).unwrap();
    assert_eq!(
        refused(&directory),
        "`DIR/model.onnx_data` is missing: it holds the weights of `model.onnx` (first `transformer.wte.weight`). Copy it \
         beside the model, or export again"
    );
}

#[test]
fn data_outside_of_the_directory_is_refused() {
    for location in ["../passwords.tx", "/etc/passwd.txt", "a/../../../b.bi"] {
        let summary = ModelSummary::decode(&model_with_data_in(location)).unwrap();
        let error = check_external(Path::new("."), Path::new("model.onnx"), &summary.external).unwrap_err();
        assert!(matches!(error, OpenError::OutsidePath { .. }), "{location}: {error}");
        assert!(error.to_string().contains("leads out of the directory"), "{error}");
    }
    let directory = export();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::rename(directory.path().join(DATA_FILE), elsewhere.path().join("data")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("data"), directory.path().join(DATA_FILE)).unwrap();
    assert!(refused(&directory).contains("lies in `model.onnx_data`, which leads out of the directory"));
}

#[test]
fn configurations_and_models_that_do_not_fit_are_refused() {
    let directory = export();
    let config = directory.path().join("config.json");
    fs::write(&config, CONFIG.replace("\"n_layer\": 1", "\"n_layer\": 2")).unwrap();
    let error = refused(&directory);
    assert!(
        error.contains("input `past_key_values.1.key`; expected float [?, 2, ?, 4], found no such input"),
        "{error}"
    );
    // However many layers a config has, no more are looked for than the model can have.
    fs::write(&config, CONFIG.replace("\"n_layer\": 1", "\"n_layer\": 9223372036854775807")).unwrap();
    assert!(refused(&directory).contains("input `past_key_values.1.key`"), "{}", refused(&directory));
    fs::write(&config, CONFIG.replace("\"vocab_size\": 10", "\"vocab_size\": 11")).unwrap();
    let error = refused(&directory);
    assert!(error.contains("output `logits`; expected float [?, ?, 11], found float [batch_size"), "{error}");
    fs::write(&config, CONFIG.replace("gptj", "llama")).unwrap();
    assert!(refused(&directory).contains("`model_type` is `llama`, expected `gptj`"));
    fs::write(&config, "{").unwrap();
    assert!(refused(&directory).starts_with("`DIR/config.json` is no configuration of a GPT-J: EOF"));
}

#[test]
fn a_file_that_is_no_model_is_refused() {
    let directory = export();
    fs::write(directory.path().join(MODEL_FILE), "<!doctype html>").unwrap();
    assert!(refused(&directory).starts_with("`DIR/model.onnx`: not an ONNX model"));
    fs::remove_file(directory.path().join(MODEL_FILE)).unwrap();
    assert!(refused(&directory).starts_with("cannot read `DIR/model.onnx`"));
}

#[test]
fn a_model_with_another_input_is_refused() {
    let directory = export();
    let mut builder = ModelBuilder::new("g");
    let x = builder.input("x", ElementType::F32, &[Dim::Fixed(1)]);
    let y = builder.tanh("y", &x);
    builder.output(y.name(), ElementType::F32, &[Dim::Fixed(1)]);
    fs::write(directory.path().join(MODEL_FILE), builder.finish().unwrap().bytes).unwrap();
    let error = refused(&directory);
    assert!(error.contains("input `attention_mask`; expected int64 [?, ?], found no such input"), "{error}");
}
