//! Every way in which a model's weights arrive: files of torch, conversions, names of the hub.

use crate::common::{Run, copy_directory, golden, gptjc, gptjc_alone, gptjc_in};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

const COMMIT: &str = "f98c709453c9402b1309b032f40df1c10ad481a2";

/// A made-up model of the golden shape in `layout`.
fn made(directory: &Path, layout: &str) -> PathBuf {
    let (config, model) = (golden("plain/model/config.json"), directory.join(layout));
    let line =
        format!("synth --config {{config}} --seed 5 --layout {layout} --max-shard-size 200KB -o {{model}}");
    gptjc(&line, &[("config", &config), ("model", &model)]).ok();
    model
}

/// Trains two steps on the golden batches.
fn train(model: &Path, out: &Path, more: &str) -> Run {
    let tokens = golden("plain/batches.safetensors");
    let line = format!(
        "train --train-tokens TOKENS --max-steps 2 --threads 1 --model MODEL --output-dir OUT {more}"
    );
    let arguments: Vec<PathBuf> = line
        .split_whitespace()
        .map(|word| match word {
            "TOKENS" => tokens.clone(),
            "MODEL" => model.to_owned(),
            "OUT" => out.to_owned(),
            word => word.into(),
        })
        .collect();
    gptjc_in(Path::new("."), &arguments)
}

fn adapter(out: &Path) -> Vec<u8> {
    fs::read(out.join("adapter_model.safetensors")).unwrap()
}

#[test]
fn a_file_of_torch_is_converted_once_and_trains_as_its_conversion_does() {
    let directory = TempDir::new().unwrap();
    let place = |name: &str| directory.path().join(name);
    let bin = made(directory.path(), "bin-f16");
    let first = train(&bin, &place("first"), "").ok().err;
    let inside = bin.join("gptjc-bf16");
    assert!(
        first.contains("are converted to bf16, once: `") && first.contains("gptjc-bf16` takes"),
        "{first}"
    );
    assert!(first.contains("from float16") && first.contains("relative error"), "{first}");
    let record = fs::read_to_string(inside.join("gptjc_conversion.json")).unwrap();
    assert!(record.contains("\"pytorch_model.bin\"") && record.contains("\"bfloat16\""), "{record}");
    let second = train(&bin, &place("second"), "").ok().err;
    assert!(second.contains("gptjc-bf16`, converted to bf16 before"), "{second}");
    // `gptjc convert` gives the same, and knows it the second time.
    let made = place("converted");
    let convert = || gptjc("convert --model {bin} -o {made}", &[("bin", &bin), ("made", &made)]).ok().out;
    let said = convert();
    assert!(said.contains("25 tensors") && said.contains("rounding   changed"), "{said}");
    assert_eq!(
        fs::read(made.join("model.safetensors")).unwrap(),
        fs::read(inside.join("model.safetensors")).unwrap()
    );
    assert!(convert().contains("is up to date: nothing was written"));
    train(&made, &place("third"), "").ok();
    assert_eq!(adapter(&place("first")), adapter(&place("second")));
    assert_eq!(adapter(&place("first")), adapter(&place("third")));
    // The adapter names the model, not its conversion.
    let config = fs::read_to_string(place("first").join("adapter_config.json")).unwrap();
    assert!(config.contains(&format!("\"{}\"", bin.display())), "{config}");
}

#[test]
fn f32_arithmetic_takes_the_values_as_they_are() {
    let directory = TempDir::new().unwrap();
    let bin = made(directory.path(), "bin-f32");
    let wide = directory.path().join("wide");
    gptjc("convert --model {bin} --dtype f32 -o {wide}", &[("bin", &bin), ("wide", &wide)]).ok();
    let out = |name: &str| directory.path().join(name);
    let said = train(&bin, &out("a"), "--precision f32").ok().err;
    assert!(!said.contains("converted") && !bin.join("gptjc-bf16").exists(), "{said}");
    train(&wide, &out("b"), "--precision f32").ok();
    assert_eq!(adapter(&out("a")), adapter(&out("b")));
}

