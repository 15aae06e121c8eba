//! `gptjc doctor`, with and without what it looks for.

use crate::common::{gptjc, gptjc_alone};
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

#[test]
fn the_machine_is_described() {
    let text = gptjc("doctor", &[]).ok().out;
    for part in
        ["CPU  ", "cores  ", "threads  ", "caches  ", "memory  ", "kernels  ", "disk  ", "ONNX Runtime  "]
    {
        assert!(text.contains(part), "expected `{part}` in: {text}");
    }
    let page: Value = serde_json::from_str(&gptjc("doctor --json", &[]).ok().out).unwrap();
    assert!(page["cores"]["usable"].as_u64().unwrap() > 0, "{page}");
    assert!(page["threads"].as_u64().unwrap() > 0, "{page}");
    assert!(!page["topology"]["cores"].as_array().unwrap().is_empty(), "{page}");
    assert!(page["memory"]["total"].as_u64().unwrap() > 0, "{page}");
    assert!(page["kernels"].as_array().unwrap().contains(&"portable".into()), "{page}");
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
