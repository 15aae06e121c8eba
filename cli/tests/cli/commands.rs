//! The commands from end to end, through the binary, on small models.

use crate::common::{Run, golden, gptjc};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// Compiles the golden case `plain`.
fn compile(plan: &Path, more: &str) -> Run {
    let line = format!(
        "compile --model {{model}} --precision f32 --max_seq_length 16 --per_device_train_batch_size 2 --lora_alpha 54 \
         --lora_dropout 0 --lora_target_modules q_proj,v_proj,k_proj,out_proj --memory-budget 128MiB -o {{plan}} {more}"
    );
    gptjc(&line, &[("model", &golden("plain/model")), ("plan", plan)])
}

/// Trains on the golden case `plain` into `out`.
fn train(out: &Path, more: &str, paths: &[(&str, &Path)]) -> Run {
    let (model, adapter, tokens) =
        (golden("plain/model"), golden("plain/adapter_init"), golden("plain/batches.safetensors"));
    let mut all = vec![("model", model.as_path()), ("adapter", &adapter), ("tokens", &tokens), ("out", out)];
    all.extend(paths);
    let line = format!(
        "train --model {{model}} --adapter {{adapter}} --train-tokens {{tokens}} --output-dir {{out}} \
         --learning-rate 3.3113761e-4 --logging-steps 1 {more}"
    );
    gptjc(&line, &all)
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_plan_is_compiled_inspected_and_trained() {
    let directory = TempDir::new().unwrap();
    let (plan, out) = (directory.path().join("a.plan"), directory.path().join("out"));
    let said = compile(&plan, "").ok().out;
    assert!(said.contains("micro-batches of 2 window(s) of 16 tokens"), "{said}");
    let page = gptjc("inspect {plan}", &[("plan", &plan)]).ok().out;
    assert!(
        page.contains("lora: rank 8, alpha 54, dropout 0, on q_proj, k_proj, v_proj, out_proj"),
        "{page}"
    );

    let said = train(&out, "--plan {plan}", &[("plan", &plan)]).ok().out;
    assert!(said.contains("trainable params: 8,192 || all params: 173,568 || trainable%: 4.7198"), "{said}");
    assert!(said.contains("step 1/20  epoch 0.05  loss 6.3496  lr 3.3114e-4  grad_norm 1.6976"), "{said}");
    let (state, expected) = (json(&out.join("trainer_state.json")), json(&golden("plain/expected.json")));
    let log = state["log_history"].as_array().unwrap();
    assert_eq!(log.len(), 21, "20 steps and the closing entry");
    let mean = log[..20].iter().map(|entry| entry["loss"].as_f64().unwrap()).sum::<f64>() / 20.0;
    let closing = log[20].as_object().unwrap();
    assert!((closing["train_loss"].as_f64().unwrap() - mean).abs() < 1e-5, "{closing:?}, mean {mean}");
    for name in ["train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos"] {
        assert!(closing[name].as_f64().unwrap() > 0.0, "{name}: {closing:?}");
    }
    for (entry, expected) in log.iter().zip(expected["loss"].as_array().unwrap()) {
        let (loss, expected) = (entry["loss"].as_f64().unwrap(), expected.as_f64().unwrap());
        assert!((loss - expected).abs() <= 2e-6 * expected, "step {}: {loss}, not {expected}", entry["step"]);
    }
    let config = json(&out.join("adapter_config.json"));
    assert_eq!((config["r"].as_u64(), config["peft_type"].as_str()), (Some(8), Some("LORA")));
    assert!(out.join("adapter_model.safetensors").is_file());
}

#[test]
fn neither_threads_nor_micro_batches_nor_a_plan_of_its_own_change_the_adapter() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    compile(&path("a.plan"), "").ok();
    train(&path("plan"), "--plan {plan} --threads 1", &[("plan", &path("a.plan"))]).ok();
    // Without a plan, the adapter's settings and the batches' sizes are taken.
    train(&path("none"), "--precision f32 --threads 2", &[]).ok();
    train(&path("micro"), "--precision f32 --micro-batch 1", &[]).ok();
    let adapter = |name: &str| fs::read(path(name).join("adapter_model.safetensors")).unwrap();
    assert!(adapter("plan") == adapter("none"), "with and without a plan");
    assert!(adapter("plan") == adapter("micro"), "with micro-batches of 2 and of 1");
}

#[test]
fn all_parameters_are_trained_into_a_model_directory() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("out");
    let paths = [
        ("model", golden("full/model")),
        ("tokens", golden("full/batches.safetensors")),
        ("out", out.clone()),
    ];
    let paths = paths.each_ref().map(|(name, path)| (*name, path.as_path()));
    let line =
        "train --model {model} --trainable all --precision f32 --train-tokens {tokens} --output-dir {out}";
    gptjc(line, &paths).ok();
    for file in ["config.json", "model.safetensors", "trainer_state.json"] {
        assert!(out.join(file).is_file(), "{file}");
    }
}

#[test]
fn a_plan_is_renewed_from_its_options() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (old, new) = (path("old.plan"), path("new.plan"));
    compile(&old, "").ok();
    gptjc("compile --from {old} -o {new}", &[("old", &old), ("new", &new)]).ok();
    assert!(fs::read(&old).unwrap() == fs::read(&new).unwrap(), "the same options give the same bytes");
    gptjc("compile --from {old} --lora-rank 4 -o {new}", &[("old", &old), ("new", &new)]).ok();
    let page = gptjc("inspect {new}", &[("new", &new)]).ok().out;
    assert!(page.contains("lora: rank 4, alpha 54"), "{page}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let directory = TempDir::new().unwrap();
    let plan = directory.path().join("a.plan");
    compile(&plan, "").ok();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gptjc"));
    command.arg("inspect").args(["--show", "all"]).arg(&plan);
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
