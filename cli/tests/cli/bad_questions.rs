//! Bad input of `validate` and `generate`, through the binary: one clear message each, and exit code 1.

use crate::common::{copy_directory, golden, gptjc, gptjc_alone, gptjc_in, tokenizer};
use crate::tiny_model::TinyModel;
use std::fs;
use std::path::Path;

/// The message of `validate` on `rows`.
fn refusal(tiny: &TinyModel, rows: &Path, more: &str) -> String {
    let (model, onnx) = (tiny.model(), tiny.onnx());
    let paths = [("model", model.as_path()), ("onnx", &onnx), ("rows", rows)];
    gptjc(&format!("validate --validation-file {{rows}} {more}"), &paths).error()
}

#[track_caller]
fn expect(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "expected `{part}` in: {message}");
    }
}

#[test]
fn rows_that_cannot_be_read() {
    let tiny = TinyModel::new();
    let rows = tiny.path("bad.jsonl");
    let good = fs::read_to_string(tiny.rows()).unwrap();
    let refused = |text: &str| {
        fs::write(&rows, text).unwrap();
        refusal(&tiny, &rows, "--model {model}")
    };
    let second = good.lines().next().unwrap().to_owned() + "\n{\"sentence1\": \"cut of\n";
    expect(
        &refused(&second),
        &["cannot read the rows of", "bad.jsonl, line 2: ", "expected one JSON object a line"],
    );
    expect(
        &refused("{\"premise\": \"P\"}\n"),
        &["bad.jsonl, line 1: no field `sentence2`", "found `premise`"],
    );
    expect(&refused(""), &["bad.jsonl is empty", "it has no row"]);
    expect(&refused("\n\n"), &["bad.jsonl is empty"]);
    expect(&refusal(&tiny, &tiny.path("none"), "--model {model}"), &["none", "No such file"]);
}

#[test]
fn rows_longer_than_the_model_are_refused_before_it_is_loaded() {
    let tiny = TinyModel::new();
    let rows = tiny.path("long.jsonl");
    let long = "a word and another ".repeat(20);
    let row = format!("{{\"premise\": \"{long}\", \"hypothesis\": \"H\", \"label\": 0}}\n");
    fs::write(&rows, fs::read_to_string(tiny.rows()).unwrap() + &row + &row).unwrap();
    for engine in ["--model {model}", "--onnx {onnx}"] {
        let message = refusal(&tiny, &rows, engine);
        expect(&message, &["row 8 has ", "more than the model's 48 positions", "(1 more rows are too long)"]);
    }
    let model = tiny.model();
    let arguments = ["generate", "--prompt", &long, "--model", model.to_str().unwrap()];
    let message = gptjc_in(tiny.root.path(), &arguments).error();
    expect(
        &message,
        &["the prompt has ", "with 32 new ones more than the model's 48 positions", "--max-new-tokens"],
    );
    let arguments = ["generate", "--prompt", "", "--model", model.to_str().unwrap()];
    expect(&gptjc_in(tiny.root.path(), &arguments).error(), &["the prompt has no text to continue"]);
}

#[test]
fn tokenizers_that_do_not_fit() {
    let tiny = TinyModel::new();
    let model = tiny.path("bare");
    copy_directory(&golden("plain/model"), &model);
    let tokenizer = tokenizer();
    let rows = tiny.rows();
    let paths = [("model", model.as_path()), ("rows", &rows), ("tokenizer", &tokenizer)];
    let line = "validate --model {model} --validation-file {rows}";
    let message = gptjc(line, &paths).error();
    expect(&message, &["cannot load the tokenizer", "bare has neither tokenizer.json nor vocab.json"]);
    let message = gptjc(&format!("{line} --tokenizer {{tokenizer}}"), &paths).error();
    expect(&message, &["cannot validate on", "vocabulary of 512; is this the model's tokenizer?"]);
}

#[test]
fn flags_that_cannot_be_followed() {
    let tiny = TinyModel::new();
    let rows = tiny.rows();
    let missing = refusal(&tiny, &rows, "--model {model} --predictions no/such/place.jsonl");
    expect(&missing, &["no/such", "No such file"]);
    let template = refusal(&tiny, &rows, "--model {model} --prompt-template {premise}{label}");
    expect(&template, &["--prompt-template cannot be used", "expected {hypothesis} once"]);
    let none = refusal(&tiny, &rows, "--model EleutherAI/gpt-j-6b");
    expect(&none, &["never opens the network", "hf download EleutherAI/gpt-j-6b"]);
    expect(&refusal(&tiny, &rows, "--model {model} --adapter {model}"), &["cannot load the adapter"]);
    for flags in ["--model {model}", "--adapter {model}", "--precision f32"] {
        let both = refusal(&tiny, &rows, &format!("--onnx {{onnx}} {flags}"));
        let flag = flags.split(' ').next().unwrap();
        expect(&both, &[&format!("--onnx is one model and {flag} is of another"), "--compare native"]);
    }
    let same = refusal(&tiny, &rows, "--model {model} --compare native");
    expect(&same, &["--compare native asks for the same", "--onnx DIR"]);
    for line in [
        "validate --validation-file x",
        "validate --validation-file x --onnx a --compare native",
        "validate --validation-file x --onnx a --compare-nodes false",
        "validate --validation-file x --onnx a --mode guess",
        "validate --onnx a",
        "generate --model a",
        "generate --model a --prompt p --prompt-file f",
    ] {
        assert_eq!(gptjc(line, &[]).code, Some(2), "{line}");
    }
}

