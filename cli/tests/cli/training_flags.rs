//! Flags of the optimizer, of its schedule and of its steps: each changes what is trained, and says what wins.

use crate::common::{Run, golden, gptjc};
use serde_json::Value;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// What four steps of two windows of the golden case `plain` left: the run, the adapter's tensors and the log.
struct Trained {
    run: Run,
    adapter: Vec<u8>,
    log: Vec<Value>,
}

impl Trained {
    /// The learning rates of the steps.
    fn rates(&self) -> Vec<f64> {
        self.log.iter().filter_map(|entry| entry["learning_rate"].as_f64()).collect()
    }
}

fn start(out: &Path, more: &str) -> Run {
    let (model, tokens) = (golden("plain/model"), golden("plain/batches.safetensors"));
    let no_dropout = if more.contains("--lora_dropout") { "" } else { " --lora_dropout 0" };
    let line = format!(
        "train --model {{model}} --train-tokens {{tokens}} --output_dir {{out}} --precision f32 --logging_steps 1 \
         --threads 1 {more}{no_dropout}"
    );
    gptjc(&line, &[("model", &model), ("tokens", &tokens), ("out", out)])
}

fn train(more: &str) -> Trained {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("out");
    let run = start(&out, &format!("--max_steps 4 {more}")).ok();
    let adapter = fs::read(out.join("adapter_model.safetensors")).unwrap();
    let state: Value = serde_json::from_slice(&fs::read(out.join("trainer_state.json")).unwrap()).unwrap();
    Trained { run, adapter, log: state["log_history"].as_array().unwrap().clone() }
}

#[test]
fn each_flag_changes_what_is_trained() {
    let usual = train("");
    assert!(usual.adapter == train("").adapter, "the same run gives the same bytes");
    for flag in [
        "--learning_rate 1e-3",
        "--lr_scheduler_type cosine",
        "--lr_scheduler_type constant",
        "--warmup_steps 2",
        "--warmup_ratio 0.3",
        "--weight_decay 0.1",
        "--adam_beta1 0.8",
        "--adam_beta2 0.9",
        "--adam_epsilon 1e-2",
        "--max_grad_norm 0.1",
        "--gradient_accumulation_steps 2",
        "--global_batch_size 6",
        "--seed 7",
        "--lora_dropout 0.5",
        "--lora_alpha 3",
        "--lora_rank 2",
        "--use_rslora",
        "--lora_target_modules k_proj",
        "--layers_to_transform 1",
    ] {
        assert!(train(flag).adapter != usual.adapter, "{flag} changes nothing");
    }
    let unclipped = train("--max_grad_norm 0");
    assert!(unclipped.adapter == train("--max_grad_norm 1e9").adapter, "0 is no clipping");
    // What Hugging Face's Trainer takes when nothing is given.
    let given = "--learning_rate 5e-5 --lr_scheduler_type linear --warmup_steps 0 --warmup_ratio 0.0 --weight_decay 0.0 \
        --adam_beta1 0.9 --adam_beta2 0.999 --adam_epsilon 1e-8 --max_grad_norm 1.0 --seed 42 --optim adamw_torch \
        --lora_rank 8 --lora_alpha 16 --lora_target_modules q_proj,v_proj --gradient_accumulation_steps 1";
    assert!(train(given).adapter == usual.adapter, "the defaults are not those of Hugging Face");
}

#[test]
fn rates_are_those_of_the_schedule() {
    // 1e-3 times 0.5 (1 + cos(pi i / 3)) of transformers, after one step of warm-up: ceil(4 * 0.2).
    let cosine = train("--learning_rate 1e-3 --lr_scheduler_type cosine --warmup_ratio 0.2");
    assert_eq!(cosine.rates(), [0.0, 0.001, 0.00075, 0.0002500000000000001]);
    let warm = train("--learning_rate 1e-3 --lr_scheduler_type constant_with_warmup --warmup_steps 2");
    assert_eq!(warm.rates(), [0.0, 0.0005, 0.001, 0.001]);
    let both = train(
        "--learning_rate 1e-3 --lr_scheduler_type CONSTANT_WITH_WARMUP --warmup_steps 2 --warmup_ratio 0.9",
    );
    assert!(both.adapter == warm.adapter, "steps of warm-up win over their ratio");
    assert!(
        both.run.err.contains("warning: --warmup-steps 2 wins over --warmup-ratio 0.9"),
        "{}",
        both.run.err
    );
    let constant = train("--learning_rate 1e-3 --lr_scheduler_type constant --warmup_steps 2");
    assert_eq!(constant.rates(), [0.001; 4]);
    assert!(
        constant.run.err.contains("constant has no warm-up; constant_with_warmup has"),
        "{}",
        constant.run.err
    );
}

#[test]
fn a_global_batch_is_batches_times_accumulation_or_any_number_of_windows() {
    let accumulated = train("--gradient_accumulation_steps 3");
    assert!(train("--global_batch_size 6").adapter == accumulated.adapter, "2 windows x 3 batches are 6");
    let out = TempDir::new().unwrap();
    let message = start(out.path(), "--global_batch_size 5").error();
    assert!(
        message.contains("--global-batch-size 5 contradicts --per-device-train-batch-size 2"),
        "{message}"
    );
    let message = start(out.path(), "--global_batch_size 6 --gradient_accumulation_steps 2").error();
    assert!(message.contains("--gradient-accumulation-steps 2, which is 4"), "{message}");
}

#[test]
fn schedules_and_optimizers_that_there_are_not_are_refused() {
    let out = TempDir::new().unwrap();
    let run = start(out.path(), "--lr_scheduler_type reduce_lr_on_plateau");
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("possible values: linear, cosine,"), "{}", run.err);
    let message = start(out.path(), "--optim adafactor").error();
    assert!(
        message.contains("--optim adafactor is not possible") && message.contains("adamw_torch"),
        "{message}"
    );
    let message = start(out.path(), "--lr_scheduler_type polynomial --learning_rate 1e-8").error();
    assert!(message.contains("--learning-rate 1e-8 is not above 1e-7, to which"), "{message}");
}
