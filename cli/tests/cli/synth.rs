//! `gptjc synth`: checkpoints that the other commands take, and what it refuses.

use crate::common::{golden, gptjc};
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

fn config() -> std::path::PathBuf {
    golden("plain/model/config.json")
}

#[test]
fn a_made_up_model_trains() {
    let directory = TempDir::new().unwrap();
    let (model, out) = (directory.path().join("model"), directory.path().join("out"));
    let (config, tokens) = (config(), golden("plain/batches.safetensors"));
    let paths: [(&str, &Path); 4] =
        [("config", &config), ("tokens", &tokens), ("model", &model), ("out", &out)];
    let synth = "synth --config {config} --seed 7 --layout sharded --max-shard-size 200KB -o {model}";
    let said = gptjc(synth, &paths).ok().out;
    assert!(said.contains("parameters") && said.contains("file(s)"), "{said}");
    assert!(model.join("model.safetensors.index.json").is_file());
    assert_eq!(fs::read(model.join("config.json")).unwrap(), fs::read(&config).unwrap());
    gptjc("train --model {model} --train-tokens {tokens} --max-steps 2 --output-dir {out}", &paths).ok();
    assert!(out.join("adapter_model.safetensors").is_file());
    let message = gptjc("synth --config {config} -o {model}", &paths).error();
    assert!(message.contains("is not empty; choose another directory"), "{message}");
}

#[test]
fn a_file_that_cannot_be_finished_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("model");
    // The signal is ignored, so that the write fails instead.
    let script = r#"trap '' XFSZ; ulimit -f 16; exec "$0" synth --config "$1" -o "$2""#;
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_gptjc")]).arg(config()).arg(&out);
    let output = command.output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("cannot write `") && message.contains("model.safetensors`"), "{message}");
    assert!(message.contains("`ulimit -f` does not allow"), "{message}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{message}");
}

#[test]
fn a_config_of_another_model_is_refused() {
    let directory = TempDir::new().unwrap();
    let (config, out) = (directory.path().join("config.json"), directory.path().join("out"));
    fs::write(&config, r#"{"model_type": "gpt2"}"#).unwrap();
    let message = gptjc("synth --config {config} -o {out}", &[("config", &config), ("out", &out)]).error();
    assert!(message.contains("`model_type`: expected gptj, found gpt2"), "{message}");
    assert!(!out.exists());
}
