//! Adapters on the modules and layers that flags and files say, from compiling to merging.

use crate::common::{Run, copy_directory, golden, gptjc};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// Two steps on the golden case `plain`, which has two layers.
fn train(out: &Path, more: &str, paths: &[(&str, &Path)]) -> Run {
    let (model, tokens) = (golden("plain/model"), golden("plain/batches.safetensors"));
    let mut all = vec![("model", model.as_path()), ("tokens", &tokens), ("out", out)];
    all.extend(paths);
    let line = format!(
        "train --model {{model}} --train-tokens {{tokens}} --output-dir {{out}} --precision f32 --max-steps 2 \
         --learning-rate 1e-2 --lora-dropout 0 --log-level info {more}"
    );
    gptjc(&line, &all)
}

fn config(adapter: &Path) -> Value {
    serde_json::from_slice(&fs::read(adapter.join("adapter_config.json")).unwrap()).unwrap()
}

/// The modules of an adapter's tensors.
fn modules(adapter: &Path) -> BTreeSet<String> {
    let bytes = fs::read(adapter.join("adapter_model.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let module =
        |name: &String| Some(name.strip_prefix("base_model.model.")?.split(".lora_").next()?.to_owned());
    header.as_object().unwrap().keys().filter_map(module).collect()
}

#[test]
fn a_regular_expression_chooses_layers_and_the_adapter_says_which() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (out, again, plan) = (path("out"), path("again"), path("a.plan"));
    let run = train(&out, r"--lora_target_modules .*\.1\.attn\.(q|v)_proj", &[]).ok();
    // Two adapters of 8 x 64 and 64 x 8.
    assert!(run.out.contains("trainable params: 2,048 ||"), "{}", run.out);
    let note = "note: adapters are in some of the 2 layers only, 2 in all: q_proj (layers 1), v_proj (layers 1); \
                nothing is differentiated below layer 1";
    assert!(run.err.contains(note), "{}", run.err);
    let expected = ["transformer.h.1.attn.q_proj", "transformer.h.1.attn.v_proj"].map(str::to_owned);
    assert_eq!(modules(&out), expected.clone().into());
    let written = config(&out);
    assert_eq!(
        (&written["target_modules"], &written["layers_to_transform"]),
        (&json!(["q_proj", "v_proj"]), &json!([1]))
    );

    // The adapter goes on, without flags, and with a plan that was compiled for its layers.
    let run = train(&again, "--adapter {adapter}", &[("adapter", &out)]).ok();
    assert!(run.err.contains(note), "{}", run.err);
    assert_eq!(modules(&again), expected.into());
    let model = golden("plain/model");
    let line = "compile --model {model} --precision f32 --max_seq_length 16 --per_device_train_batch_size 2 \
        --lora_dropout 0 --lora_target_modules q_proj v_proj --lora_layers 1 -o {plan}";
    let run = gptjc(line, &[("model", &model), ("plan", &plan)]).ok();
    assert!(run.err.contains(note), "{}", run.err);
    let with_plan = path("with_plan");
    train(&with_plan, "--adapter {adapter} --plan {plan}", &[("adapter", &out), ("plan", &plan)]).ok();
    let tensors = |out: &Path| fs::read(out.join("adapter_model.safetensors")).unwrap();
    assert!(tensors(&with_plan) == tensors(&again), "with a plan and without");
    let page = gptjc("inspect {plan}", &[("plan", &plan)]).ok().out;
    assert!(page.contains("on q_proj (layers 1), v_proj (layers 1)"), "{page}");
    let message =
        train(&path("no"), "--plan {plan} --lora_target_modules q_proj,v_proj", &[("plan", &plan)]).error();
    let values =
        "--lora-target-modules: given q_proj,v_proj, the plan has q_proj (layers 1),v_proj (layers 1)";
    assert!(message.contains(values), "{message}");
}

#[test]
fn layers_that_differ_are_written_as_a_regular_expression() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (out, again) = (path("out"), path("again"));
    train(&out, "--lora_target_modules q_proj,0.mlp.fc_in", &[]).ok();
    let written = config(&out);
    assert_eq!(
        written["target_modules"],
        json!(r"transformer\.h\.(?:(?:0)\.(?:mlp\.fc_in)|(?:0|1)\.(?:attn\.q_proj))")
    );
    assert!(written.get("layers_to_transform").is_none(), "{written}");
    train(&again, "--adapter {adapter}", &[("adapter", &out)]).ok();
    assert_eq!(modules(&again), modules(&out));
    assert_eq!(modules(&out).len(), 3);

    // Merging and exporting change these modules and no others.
    for command in ["merge", "export"] {
        let made = path(command);
        let model = golden("plain/model");
        let line = format!("{command} --model {{model}} --adapter {{adapter}} -o {{made}} --log-level info");
        let run = gptjc(&line, &[("model", &model), ("adapter", &again), ("made", &made)]).ok();
        assert!(
            run.err.contains("the adapter leaves out `transformer.h.1.mlp.fc_in` (1 modules in all)"),
            "{}",
            run.err
        );
        assert!(
            run.out.contains("3 of them merged") || run.out.contains("merged     3 weights"),
            "{}",
            run.out
        );
    }
}

#[test]
fn an_adapter_that_lacks_what_its_settings_select_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (out, broken) = (path("out"), path("broken"));
    train(&out, "--lora_target_modules q_proj --layers_to_transform 0", &[]).ok();
    copy_directory(&out, &broken);
    let mut settings = config(&broken);
    settings.as_object_mut().unwrap().remove("layers_to_transform");
    fs::write(broken.join("adapter_config.json"), settings.to_string()).unwrap();
    let message = train(&path("no"), "--adapter {adapter}", &[("adapter", &broken)]).error();
    assert!(message.contains("broken` has no tensors for `transformer.h.1.attn.q_proj`"), "{message}");
}

#[test]
fn targets_that_match_nothing_say_what_there_is() {
    let directory = TempDir::new().unwrap();
    let refused = |more: &str| train(&directory.path().join("no"), more, &[]).error();
    let message = refused("--lora_target_modules query_key_value");
    assert!(
        message.contains("--lora-target-modules query_key_value matches no module of the model"),
        "{message}"
    );
    assert!(
        message.contains("q_proj, k_proj, v_proj, out_proj, fc_in, fc_out in each of 2 layers"),
        "{message}"
    );
    let message = refused("--lora_target_modules q_proj|v_proj");
    assert!(message.contains("a regular expression has to match a whole name"), "{message}");
    let message = refused("--layers_to_transform 2");
    assert!(message.contains("--layers-to-transform 2: the model has layers 0 to 1"), "{message}");
}
