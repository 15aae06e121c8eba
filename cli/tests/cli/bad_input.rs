//! Bad input, through the binary: one clear message each, and exit code 1.

use crate::common::{copy_directory, edit_header, golden, gptjc, tokenizer};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Changes the header of a safetensors file.
type Change = fn(&mut serde_json::Value);

/// Trains on the golden case `plain` with the model in `model`; returns the message.
fn refusal(model: &Path, more: &str, paths: &[(&str, &Path)]) -> String {
    let directory = TempDir::new().unwrap();
    let tokens = golden("plain/batches.safetensors");
    let out = directory.path().join("out");
    let mut all = vec![("model", model), ("tokens", tokens.as_path()), ("out", out.as_path())];
    all.extend(paths);
    let precision = if more.contains("--precision") { "" } else { "--precision f32 " };
    let line = format!("train --model {{model}} {precision}--output-dir {{out}} {more}");
    let message = gptjc(&line, &all).error();
    assert!(!out.join("adapter_model.safetensors").exists(), "nothing is written: {message}");
    message
}

/// As [`refusal`], on the golden batches.
fn refusal_on_tokens(model: &Path, more: &str, paths: &[(&str, &Path)]) -> String {
    refusal(model, &format!("--train-tokens {{tokens}} {more}"), paths)
}

/// A copy of the golden model, and its directory.
fn model() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let model = directory.path().join("model");
    copy_directory(&golden("plain/model"), &model);
    (directory, model)
}

#[track_caller]
fn expect(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "expected `{part}` in: {message}");
    }
}

#[test]
fn missing_files() {
    let (_directory, model) = model();
    let none = model.join("none");
    expect(&refusal_on_tokens(&none, "", &[]), &["there is no model directory", "none`"]);
    expect(
        &refusal_on_tokens(Path::new("EleutherAI/gpt-j-6b"), "", &[]),
        &["never opens the network", "hf download EleutherAI/gpt-j-6b --include"],
    );
    expect(&refusal(&model, "--train-tokens {none}", &[("none", &none)]), &["none`", "No such file"]);
    expect(&refusal(&model, "--train-file {none}", &[("none", &none)]), &["/none", "No such file"]);
    expect(&refusal(&model, "", &[]), &["there is nothing to train on", "--train-file FILE"]);
    expect(
        &refusal_on_tokens(&model, "--plan {none}", &[("none", &none)]),
        &["cannot read", "none`", "No such file"],
    );
    expect(
        &refusal_on_tokens(&model, "--adapter {none}", &[("none", &none)]),
        &["cannot load the adapter", "none"],
    );
    fs::remove_file(model.join("model.safetensors")).unwrap();
    expect(&refusal_on_tokens(&model, "", &[]), &["cannot load the model", "expected model.safetensors"]);
    fs::remove_file(model.join("config.json")).unwrap();
    expect(&refusal_on_tokens(&model, "", &[]), &["cannot read", "config.json`", "No such file"]);
}

#[test]
fn truncated_files() {
    let (directory, model) = model();
    let cut = |from: &Path, to: &Path| {
        let bytes = fs::read(from).unwrap();
        fs::write(to, &bytes[..bytes.len() - 100]).unwrap();
    };
    cut(&golden("plain/model/model.safetensors"), &model.join("model.safetensors"));
    expect(&refusal_on_tokens(&model, "", &[]), &["cannot load the model", "model.safetensors", "truncated"]);
    let tokens = directory.path().join("cut.safetensors");
    cut(&golden("plain/batches.safetensors"), &tokens);
    let message = refusal(&golden("plain/model"), "--train-tokens {cut}", &[("cut", &tokens)]);
    expect(&message, &["cannot use the pre-tokenised batches", "cut.safetensors", "truncated"]);
    let plan = directory.path().join("a.plan");
    gptjc("compile --model {model} -o {plan}", &[("model", &golden("plain/model")), ("plan", &plan)]).ok();
    cut(&plan.clone(), &plan);
    expect(&gptjc("inspect {plan}", &[("plan", &plan)]).error(), &["cannot use the plan", "a.plan`"]);
    expect(
        &gptjc("inspect {model}/config.json", &[("model", &model)]).error(),
        &["this is not a gptjc plan"],
    );
}

