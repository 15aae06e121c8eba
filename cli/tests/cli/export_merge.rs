//! `gptjc export` and `gptjc merge`, as a user runs them.

use crate::common::{Run, copy_directory, golden, gptjc, gptjc_in, safetensors, tokenizer};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const CASE: &str = "--model {case}/model --adapter {case}/adapter_final";

/// Runs a command on a golden case with an output directory in a new directory.
fn on(case: &str, line: &str) -> (TempDir, Run) {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("out");
    let run = gptjc(line, &[("case", &golden(case)), ("out", &out)]);
    (directory, run)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
fn expect(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "expected `{part}` in: {message}");
    }
}

#[test]
fn an_export_has_everything_that_optimum_loads() {
    let line = format!("export {CASE} --dtype bf16 -o {{out}} --tokenizer {}", tokenizer().display());
    let (directory, run) = on("plain", &line);
    let run = run.ok();
    expect(&run.out, &["25 tensors, 8 of them merged with the adapter", " of weights and "]);
    let files = [
        "added_tokens.json",
        "config.json",
        "export_report.json",
        "generation_config.json",
        "merges.txt",
        "model.onnx",
        "model.onnx_data",
        "special_tokens_map.json",
        "vocab.json",
    ];
    assert_eq!(names(&directory.path().join("out")), files);
    let bytes = |dtype: &str| {
        let (directory, run) =
            on("plain", &format!("export --model {{case}}/model --dtype {dtype} -o {{out}}"));
        let run = run.ok();
        expect(&run.out, &["25 tensors, 0 of them merged"]);
        expect(&run.err, &["there is no tokenizer in", "--tokenizer DIR"]);
        fs::metadata(directory.path().join("out/model.onnx_data")).unwrap().len()
    };
    let (wide, half) = (bytes("f32"), bytes("f16"));
    // Vectors stay f32, and every tensor starts at a page.
    assert!(half < wide * 2 / 3 && half > wide / 2, "{half} of {wide} bytes");
}

#[test]
fn a_merge_says_what_it_changed() {
    let (directory, run) = on("plain", &format!("merge {CASE} --dtype bf16 -o {{out}}"));
    let run = run.ok();
    expect(
        &run.out,
        &[
            "25 tensors, ",
            " bytes of bfloat16 in 1 file(s)",
            "merged     8 weights, in f32",
            "largest change: ",
            "rounding   once; worst tensor: 1.",
            "against what the adapter changed, at most ",
        ],
    );
    assert_eq!(
        names(&directory.path().join("out")),
        ["config.json", "generation_config.json", "model.safetensors"]
    );
    let (directory, run) =
        on("alltargets", &format!("merge {CASE} --json --max-shard-size 64KiB -o {{out}}"));
    let report: Value = serde_json::from_str(&run.ok().out).unwrap();
    assert_eq!((&report["merged"], &report["dtype"]), (&json!(12), &json!("float32")));
    assert!(report["comparison"].is_null() && report["tensors"].as_array().unwrap().len() == 25, "{report}");
    let files = report["files"].as_array().unwrap().len();
    assert!(files > 1, "{report}");
    let index = directory.path().join("out/model.safetensors.index.json");
    assert!(index.is_file() && names(&directory.path().join("out")).len() == files + 3);
}

/// Names and shapes of a block's tensors.
fn block_tensors(block: &dyn Fn(&str) -> String, width: usize, inner: usize) -> Vec<(String, Vec<usize>)> {
    let mut tensors = vec![
        (block("mlp.fc_in.weight"), vec![inner, width]),
        (block("mlp.fc_in.bias"), vec![inner]),
        (block("mlp.fc_out.weight"), vec![width, inner]),
        (block("mlp.fc_out.bias"), vec![width]),
        (block("ln_1.weight"), vec![width]),
        (block("ln_1.bias"), vec![width]),
    ];
    let projections = ["q_proj", "k_proj", "v_proj", "out_proj"];
    tensors.extend(projections.map(|name| (block(&format!("attn.{name}.weight")), vec![width, width])));
    tensors
}