/// Replaces every `from` in the export's model by `to`, which must be as long.
fn patch_model(tiny: &TinyModel, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let file = tiny.onnx().join("model.onnx");
    let mut bytes = fs::read(&file).unwrap();
    let places: Vec<usize> =
        (0..bytes.len()).filter(|&at| bytes[at..].starts_with(from.as_bytes())).collect();
    assert!(!places.is_empty(), "no `{from}` in the model");
    places.into_iter().for_each(|at| bytes[at..at + to.len()].copy_from_slice(to.as_bytes()));
    fs::write(file, bytes).unwrap();
}

#[test]
fn exports_that_are_damaged_or_foreign() {
    // All of this is found before ONNX Runtime is looked for.
    let refused = |damage: &dyn Fn(&TinyModel)| {
        let tiny = TinyModel::new();
        damage(&tiny);
        let rows = tiny.rows();
        let message = refusal(&tiny, &rows, "--onnx {onnx}");
        expect(&message, &["cannot load the model"]);
        message
    };
    let data = |tiny: &TinyModel| tiny.onnx().join("model.onnx_data");
    let missing = refused(&|tiny| fs::remove_file(data(tiny)).unwrap());
    expect(&missing, &["model.onnx_data` is missing", "Copy it beside the model"]);
    let short = refused(&|tiny| {
        let file = fs::File::options().write(true).open(data(tiny)).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    });
    expect(&short, &["model.onnx_data` has ", "the file is cut off"]);
    let outside = refused(&|tiny| {
        fs::rename(data(tiny), tiny.path("el.onnx_data")).unwrap();
        patch_model(tiny, "model.onnx_data", "../el.onnx_data");
    });
    expect(&outside, &["lies in `../el.onnx_data`, which leads out of the directory", "refused"]);
    let inputs = refused(&|tiny| patch_model(tiny, "position_ids", "position_odd"));
    expect(&inputs, &["input `position_ids`", "found no such input", "text-generation-with-past"]);
    let truncated = refused(&|tiny| {
        let file = fs::File::options().write(true).open(tiny.onnx().join("model.onnx")).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    });
    expect(&truncated, &["model.onnx", "export the model again"]);
    expect(
        &refused(&|tiny| fs::remove_dir_all(tiny.onnx()).unwrap()),
        &["cannot read", "config.json", "No such file"],
    );
}

#[test]
fn no_onnxruntime() {
    let tiny = TinyModel::new();
    let (onnx, rows) = (tiny.onnx(), tiny.rows());
    let arguments =
        ["validate", "--onnx", onnx.to_str().unwrap(), "--validation-file", rows.to_str().unwrap()];
    let named =
        gptjc_alone(&arguments, &[("ORT_DYLIB_PATH", Path::new("/no/such/libonnxruntime.so"))]).error();
    expect(
        &named,
        &["ORT_DYLIB_PATH names `/no/such/libonnxruntime.so`", "there is no such file", "or unset it"],
    );
    let empty = tiny.path("home");
    let none = gptjc_alone(&arguments, &[("HOME", &empty), ("PATH", &empty)]).error();
    let parts = [
        "was not found. Looked in:",
        "beside this binary",
        "in our cache",
        "gptjc doctor --fetch-onnxruntime",
    ];
    expect(&none, &parts);
}

#[test]
fn engines_that_do_not_run_what_is_asked() {
    let tiny = TinyModel::new();
    let refused = |more: &str| refusal(&tiny, &tiny.rows(), more);
    for engine in ["ort", "tract"] {
        let message = refused(&format!("--model {{model}} --engine {engine}"));
        expect(&message, &["run exports, and --model is none", "gptjc export", "--compare ort"]);
    }
    let message = refused("--onnx {onnx} --engine native");
    expect(&message, &["--engine native runs a --model", "--compare native"]);
    if cfg!(not(feature = "tract")) {
        for engine in ["--engine tract", "--model {model} --compare tract"] {
            let message = refused(&format!("--onnx {{onnx}} {engine}"));
            expect(&message, &["built without tract", "--features tract", "ort"]);
        }
    }
}