#[test]
fn a_plan_of_another_version_or_with_changed_bytes() {
    let directory = TempDir::new().unwrap();
    let (model, plan) = (golden("plain/model"), directory.path().join("a.plan"));
    gptjc("compile --model {model} -o {plan}", &[("model", &model), ("plan", &plan)]).ok();
    let good = fs::read(&plan).unwrap();
    // The version stands behind 8 bytes of magic. A plan of another version still says what it was compiled for.
    let changes: [(usize, bool, &[&str]); 2] = [
        (
            8,
            true,
            &["the plan has format version", "this gptjc reads version", "`gptjc compile --from OLD.plan"],
        ),
        (good.len() / 2, false, &["the plan is damaged", "write it again with `gptjc compile`"]),
    ];
    for (at, renewable, parts) in changes {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        fs::write(&plan, &bytes).unwrap();
        for message in [
            gptjc("inspect {plan}", &[("plan", &plan)]).error(),
            refusal_on_tokens(&model, "--plan {plan}", &[("plan", &plan)]),
        ] {
            expect(&message, &["cannot use the plan", "a.plan`"]);
            expect(&message, parts);
        }
        if !renewable {
            expect(&gptjc("compile --from {plan} -o {plan}", &[("plan", &plan)]).error(), parts);
        }
        assert!(fs::read(&plan).unwrap() == bytes, "a plan that cannot be used is not replaced");
        if renewable {
            gptjc("compile --from {plan} -o {plan}", &[("plan", &plan)]).ok();
            assert!(fs::read(&plan).unwrap() == good, "the renewed plan is the plan of this version");
        }
    }
}

#[test]
fn tensors_with_another_name_shape_or_dtype() {
    let changes: [(Change, &[&str]); 3] = [
        (
            |header| {
                let tensor = header.as_object_mut().unwrap().remove("transformer.ln_f.bias").unwrap();
                header["transformer.ln_f.bios"] = tensor;
            },
            &["do not fit the model", "transformer.ln_f.bias"],
        ),
        (
            |header| header["transformer.h.0.attn.q_proj.weight"]["shape"] = json!([32, 128]),
            &["do not fit the model", "transformer.h.0.attn.q_proj.weight", "[64, 64]", "[32, 128]"],
        ),
        (
            |header| header["transformer.h.1.mlp.fc_in.bias"]["dtype"] = json!("I32"),
            &["transformer.h.1.mlp.fc_in.bias", "I32"],
        ),
    ];
    for (change, parts) in changes {
        let (_directory, model) = model();
        edit_header(&model.join("model.safetensors"), change);
        expect(&refusal_on_tokens(&model, "", &[]), parts);
    }
}

#[test]
fn options_that_the_model_cannot_have() {
    let model = golden("plain/model");
    expect(
        &refusal_on_tokens(&model, "--lora-target-modules c_attn", &[]),
        &["--lora-target-modules c_attn matches no module of the model", "q_proj, k_proj, v_proj"],
    );
    expect(
        &refusal_on_tokens(&model, "--max-seq-length 257", &[]),
        &["max_seq_length", "n_positions = 256", "found 257"],
    );
    expect(
        &refusal_on_tokens(&model, "--memory-budget 100KiB", &[]),
        &[
            "the memory budget of 102400 bytes cannot be met",
            "the least that works is",
            "raise --memory-budget to at least that",
        ],
    );
    expect(
        &refusal_on_tokens(&model, "--target pdp-11", &[]),
        &["cannot use the target `pdp-11`", "give a file, or one of spr-2s, zen4-2c, avx2-2c"],
    );
    let (_directory, other) = self::model();
    let config = fs::read_to_string(other.join("config.json")).unwrap().replace("\"gptj\"", "\"gpt2\"");
    fs::write(other.join("config.json"), config).unwrap();
    expect(
        &refusal_on_tokens(&other, "", &[]),
        &["cannot use the config", "`model_type`: expected gptj, found gpt2"],
    );
}

#[test]
fn rows_longer_than_the_plans_windows() {
    let message = refusal_on_tokens(&golden("plain/model"), "--max-seq-length 8", &[]);
    expect(&message, &["step 0, row 0", "16 tokens do not fit a window of 8"]);
}