/// A model of one narrow block with GPT-J's vocabulary, an adapter for it that is not zero, its tokenizer, and rows.
fn wide_vocabulary(directory: &Path) {
    let (width, inner, vocabulary, rank) = (8, 32, 50400, 2);
    let block = |name: &str| format!("transformer.h.0.{name}");
    let mut tensors = vec![
        ("transformer.wte.weight".to_owned(), vec![vocabulary, width]),
        ("lm_head.weight".to_owned(), vec![vocabulary, width]),
        ("lm_head.bias".to_owned(), vec![vocabulary]),
    ];
    tensors.extend(["weight", "bias"].map(|part| (format!("transformer.ln_f.{part}"), vec![width])));
    tensors.extend(block_tensors(&block, width, inner));
    let lora = |name: &str| format!("base_model.model.transformer.h.0.attn.q_proj.lora_{name}.weight");
    let adapter = vec![(lora("A"), vec![rank, width]), (lora("B"), vec![width, rank])];
    write_tensors(&directory.join("model/model.safetensors"), tensors);
    write_tensors(&directory.join("adapter/adapter_model.safetensors"), adapter);
    let config = json!({"model_type": "gptj", "n_layer": 1, "n_embd": width, "n_head": 2, "rotary_dim": 4,
        "n_inner": inner, "vocab_size": vocabulary, "n_positions": 64, "layer_norm_epsilon": 1e-5,
        "activation_function": "gelu_new", "bos_token_id": 50256, "eos_token_id": 50256});
    fs::write(directory.join("model/config.json"), config.to_string()).unwrap();
    let config = json!({"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 8,
        "lora_dropout": 0.0, "bias": "none", "target_modules": ["q_proj"]});
    fs::write(directory.join("adapter/adapter_config.json"), config.to_string()).unwrap();
    copy_directory(&tokenizer(), &directory.join("model"));
    let row = |number: usize| {
        let premise = format!("The clerk of office {number} put {number} letters on the desk.");
        let hypothesis = format!("There were {number} letters on a desk.");
        format!("{}\n", json!({"premise": premise, "hypothesis": hypothesis, "label": number % 3}))
    };
    fs::write(directory.join("dev.jsonl"), (0..11).map(row).collect::<String>()).unwrap();
}

fn write_tensors(path: &Path, tensors: Vec<(String, Vec<usize>)>) {
    let (mut header, mut data, mut state) = (Map::new(), Vec::new(), 1u32);
    for (name, shape) in tensors {
        let begin = data.len();
        for _ in 0..shape.iter().product::<usize>() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            data.extend_from_slice(&((state >> 8) as f32 / 8_388_608.0 - 1.0).to_le_bytes());
        }
        header.insert(name, json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]}));
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, safetensors(&header.into(), &data)).unwrap();
}

#[test]
fn a_merge_is_compared_with_the_adapter_apart() {
    let directory = TempDir::new().unwrap();
    wide_vocabulary(directory.path());
    let line =
        "merge --model model --adapter adapter -o merged --validation-file dev.jsonl --max-eval-samples 10";
    let run = |more: &str| {
        let line = format!("{line} {more}");
        gptjc_in(directory.path(), &line.split_whitespace().collect::<Vec<_>>()).ok().out
    };
    let report: Value = serde_json::from_str(&run("--json")).unwrap();
    let comparison = &report["comparison"];
    assert_eq!((&comparison["rows"], &comparison["same_label"]), (&json!(10), &json!(10)), "{comparison}");
    let loss = |of: usize| comparison["loss"][of].as_f64().unwrap();
    assert!((loss(0) - loss(1)).abs() < 1e-5 && loss(0) > 1.0, "{comparison}");
    let difference = comparison["largest_score_difference"].as_f64().unwrap();
    assert!(difference < 1e-4, "{comparison}");
    // The adapter is large: without it the model says something else.
    let text = fs::read_to_string(directory.path().join("adapter/adapter_config.json")).unwrap();
    let other = text.replace("\"lora_alpha\":8", "\"lora_alpha\":0");
    assert_ne!(text, other);
    fs::write(directory.path().join("adapter/adapter_config.json"), other).unwrap();
    let zero: Value = serde_json::from_str(&run("--json --overwrite-output-dir")).unwrap();
    let without = zero["comparison"]["loss"][0].as_f64().unwrap();
    assert!((without - loss(0)).abs() > 1e-4, "{without} without the adapter, {} with it", loss(0));
    let text = run("--dtype bf16 --overwrite_output_dir");
    expect(
        &text,
        &[
            "labels     ",
            " of 10 rows have the same most likely label",
            "loss       ",
            "accuracy   ",
            "(bf16)",
        ],
    );
}

