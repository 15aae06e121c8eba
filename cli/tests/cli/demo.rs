//! `gptjc demo`, in its quick form.

use crate::common::{gptjc, gptjc_alone};
use serde_json::Value;
use std::fs;
use tempfile::TempDir;

#[test]
fn the_demo_trains_exports_and_validates() {
    let directory = TempDir::new().unwrap();
    let demo = directory.path().join("a demo");
    let run = gptjc("demo --quick --output-dir {demo}", &[("demo", &demo)]).ok();
    for file in [
        "model/config.json",
        "data/train.jsonl",
        "demo.plan",
        "run/adapter_model.safetensors",
        "run/report.html",
        "onnx/model.onnx",
    ] {
        assert!(demo.join(file).is_file(), "{file}: {}", run.out);
    }
    for part in
        ["  $ gptjc train --plan", "step 30/30", "gptjc, compiled", "predicted", "measured", "--model MODEL"]
    {
        assert!(run.out.contains(part), "expected `{part}` in: {}", run.out);
    }
    // What the record says was typed is what the demo has shown.
    let record: Value = serde_json::from_slice(&fs::read(demo.join("run/run.json")).unwrap()).unwrap();
    let words: Vec<&str> =
        record["facts"]["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(words[..3], ["gptjc", "train", "--plan"], "{record}");
    assert_eq!(record["status"], "finished", "{record}");
    assert!(record["sessions"][0]["peak_bytes"].as_u64().unwrap() > 0, "{record}");
}

/// With a bare environment there is neither a library nor a Python that could fetch one.
#[test]
fn without_onnx_runtime_the_demo_says_so_and_goes_on() {
    let directory = TempDir::new().unwrap();
    let demo = directory.path().join("demo");
    let arguments = ["demo", "--quick", "--output-dir", demo.to_str().unwrap()];
    let variables = [("HOME", directory.path()), ("PATH", directory.path())];
    let text = gptjc_alone(&arguments, &variables).ok().out;
    let skipped: Vec<&str> =
        text.lines().filter(|line| line.contains("skipped: there is no ONNX Runtime here")).collect();
    assert_eq!(skipped.len(), 1, "{text}");
    assert!(skipped[0].contains("it cannot be fetched: `python3` cannot be started"), "{text}");
    assert!(text.contains("gptjc, compiled") && text.contains("not here"), "{text}");
    assert!(demo.join("onnx/model.onnx").is_file() && demo.join("run/report.html").is_file(), "{text}");
}