#[test]
fn flags_and_adapters_that_contradict_a_plan() {
    let (directory, model) = model();
    let plan = directory.path().join("a.plan");
    let line = "compile --model {model} --precision f32 --lora-alpha 54 --lora-target-modules q_proj,v_proj,k_proj,out_proj \
                --max-seq-length 16 --per-device-train-batch-size 2 --lora-rank 4 -o {plan}";
    gptjc(line, &[("model", &model), ("plan", &plan)]).ok();
    let more = "--plan {plan} --lora-rank 8 --max-seq-length 32 --gradient-accumulation-steps 4";
    expect(
        &refusal_on_tokens(&model, more, &[("plan", &plan)]),
        &[
            "what is given contradicts the plan",
            "--lora-rank: given 8, the plan has 4",
            "--max-seq-length: given 32, the plan has 16",
            "given 2 x 4 = 8, the plan has at most 2",
            "gptjc compile --from OLD.plan",
        ],
    );
    let message = refusal_on_tokens(&golden("alltargets/model"), "--plan {plan}", &[("plan", &plan)]);
    expect(&message, &["config.json: vocab_size: given 256, the plan has 512"]);
    let adapter = golden("plain/adapter_init");
    let paths = [("plan", plan.as_path()), ("adapter", adapter.as_path())];
    let message = refusal_on_tokens(&model, "--plan {plan} --adapter {adapter}", &paths);
    expect(&message, &["adapter_init", "rank 8", "rank 4"]);
    let message = refusal_on_tokens(&model, "--adapter {adapter} --lora-rank 4", &paths);
    expect(&message, &["contradicts the adapter", "--lora-rank: given 4, the adapter has 8"]);
    let message = refusal_on_tokens(&model, "--per-device-train-batch-size 8", &[]);
    expect(&message, &["--per-device-train-batch-size 8 contradicts", "which has batches of 2"]);
}

#[test]
fn rows_of_text() {
    let directory = TempDir::new().unwrap();
    let (model, tokenizer) = (golden("plain/model"), tokenizer());
    let file = directory.path().join("rows.jsonl");
    let row = r#"{"premise": "It rains.", "hypothesis": "It is wet.", "label": 0}"#;
    let cases = [
        (String::new(), vec!["rows.jsonl", "is empty"]),
        (format!("{row}\n{{\"premise\": 1"), vec!["rows.jsonl, line 2"]),
        (
            format!("{row}\n{}", row.replace("label", "lable")),
            vec!["line 2", "no field `gold_label` (or `label`)"],
        ),
        (row.replace('0', "-1"), vec!["no row to train on", "1 row without a label"]),
        // The golden model has another vocabulary than the tokenizer.
        (format!("{row}\n"), vec!["cannot make windows", "not in the vocabulary of 512"]),
    ];
    for (text, parts) in cases {
        fs::write(&file, &text).unwrap();
        let more = "--train-file {file} --tokenizer-name {tokenizer} --packing pad";
        let message = refusal(&model, more, &[("file", &file), ("tokenizer", &tokenizer)]);
        expect(&message, &parts);
    }
    let message = refusal(&model, "--train-file {file}", &[("file", &file)]);
    expect(&message, &["cannot load the tokenizer", "neither tokenizer.json nor vocab.json"]);
    let message = refusal(&model, "--dataset-name squad", &[]);
    expect(&message, &["there is no dataset `squad`", "--data-dir DIR"]);
    let message = refusal(&model, "--dataset-name glue --dataset-config-name sst2", &[]);
    expect(&message, &["--dataset-config-name sst2 is not possible", "`mnli` only"]);
}

#[test]
fn output_directories() {
    let directory = TempDir::new().unwrap();
    let (model, tokens) = (golden("plain/model"), golden("plain/batches.safetensors"));
    let paths = [("model", model.as_path()), ("tokens", &tokens), ("out", directory.path())];
    let line =
        "train --model {model} --precision f32 --train-tokens {tokens} --max-steps 1 --output-dir {out}";
    let kept = directory.path().join("kept.txt");
    fs::write(&kept, "kept").unwrap();
    expect(&gptjc(line, &paths).error(), &["is not empty", "--overwrite-output-dir"]);
    let message = gptjc(&format!("{line}/kept.txt"), &paths).error();
    expect(&message, &["kept.txt` is not a directory"]);
    gptjc(&format!("{line} --overwrite_output_dir"), &paths).ok();
    assert_eq!(fs::read_to_string(&kept).unwrap(), "kept");
    assert!(directory.path().join("adapter_model.safetensors").is_file());
}