/// A model of other sizes than the golden ones.
fn other_model(directory: &Path) {
    let (width, inner, vocabulary) = (48, 32, 16);
    let mut tensors = vec![
        ("transformer.wte.weight".to_owned(), vec![vocabulary, width]),
        ("lm_head.weight".to_owned(), vec![vocabulary, width]),
        ("lm_head.bias".to_owned(), vec![vocabulary]),
    ];
    for layer in 0..2 {
        let block = |name: &str| format!("transformer.h.{layer}.{name}");
        tensors.extend(block_tensors(&block, width, inner));
    }
    tensors.extend(["weight", "bias"].map(|part| (format!("transformer.ln_f.{part}"), vec![width])));
    write_tensors(&directory.join("model.safetensors"), tensors);
    let config = json!({"model_type": "gptj", "n_layer": 2, "n_embd": width, "n_head": 4, "rotary_dim": 4,
        "n_inner": inner, "vocab_size": vocabulary, "n_positions": 64});
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn bad_input_has_one_clear_message_and_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| -> PathBuf { directory.path().join(name) };
    let (model, adapter) = (golden("plain/model"), golden("plain/adapter_final"));
    copy_directory(&adapter, &at("rank"));
    let config = fs::read_to_string(at("rank/adapter_config.json")).unwrap();
    fs::write(at("rank/adapter_config.json"), config.replace("\"r\": 8", "\"r\": 4")).unwrap();
    other_model(&at("other"));
    copy_directory(&adapter, &at("no_file"));
    fs::remove_file(at("no_file/adapter_model.safetensors")).unwrap();
    fs::create_dir(at("full")).unwrap();
    fs::write(at("full/thesis.tex"), "precious").unwrap();
    let other = at("other");
    let cases: [(&str, &Path, &str, &[&str]); 7] = [
        ("good", &other, "", &["does not fit the model", "expected shape [8, 48], found [8, 64]"]),
        ("rank", &model, "", &["has shape [8, 64], but adapter_config.json says rank 4"]),
        ("no_file", &model, "", &["adapter_model.safetensors`: No such file"]),
        ("nothing", &model, "", &["cannot load the adapter", "adapter_config.json"]),
        ("good", Path::new("none"), "", &["there is no model directory `none`"]),
        ("good", &model, "--tokenizer none", &["there is no tokenizer in `none`", "--tokenizer DIR"]),
        ("good", &model, "--overwrite-output-dir", &["`thesis.tex`", "nothing was replaced"]),
    ];
    for command in ["export", "merge"] {
        for (name, model, more, parts) in cases {
            let adapter = if name == "good" { adapter.clone() } else { at(name) };
            let out = if more.starts_with("--overwrite") { at("full") } else { at("out") };
            let line = format!("{command} --model {{model}} --adapter {{adapter}} -o {{out}} {more}");
            let run = gptjc(&line, &[("model", model), ("adapter", &adapter), ("out", &out)]);
            expect(&run.error(), parts);
            assert!(!at("out").exists(), "{command} {name}: something was written");
        }
        let paths = [("model", model.as_path()), ("adapter", &adapter), ("out", &at("full"))];
        let run = gptjc(&format!("{command} --model {{model}} --adapter {{adapter}} -o {{out}}"), &paths);
        expect(&run.error(), &["full` is not empty", "overwrite"]);
        assert_eq!(fs::read_to_string(at("full/thesis.tex")).unwrap(), "precious");
    }
    let left = names(directory.path());
    assert!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");
}

#[test]
fn a_file_that_cannot_grow_leaves_nothing_half_written() {
    for command in ["export", "merge"] {
        let directory = TempDir::new().unwrap();
        let out = directory.path().join("out");
        // The limit stands for a full disk: 64 KiB, with the signal ignored that would end the process.
        let script = "trap '' XFSZ; ulimit -f 64; exec \"$@\"";
        let case = golden("plain");
        let output = Command::new("bash")
            .args(["-c", script, "bash", env!("CARGO_BIN_EXE_gptjc"), command, "--model"])
            .arg(case.join("model"))
            .arg("--adapter")
            .arg(case.join("adapter_final"))
            .arg("-o")
            .arg(&out)
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        let file = if command == "merge" { "out/model.safetensors" } else { "model.onnx_data" };
        expect(&error, &[file, "File too large"]);
        assert_eq!(names(directory.path()), [""; 0], "{command}: {error}");
    }
}
