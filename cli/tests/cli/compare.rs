//! Quantised exports and their check, and `validate --compare`, on a tiny model.

use crate::common::{Run, gptjc};
use crate::tiny_model::{TinyModel, has_onnxruntime};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Lanes of a head of the tiny model.
const HEAD_DIM: usize = 4;

fn run(tiny: &TinyModel, line: &str) -> Run {
    let (model, onnx, rows, out) = (tiny.model(), tiny.onnx(), tiny.rows(), tiny.path("out"));
    gptjc(line, &[("model", model.as_path()), ("onnx", &onnx), ("rows", &rows), ("out", &out)])
}

fn report(directory: &Path) -> Value {
    serde_json::from_slice(&fs::read(directory.join("export_report.json")).unwrap()).unwrap()
}

#[test]
fn a_quantised_export_says_what_it_lost() {
    let tiny = TinyModel::new();
    let line = "export --model {model} --dtype int4 --block-size 16 -o {out}";
    let text = run(&tiny, line).ok().out;
    for part in ["int4/16", "int8/16", "float16", " bits a value, error ", "(worst: "] {
        assert!(text.contains(part), "expected `{part}` in: {text}");
    }
    let report = report(&tiny.path("out"));
    let error = |storage: &str| {
        let storages = report["storages"].as_array().unwrap();
        let found = storages.iter().find(|found| found["storage"] == storage).unwrap();
        found["relative_rms_error"].as_f64().unwrap()
    };
    assert!((0.03..0.12).contains(&error("int4/16")) && error("int8/16") < 0.01, "{report}");
    assert_eq!((error("float"), &report["check"]), (0.0, &Value::Null));

    let plain = run(&tiny, "export --model {model} --overwrite-output-dir --lm-head int4 -o {out}").error();
    assert!(
        plain.contains("--lm-head is about quantised matrices") && plain.contains("--dtype int4"),
        "{plain}"
    );
    for line in ["--block-size 48", "--accuracy-level 5", "--max-check-samples 3", "--dtype int2"] {
        assert_eq!(
            run(&tiny, &format!("export --model {{model}} -o {{out}} {line}")).code,
            Some(2),
            "{line}"
        );
    }
}

#[test]
fn an_export_is_checked_against_the_model() {
    let tiny = TinyModel::new();
    if !has_onnxruntime("an_export_is_checked_against_the_model") {
        return;
    }
    let check = |more: &str| {
        let line = format!(
            "export --model {{model}} -o {{out}} --overwrite-output-dir --check-file {{rows}} {more}"
        );
        let text = run(&tiny, &line).ok().out;
        assert!(text.contains("same answer ") && text.contains("gptjc 0."), "{text}");
        report(&tiny.path("out"))["check"].clone()
    };
    let largest = |check: &Value| check["logits"]["difference"]["max"].as_f64().unwrap();
    let spread = |check: &Value| check["logits"]["spread"].as_f64().unwrap();
    let plain = check("");
    assert_eq!((&plain["rows"], &plain["same_answer"]), (&json!(6), &json!(6)), "{plain}");
    assert_eq!(plain["logits"]["tokens"], plain["logits"]["same_next_token"], "{plain}");
    assert!(largest(&plain) < 1e-3 * spread(&plain), "{plain}");
    let alone = "--accuracy-level 1 --lm-head f32 --max-check-samples 4";
    let four = check(&format!("--dtype int4 {alone}"));
    assert_eq!(four["rows"], 4);
    assert!(largest(&four) > largest(&plain) && largest(&four) < spread(&four), "{four}");
    let eight = check(&format!("--dtype int8 {alone}"));
    assert!(largest(&eight) < 0.5 * largest(&four), "{eight} and {four}");
}

