//! Evaluation during training, what a run leaves, and the page about it, on a tiny model.

use crate::common::{Run, gptjc};
use crate::tiny_model::{TinyModel, office_row};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Writes rows to train on, and fewer to evaluate on.
fn data(tiny: &TinyModel) -> (PathBuf, PathBuf) {
    let (train, validation) = (tiny.path("train.jsonl"), tiny.path("validation.jsonl"));
    fs::write(&train, (0..8).map(office_row).collect::<String>()).unwrap();
    fs::write(&validation, (20..26).map(office_row).collect::<String>()).unwrap();
    (train, validation)
}

/// Trains for four epochs of two steps into `out`.
fn train(tiny: &TinyModel, out: &Path, more: &str) -> Run {
    let (train, validation) = data(tiny);
    let rate = if more.contains("--learning-rate") { "" } else { "--learning-rate 0.05" };
    let line = format!(
        "train --model {{model}} --train-file {{train}} --validation-file {{validation}} --precision f32 --packing pad \
         --max-seq-length 48 --per-device-train-batch-size 4 --num-train-epochs 4 --logging-steps 1 \
         --threads 1 --output-dir {{out}} {rate} {more}"
    );
    let model = tiny.model();
    gptjc(&line, &[("model", &model), ("train", &train), ("validation", &validation), ("out", out)])
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Steps of the log's evaluations.
fn evaluated(log: &[Value]) -> Vec<u64> {
    let of_evaluation = log.iter().filter(|entry| entry["eval_loss"].is_number());
    of_evaluation.map(|entry| entry["step"].as_u64().unwrap()).collect()
}

#[test]
fn a_run_is_evaluated_and_leaves_its_records() {
    let tiny = TinyModel::new();
    let out = tiny.path("out");
    let more = "--eval-strategy epoch --eval-on-start --eval-metrics loss,score,generate --report-to all";
    let run = train(&tiny, &out, more).ok();
    assert!(
        run.out.contains("  eval_loss ") && run.out.contains("  eval_generated_accuracy "),
        "{}",
        run.out
    );
    assert!(run.out.contains("answers by score: "), "{}", run.out);
    assert!(run.out.contains(" tok/s  ") && run.out.contains(" left"), "{}", run.out);

    let state = read(&out.join("trainer_state.json"));
    let log = state["log_history"].as_array().unwrap();
    // The last epoch's evaluation is that of the end.
    assert_eq!(evaluated(log), [0, 2, 4, 6, 8], "{log:?}");
    let metrics = lines(&out.join("metrics.jsonl"));
    assert_eq!(metrics.len(), log.len());
    for (line, entry) in metrics.iter().zip(log) {
        assert!(line["time"].as_f64().unwrap() > 1.7e9, "{line}");
        for (name, value) in entry.as_object().unwrap() {
            assert_eq!(&line[name], value, "{name} of {line}");
        }
    }
    assert!(metrics[1]["tokens_per_second"].as_f64().unwrap() > 0.0, "{}", metrics[1]);

    let record = read(&out.join("run.json"));
    assert_eq!(record["status"], "finished");
    assert_eq!(record["facts"]["command"][1], "train");
    let session = &record["sessions"][0];
    assert_eq!((session["first_step"].as_u64(), session["last_step"].as_u64()), (Some(0), Some(8)));
    assert!(session["families"]["matrix products"].as_f64().unwrap() > 0.0, "{session}");
    assert!(session["tokens"].as_u64().unwrap() > session["labelled"].as_u64().unwrap(), "{session}");
    let evaluations = record["evaluations"].as_array().unwrap();
    assert_eq!(evaluations.len(), 5);
    for evaluation in evaluations {
        let modes: Vec<&str> =
            evaluation["answers"].as_array().unwrap().iter().map(|a| a["mode"].as_str().unwrap()).collect();
        assert_eq!(modes, ["score", "generate"], "{evaluation}");
        assert_eq!(evaluation["answers"][0]["counted"], 6);
    }
    let runs = out.join(record["tensorboard"].as_str().unwrap());
    assert_eq!(fs::read_dir(runs).unwrap().count(), 1);
    same_as_validate(&tiny, &out, evaluations.last().unwrap());
}

/// What the last evaluation found is what `validate` finds with the adapter that was written.
fn same_as_validate(tiny: &TinyModel, out: &Path, evaluation: &Value) {
    let (_, validation) = data(tiny);
    for (mode, metric) in [("score", "eval_accuracy"), ("generate", "eval_generated_accuracy")] {
        let line = format!(
            "validate --model {{model}} --adapter {{out}} --precision f32 --mode {mode} --validation-file {{validation}} --json"
        );
        let model = tiny.model();
        let paths = [("model", model.as_path()), ("out", out), ("validation", &validation)];
        let report: Value = serde_json::from_str(&gptjc(&line, &paths).ok().out).unwrap();
        let answers = evaluation["answers"].as_array().unwrap().iter().find(|a| a["mode"] == mode).unwrap();
        for field in ["confusion", "interval", "counted", "correct"] {
            assert_eq!(answers[field], report[field], "{field} of {mode}");
        }
        assert_eq!(evaluation["metrics"][metric], report["accuracy"]);
    }
}

#[test]
fn a_run_ends_when_no_model_is_better() {
    let tiny = TinyModel::new();
    let out = tiny.path("out");
    // No model is better than the first one by so much.
    let more = "--eval-strategy steps --eval-steps 1 --eval-metrics loss --early-stopping-patience 2 \
        --early-stopping-threshold 1000 --report-to none";
    let run = train(&tiny, &out, more).ok();
    assert!(run.out.contains("the run ends here"), "{}", run.out);
    let log = read(&out.join("trainer_state.json"))["log_history"].as_array().unwrap().clone();
    assert_eq!(evaluated(&log), [1, 2, 3], "{log:?}");
    assert!(log.last().unwrap()["train_runtime"].is_number(), "{log:?}");
    assert_eq!(read(&out.join("run.json"))["status"], "stopped_early");
    assert!(!out.join("metrics.jsonl").exists() && !out.join("runs").exists());
    assert!(out.join("adapter_model.safetensors").is_file());
}

/// Steps of the checkpoints in `out`.
fn saved(out: &Path) -> Vec<u64> {
    let step = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix("checkpoint-")?.parse().ok();
    let mut steps: Vec<u64> = fs::read_dir(out).unwrap().filter_map(|entry| step(entry.unwrap())).collect();
    steps.sort_unstable();
    steps
}

/// Steps of the evaluations that had the highest loss so far.
fn highest_so_far(log: &[Value]) -> Vec<u64> {
    let mut highest = f64::NEG_INFINITY;
    let mut steps = Vec::new();
    for entry in log.iter().filter(|entry| entry["eval_loss"].is_number()) {
        let loss = entry["eval_loss"].as_f64().unwrap();
        if loss > highest {
            highest = loss;
            steps.push(entry["step"].as_u64().unwrap());
        }
    }
    steps
}

/// A run in which the model with the highest loss counts as the best: the last one, which learned most, does not.
const HIGHEST: &str = "--learning-rate 0.001 --eval-strategy steps --eval-steps 1 --eval-metrics loss \
    --metric-for-best-model loss --greater-is-better";

#[test]
fn the_best_model_is_the_result() {
    let tiny = TinyModel::new();
    let out = tiny.path("out");
    let more = format!("{HIGHEST} --load-best-model-at-end --save-steps 1 --save-total-limit 1");
    let run = train(&tiny, &out, &more).ok();
    let state = read(&out.join("trainer_state.json"));
    let log = state["log_history"].as_array().unwrap();
    let best = *highest_so_far(log).last().unwrap();
    assert!(best < 8, "the loss rose: {log:?}");
    assert!(run.out.contains("the result is the best model, that of"), "{}", run.out);
    assert_eq!(saved(&out), [best, 8], "the best checkpoint stays beside the newest");
    let adapter = |directory: &Path| fs::read(directory.join("adapter_model.safetensors")).unwrap();
    let checkpoint = |step: u64| out.join(format!("checkpoint-{step}"));
    assert_eq!(adapter(&out), adapter(&checkpoint(best)));
    assert_ne!(adapter(&out), adapter(&checkpoint(8)));
    let metric = log.iter().find(|entry| entry["step"] == best && entry["eval_loss"].is_number()).unwrap();
    assert_eq!(state["best_metric"], metric["eval_loss"]);
    let name = format!("checkpoint-{best}");
    assert!(state["best_model_checkpoint"].as_str().unwrap().ends_with(&name), "{state}");
}

#[test]
fn a_checkpoint_is_written_for_every_best_model() {
    let tiny = TinyModel::new();
    let out = tiny.path("out");
    train(&tiny, &out, &format!("{HIGHEST} --save-strategy best")).ok();
    let log = read(&out.join("trainer_state.json"))["log_history"].as_array().unwrap().clone();
    assert_eq!(saved(&out), highest_so_far(&log), "{log:?}");
}

#[test]
fn a_resumed_run_goes_on_in_its_records() {
    let tiny = TinyModel::new();
    let out = tiny.path("out");
    let more = "--eval-strategy epoch --save-strategy epoch --report-to all";
    train(&tiny, &out, more).ok();
    let (whole, first) = (lines(&out.join("metrics.jsonl")), read(&out.join("run.json")));
    let from = out.join("checkpoint-4");
    train(&tiny, &out, &format!("{more} --resume-from-checkpoint {}", from.display())).ok();
    let resumed = lines(&out.join("metrics.jsonl"));
    assert_eq!(resumed.len(), whole.len());
    for (found, expected) in resumed.iter().zip(&whole) {
        for name in ["step", "epoch", "loss", "grad_norm", "learning_rate", "eval_loss", "eval_accuracy"] {
            assert_eq!(found[name], expected[name], "{name} of {found}");
        }
    }
    let record = read(&out.join("run.json"));
    let steps: Vec<_> =
        record["sessions"].as_array().unwrap().iter().map(|s| s["first_step"].as_u64()).collect();
    assert_eq!(steps, [Some(0), Some(4)]);
    assert!(record["facts"]["resumed_from"].as_str().unwrap().ends_with("checkpoint-4"), "{record}");
    for (found, expected) in
        record["evaluations"].as_array().unwrap().iter().zip(first["evaluations"].as_array().unwrap())
    {
        assert_eq!((&found["step"], &found["answers"]), (&expected["step"], &expected["answers"]));
    }
    assert_eq!(record["evaluations"].as_array().unwrap().len(), 4);
    assert_eq!(fs::read_dir(out.join(record["tensorboard"].as_str().unwrap())).unwrap().count(), 2);
}

#[test]
fn flags_of_evaluation_that_do_not_fit_are_refused() {
    let tiny = TinyModel::new();
    let out = tiny.path("out");
    let cases = [
        ("--early-stopping-patience 2", "--early-stopping-patience needs evaluations during training"),
        ("--load-best-model-at-end", "--load-best-model-at-end needs evaluations during training"),
        (
            "--eval-strategy epoch --load-best-model-at-end --save-strategy no",
            "--save-strategy and --eval-strategy differ",
        ),
        ("--save-strategy best", "--save-strategy best needs evaluations during training"),
        ("--eval-strategy epoch --do-eval False", "--do-eval False contradicts --eval-strategy"),
        (
            "--eval-strategy epoch --metric-for-best-model f1",
            "--metric-for-best-model eval_f1 is not among what is measured: eval_loss, eval_perplexity, eval_accuracy",
        ),
        ("--eval-strategy epoch --eval-metrics loss,beauty", "expected some of loss, score, generate"),
        ("--report-to wandb", "--report-to wandb is not possible"),
        (
            "--trainable all --eval-strategy epoch --eval-metrics generate",
            "--eval-metrics generate needs an adapter",
        ),
    ];
    for (more, message) in cases {
        let run = train(&tiny, &out, more);
        assert_ne!(run.code, Some(0), "{more}");
        assert!(run.err.contains(message), "{more}: {}", run.err);
        assert!(!out.join("adapter_model.safetensors").exists(), "{more}");
    }
}

#[test]
fn a_page_shows_what_runs_left() {
    let tiny = TinyModel::new();
    let (one, two) = (tiny.path("one"), tiny.path("two"));
    train(&tiny, &one, "--eval-strategy epoch").ok();
    train(&tiny, &two, "--seed 7").ok();
    let said = gptjc("report {one}", &[("one", &one)]).ok();
    assert!(said.out.contains("report.html") && said.err.is_empty(), "{}{}", said.out, said.err);
    let page = fs::read_to_string(one.join("report.html")).unwrap();
    for text in
        ["<title>Training run one</title>", "<h3>Loss</h3>", "4 evaluations", "Where the time went", "gptjc"]
    {
        assert!(page.contains(text), "expected `{text}`");
    }
    // What is not there is said.
    fs::remove_file(two.join("run.json")).unwrap();
    let page = tiny.path("both.html");
    let paths = [("one", one.as_path()), ("two", two.as_path()), ("page", page.as_path())];
    let said = gptjc("report {one} {two} -o {page}", &paths).ok();
    assert!(said.err.contains("run.json is not there"), "{}", said.err);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("<title>2 training runs</title>") && page.contains("two: run.json is not there"));
    let empty = tiny.path("empty");
    fs::create_dir(&empty).unwrap();
    let message = gptjc("report {empty}", &[("empty", &empty)]).error();
    assert!(
        message.contains("there is nothing of a run in") && message.contains("metrics.jsonl"),
        "{message}"
    );
}
