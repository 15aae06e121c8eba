//! `gptjc doctor`, with and without what it looks for.

use crate::common::{gptjc, gptjc_alone};
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

#[test]
fn the_machine_is_described() {
    let text = gptjc("doctor", &[]).ok().out;
    for part in [
        "CPU  ",
        "cores  ",
        "threads  ",
        "caches  ",
        "memory  ",
        "huge pages  ",
        "kernels  ",
        "disk  ",
        "ONNX Runtime  ",
    ] {
        assert!(text.contains(part), "expected `{part}` in: {text}");
    }
    for part in ["GPT-J-6B  ", "a step of 8 windows of 512 tokens", "predicted by the compiler's cost model"]
    {
        assert!(text.contains(part), "expected `{part}` in: {text}");
    }
    let page: Value = serde_json::from_str(&gptjc("doctor --json", &[]).ok().out).unwrap();
    let predicted = &page["gpt_j_6b"]["predicted"];
    assert_eq!(
        (predicted["windows"].as_u64(), predicted["epochs"].as_f64()),
        (Some(5000), Some(3.0)),
        "{page}"
    );
    assert!(
        predicted["job_seconds"].as_f64().unwrap()
            > 1875.0 * 0.9 * predicted["step_seconds"].as_f64().unwrap(),
        "{page}"
    );
    assert!(page["cores"]["usable"].as_u64().unwrap() > 0, "{page}");
    assert!(page["threads"].as_u64().unwrap() > 0, "{page}");
    assert!(!page["topology"]["cores"].as_array().unwrap().is_empty(), "{page}");
    assert!(page["memory"]["total"].as_u64().unwrap() > 0, "{page}");
    assert!(page["kernels"].as_array().unwrap().contains(&"portable".into()), "{page}");
}

#[test]
fn kernels_are_tested_once_for_a_cpu_and_a_program() {
    let home = TempDir::new().unwrap();
    let variables = [("HOME", home.path())];
    let page = |arguments: &[&str]| -> Value {
        serde_json::from_str(&gptjc_alone(arguments, &variables).ok().out).unwrap()
    };
    let verdicts = |page: &Value| -> Vec<Value> {
        let variants = page["variants"].as_array().unwrap();
        assert_eq!(variants.len(), 5, "{page}");
        variants
            .iter()
            .filter(|variant| variant["isa"] != "portable")
            .map(|one| one["self_test"].clone())
            .collect()
    };
    assert!(verdicts(&page(&["doctor", "--json"])).iter().all(Value::is_null));
    let tested = verdicts(&page(&["doctor", "--self-test", "--json"]));
    for verdict in tested.iter().filter(|verdict| !verdict.is_null()) {
        assert_eq!(verdict["differ"].as_array().unwrap().len(), 0, "{verdict}");
    }
    let kept = home.path().join(".cache/gptjc/self-test.json");
    assert_eq!(verdicts(&page(&["doctor", "--json"])), tested, "the verdict is kept");
    // A verdict that says that a variant is wrong is believed, and one of another program is not.
    let text = std::fs::read_to_string(&kept).unwrap();
    let mut forged: Value = serde_json::from_str(&text).unwrap();
    let wrong = serde_json::json!({"isa": "avx2", "agree": [], "differ": ["add-f32-avx2: wrong"]});
    forged["report"]["verdicts"] = serde_json::json!([wrong]);
    std::fs::write(&kept, forged.to_string()).unwrap();
    let run = gptjc_alone(&["doctor", "--json"], &variables).ok();
    assert!(run.err.contains("kernels for avx2 are switched off"), "{}", run.err);
    let found: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(found["kernels"], serde_json::json!(["portable"]), "all others build on avx2");
    forged["identity"]["program"] = "another".into();
    std::fs::write(&kept, forged.to_string()).unwrap();
    assert!(!gptjc_alone(&["doctor", "--json"], &variables).ok().err.contains("switched off"));
}

#[test]
fn a_missing_library_is_reported_with_what_was_tried_and_what_to_do() {
    let home = TempDir::new().unwrap();
    let variables = [("HOME", home.path()), ("PATH", home.path())];
    let text = gptjc_alone(&["doctor"], &variables).ok().out;
    for part in ["ONNX Runtime  none", "Looked in:", "in our cache", "gptjc doctor --fetch-onnxruntime"] {
        assert!(text.contains(part), "expected `{part}` in: {text}");
    }
    let page: Value = serde_json::from_str(&gptjc_alone(&["doctor", "--json"], &variables).ok().out).unwrap();
    assert!(page["onnxruntime"]["found"].is_null(), "{page}");
    assert!(page["onnxruntime"]["tried"].as_array().unwrap().len() >= 3, "{page}");
    let named = [("ORT_DYLIB_PATH", Path::new("/no/such/file"))];
    let text = gptjc_alone(&["doctor"], &named).ok().out;
    assert!(text.contains("ORT_DYLIB_PATH names `/no/such/file`"), "{text}");
}

#[test]
fn without_python_the_file_to_fetch_is_named() {
    let home = TempDir::new().unwrap();
    let message =
        gptjc_alone(&["doctor", "--fetch-onnxruntime"], &[("HOME", home.path()), ("PATH", home.path())])
            .error();
    for part in
        ["cannot fetch ONNX Runtime", "`python3` cannot be started", ".whl", "SHA-256", "and put it at"]
    {
        assert!(message.contains(part), "expected `{part}` in: {message}");
    }
    let message = gptjc_alone(&["doctor", "--fetch-onnxruntime"], &[("PATH", home.path())]).error();
    assert!(
        message.contains("there is no cache directory") && message.contains("set XDG_CACHE_HOME"),
        "{message}"
    );
}