#[test]
fn engines_are_compared_on_the_same_rows() {
    let tiny = TinyModel::new();
    if !has_onnxruntime("engines_are_compared_on_the_same_rows") {
        return;
    }
    for engines in [
        "--onnx {onnx} --model {model} --compare native",
        "--onnx {onnx} --model {model} --compare ort --mode score",
        "--model {model} --precision f32 --compare ort --batch-size 2",
    ] {
        let line = format!("validate --validation-file {{rows}} {engines}");
        let report: Value = serde_json::from_str(&run(&tiny, &format!("{line} --json")).ok().out).unwrap();
        let comparison = &report["comparison"];
        assert_eq!((&comparison["rows"], &comparison["same_answer"]), (&json!(6), &json!(6)), "{engines}");
        let logits = &comparison["logits"];
        assert_eq!(logits["tokens"], logits["same_next_token"], "{engines}: {logits}");
        let share = logits["difference"]["max"].as_f64().unwrap() / logits["spread"].as_f64().unwrap();
        assert!(share < 1e-3, "{engines}: {logits}");
        let [tested, other] = [0, 1].map(|of| comparison["engines"][of]["engine"].as_str().unwrap());
        assert_eq!(tested.starts_with("ONNX Runtime"), engines.starts_with("--onnx"), "{tested}");
        assert_eq!(other.starts_with("ONNX Runtime"), engines.contains("compare ort"), "{other}");
        let nodes = &comparison["nodes"];
        assert_eq!(nodes.is_object(), engines.starts_with("--onnx"), "{engines}: {nodes}");
        assert!(nodes["first"].is_null(), "{nodes}");
        let text = run(&tiny, &line).ok().out;
        for part in ["compared with ", "same answer    6 of 6 rows", "the spread of logits", "logits differ"]
        {
            assert!(text.contains(part), "expected `{part}` in: {text}");
        }
    }
    let line = "validate --validation-file {rows} --onnx {onnx} --model {model} --compare native";
    let without = run(&tiny, &format!("{line} --compare-nodes false --json")).ok().out;
    let without: Value = serde_json::from_str(&without).unwrap();
    assert!(without["comparison"]["nodes"].is_null(), "{without}");
}

#[test]
fn a_damaged_export_is_found_and_its_node_named() {
    let tiny = TinyModel::new();
    if !has_onnxruntime("a_damaged_export_is_found_and_its_node_named") {
        return;
    }
    run(&tiny, "export --model {model} --dtype int4 -o {out}").ok();
    let line = "validate --validation-file {rows} --onnx {out} --model {model} --compare native";
    let text = run(&tiny, line).ok().out;
    assert!(text.contains("nodes          none out of bound"), "{text}");
    // Lanes 0 and 1 of every head are paired with each other no more.
    let file = tiny.path("out/model.onnx");
    let mut model = fs::read(&file).unwrap();
    let lane =
        |one: usize| (0..HEAD_DIM).flat_map(move |at| f32::to_le_bytes(if at == one { 1.0 } else { 0.0 }));
    let matrix = |lanes: [usize; HEAD_DIM]| -> Vec<u8> { lanes.into_iter().flat_map(lane).collect() };
    let table = matrix([1, 0, 3, 2]);
    let at = (0..model.len()).find(|&at| model[at..].starts_with(&table)).unwrap();
    model[at..at + table.len()].copy_from_slice(&matrix([0, 1, 3, 2]));
    fs::write(&file, model).unwrap();
    let text = run(&tiny, line).ok().out;
    assert!(
        text.contains("first out of bound: `transformer.h.0.attn.q_proj/rotary_swap` (MatMul)"),
        "{text}"
    );
}

#[cfg(feature = "tract")]
#[test]
fn tract_agrees_with_the_model_and_says_what_it_cannot_run() {
    let tiny = TinyModel::new();
    for engines in [
        "--onnx {onnx} --engine tract --model {model} --compare native --compare-nodes false",
        "--onnx {onnx} --engine tract --model {model} --compare tract --compare-nodes false --mode score",
        "--model {model} --precision f32 --compare tract --batch-size 2 --threads 1",
    ] {
        let line = format!("validate --validation-file {{rows}} {engines} --json");
        let report: Value = serde_json::from_str(&run(&tiny, &line).ok().out).unwrap();
        let comparison = &report["comparison"];
        assert_eq!((&comparison["rows"], &comparison["same_answer"]), (&json!(6), &json!(6)), "{engines}");
        let logits = &comparison["logits"];
        assert_eq!(logits["tokens"], logits["same_next_token"], "{engines}: {logits}");
        let runs_tract = |of: usize| comparison["engines"][of]["engine"] == "tract";
        assert_eq!(runs_tract(0), engines.contains("engine tract"), "{comparison}");
        assert_eq!(runs_tract(1), engines.contains("compare tract"), "{comparison}");
    }
    for (dtype, part) in [("int4", "com.microsoft.MatMulNBits"), ("bf16", "is stored in bf16")] {
        run(&tiny, &format!("export --model {{model}} --dtype {dtype} --overwrite-output-dir -o {{out}}"))
            .ok();
        let message = run(&tiny, "validate --onnx {out} --engine tract --validation-file {rows}").error();
        assert!(message.contains(part) && message.contains("--engine ort"), "{message}");
    }
}