#[test]
fn an_export_of_a_file_of_torch_loses_nothing() {
    let directory = TempDir::new().unwrap();
    let bin = made(directory.path(), "bin-f32");
    let wide = directory.path().join("wide");
    gptjc("convert --model {bin} --dtype f32 -o {wide}", &[("bin", &bin), ("wide", &wide)]).ok();
    let data = |model: &Path, name: &str| {
        let out = directory.path().join(name);
        gptjc("export --model {model} -o {out}", &[("model", model), ("out", &out)]).ok();
        fs::read(out.join("model.onnx_data")).unwrap()
    };
    assert!(data(&bin, "one") == data(&wide, "other"));
}

#[test]
fn what_is_wrong_with_a_file_of_torch_is_said_before_anything_starts() {
    let directory = TempDir::new().unwrap();
    let bin = made(directory.path(), "bin-f16");
    let file = bin.join("pytorch_model.bin");
    let whole = fs::read(&file).unwrap();
    let out = directory.path().join("out");
    let message = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        train(&bin, &out, "").error()
    };
    let cut = message(&whole[..whole.len() - 1]);
    assert!(cut.contains("pytorch_model.bin` cannot be read") && cut.contains("truncated"), "{cut}");
    let module = message(&fs::read(golden("torch/module.bin")).unwrap());
    assert!(module.contains("asks for `torch.nn.modules.linear.Linear`"), "{module}");
    let other = message(&fs::read(golden("torch/zip.bin")).unwrap());
    assert!(
        other.contains("do not fit the model") && other.contains("expected shape [512, 64], found [4, 6]"),
        "{other}"
    );
    assert!(!out.join("adapter_config.json").exists() && !bin.join("gptjc-bf16").exists());
}

#[test]
fn a_conversion_that_the_disk_cannot_hold_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let bin = made(directory.path(), "bin-f16");
    let out = directory.path().join("out");
    // The signal is ignored, so that the write fails instead.
    let script = r#"trap '' XFSZ; ulimit -f 64; exec "$0" convert --model "$1" -o "$2""#;
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_gptjc")]).arg(&bin).arg(&out);
    let output = command.output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("cannot write `") && message.contains("out/model.safetensors`"), "{message}");
    assert!(message.contains("`ulimit -f` does not allow"), "{message}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "only the model: {message}");
}

/// The most memory that a process had, as far as it was seen, in bytes.
fn peak_memory(command: &mut Command) -> u64 {
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib =
            line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.parse::<u64>().ok());
        peak = peak.max(1024 * kib.unwrap_or(0));
        thread::sleep(Duration::from_millis(1));
    }
    assert!(child.wait().unwrap().success());
    peak
}