#[test]
fn values_of_the_reference_workflow_that_cannot_be_followed() {
    let model = golden("plain/model");
    expect(
        &refusal_on_tokens(&model, "--use_cpu False", &[]),
        &["--use-cpu False is not possible", "the CPU only"],
    );
    expect(
        &refusal_on_tokens(&model, "--task chat", &[]),
        &["--task chat is not possible", "`completion` only"],
    );
}

#[test]
fn command_lines_that_cannot_be_read_have_exit_code_2() {
    let run = gptjc("train --model a --packng pad", &[]);
    assert_eq!(run.code, Some(2));
    expect(&run.err, &["unexpected argument '--packng'", "a similar argument exists: '--packing'"]);
}

/// What somebody types wrong in the first minutes, and what the message must say to do about it.
#[test]
fn first_errors_give_the_next_step() {
    let directory = TempDir::new().unwrap();
    let (model, empty) = (golden("plain/model"), directory.path().join("empty"));
    fs::create_dir(&empty).unwrap();
    let (none, rows) = (directory.path().join("none"), directory.path().join("rows.jsonl"));
    fs::write(&rows, r#"{"premise": "It rains.", "hypothesis": "It is wet.", "label": 0}"#).unwrap();
    let here = directory.path();
    let paths =
        [("model", model.as_path()), ("empty", &empty), ("none", &none), ("rows", &rows), ("in", here)];
    let cases: [(&str, &[&str]); 11] = [
        ("compile --model {empty} -o {in}/a.plan", &["config.json", "give that directory"]),
        (
            "train --model {model} --train-file {none} --output-dir {in}/o",
            &["none", "check the path: it is looked for from"],
        ),
        (
            "train --model {model} --train-file {empty} --output-dir {in}/o",
            &["it is a directory", "--data-dir"],
        ),
        ("inspect {none}", &["cannot read the plan", "gptjc compile --model MODEL -o FILE"]),
        ("inspect {model}/config.json", &["not a gptjc plan", "write one with `gptjc compile`"]),
        ("report {empty}", &["there is nothing of a run", "give the --output-dir of `gptjc train`"]),
        ("validate --onnx {empty} --validation-file {rows}", &["as `gptjc export` writes it"]),
        (
            "export --model {model} --adapter {none} -o {in}/onnx",
            &["an adapter is a directory with adapter_config.json"],
        ),
        ("synth --config {none} -o {in}/z", &["none", "check the path: it is looked for from"]),
        ("compile --model {model} -o {none}/a.plan", &["create the directory it is in"]),
        ("demo --output-dir {in}", &["is not empty", "give another --output-dir"]),
    ];
    for (line, parts) in cases {
        expect(&gptjc(line, &paths).error(), parts);
    }
    for made in ["a.plan", "onnx", "z", "o/adapter_model.safetensors"] {
        assert!(!here.join(made).exists(), "{made} is half written");
    }
}

#[test]
fn a_plan_for_another_machine_says_how_to_have_one_for_this() {
    let directory = TempDir::new().unwrap();
    let (model, plan) = (golden("plain/model"), directory.path().join("other.plan"));
    let target = directory.path().join("other.toml");
    fs::write(&target, "isa = \"amx\"\ncores_per_socket = 4\n").unwrap();
    let paths = [("model", model.as_path()), ("plan", &plan), ("target", &target)];
    let line = "compile --model {model} --target {target} --max-seq-length 16 --per-device-train-batch-size 2 -o {plan}";
    gptjc(line, &paths).ok();
    let page: serde_json::Value = serde_json::from_str(&gptjc("doctor --json", &[]).ok().out).unwrap();
    if page["kernels"].as_array().unwrap().contains(&"amx".into()) {
        return;
    }
    let message = refusal_on_tokens(&model, "--precision bf16 --plan {plan}", &[("plan", &plan)]);
    expect(&message, &["needs amx, which this CPU lacks", "gptjc compile --from OLD.plan -o NEW.plan"]);
}