#[test]
fn the_memory_of_a_conversion_does_not_grow_with_the_model() {
    let directory = TempDir::new().unwrap();
    let text = fs::read_to_string(golden("plain/model/config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (key, value) in
        [("n_embd", 1024), ("n_head", 16), ("n_layer", 3), ("vocab_size", 8192), ("rotary_dim", 64)]
    {
        config[key] = value.into();
    }
    let place = |name: &str| directory.path().join(name);
    fs::write(place("config.json"), config.to_string()).unwrap();
    let paths = [("config", place("config.json")), ("model", place("model"))];
    let paths: Vec<(&str, &Path)> = paths.iter().map(|(name, path)| (*name, path.as_path())).collect();
    gptjc("synth --config {config} --layout bin-f32 -o {model}", &paths).ok();
    let bytes = fs::metadata(place("model/pytorch_model.bin")).unwrap().len();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gptjc"));
    command.arg("convert").arg("--model").arg(place("model")).arg("-o").arg(place("out"));
    let peak = peak_memory(&mut command);
    assert!(bytes > 200_000_000 && peak > 1_000_000, "{bytes} {peak}");
    assert!(peak < 64 << 20, "{peak} bytes of memory for {bytes} bytes of weights");
}

/// A hub cache in which `owner/tiny` is the golden model, at the revision main.
fn hub() -> TempDir {
    let home = TempDir::new().unwrap();
    let root = home.path().join("hub/models--owner--tiny");
    let snapshot = root.join("snapshots").join(COMMIT);
    copy_directory(&golden("plain/model"), &root.join("blobs"));
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(root.join("refs")).unwrap();
    fs::write(root.join("refs/main"), COMMIT).unwrap();
    for name in ["config.json", "model.safetensors"] {
        symlink(Path::new("../../blobs").join(name), snapshot.join(name)).unwrap();
    }
    home
}

/// Compiles a plan for `model` with the Hugging Face home `home`.
fn compile(home: &TempDir, model: &str, more: &[&str]) -> Run {
    let plan = home.path().join("a.plan");
    let mut arguments =
        vec!["compile", "--model", model, "--max-seq-length", "16", "-o", plan.to_str().unwrap()];
    arguments.extend(more);
    gptjc_alone(&arguments, &[("HF_HOME", home.path()), ("XDG_CACHE_HOME", home.path())])
}

#[test]
fn a_name_of_the_hub_is_a_directory_of_the_cache() {
    let home = hub();
    let said = compile(&home, "owner/tiny", &[]).ok().err;
    assert!(said.contains(&format!("owner/tiny is `{}", home.path().join("hub").display())), "{said}");
    compile(&home, &format!("owner/tiny@{COMMIT}"), &[]).ok();
    compile(&home, "owner/tiny", &["--revision", COMMIT]).ok();
    let (tokens, out) = (golden("plain/batches.safetensors"), home.path().join("out"));
    let line = ["train", "--model", "owner/tiny", "--max-steps", "1", "--train-tokens"];
    let mut arguments: Vec<PathBuf> = line.map(PathBuf::from).to_vec();
    arguments.extend([tokens, "--output-dir".into(), out.clone()]);
    gptjc_alone(&arguments, &[("HF_HOME", home.path()), ("XDG_CACHE_HOME", home.path())]).ok();
    let config = fs::read_to_string(out.join("adapter_config.json")).unwrap();
    assert!(config.contains("\"base_model_name_or_path\": \"owner/tiny\""), "{config}");
}

#[test]
fn what_the_cache_lacks_comes_with_the_command_that_gets_it() {
    let home = hub();
    let expect = |run: Run, parts: &[&str]| {
        let message = run.error();
        parts.iter().for_each(|part| assert!(message.contains(part), "expected `{part}` in: {message}"));
    };
    expect(
        compile(&home, "EleutherAI/gpt-j-6b", &[]),
        &[
            "there is no directory `EleutherAI/gpt-j-6b`",
            "never opens the network",
            "--revision float16 --include",
        ],
    );
    expect(
        compile(&home, "owner/tiny@v2", &[]),
        &["not its revision v2 (there: main)", "hf download owner/tiny --revision v2"],
    );
    expect(compile(&home, "nowhere", &[]), &["there is no model directory `nowhere`"]);
    let local = golden("plain/model");
    expect(
        compile(&home, local.to_str().unwrap(), &["--revision", "main"]),
        &["--revision main", "is a directory"],
    );
    expect(compile(&home, "owner/tiny@main", &["--revision", "v2"]), &["contradicts the revision `v2`"]);
    let root = home.path().join("hub/models--owner--tiny");
    fs::remove_file(root.join("blobs/model.safetensors")).unwrap();
    fs::write(root.join("blobs/model.safetensors.incomplete"), b"").unwrap();
    expect(
        compile(&home, "owner/tiny", &[]),
        &["model.safetensors` leads to", "1 download(s) of this model are unfinished"],
    );
    fs::remove_file(root.join("snapshots").join(COMMIT).join("model.safetensors")).unwrap();
    compile(&home, "owner/tiny", &[]).ok(); // reads no weights
    let arguments = ["validate", "--model", "owner/tiny", "--validation-file", "/dev/null"];
    let run = gptjc_alone(&arguments, &[("HF_HOME", home.path()), ("XDG_CACHE_HOME", home.path())]);
    expect(
        run,
        &[
            "`owner/tiny` has no weights (model.safetensors,",
            "1 download(s) of it are unfinished",
            "hf download owner/tiny",
        ],
    );
}
