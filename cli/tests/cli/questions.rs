//! `validate` and `generate` on a tiny model: the compiled plan, ONNX Runtime, and both against each other.

use crate::common::{Run, gptjc, gptjc_in};
use crate::tiny_model::{TinyModel, has_onnxruntime};
use gptjc_runtime::weights::safetensors_file::SafetensorsFile;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Largest difference of a score between the two engines: f32 on both sides, sums of few products in another order.
const TOLERANCE: f64 = 1e-3;

const NATIVE: &str = "--model {model} --precision f32";
const ONNX: &str = "--onnx {onnx}";

fn run(tiny: &TinyModel, line: &str, more: &[(&str, &Path)]) -> Run {
    let (model, onnx, rows, out) = (tiny.model(), tiny.onnx(), tiny.rows(), tiny.path("out.jsonl"));
    let mut paths = vec![("model", model.as_path()), ("onnx", &onnx), ("rows", &rows), ("out", &out)];
    paths.extend(more);
    gptjc(line, &paths)
}

/// The report and the predictions of a validation.
fn validate(tiny: &TinyModel, more: &str) -> (Value, Vec<Value>) {
    let line = format!("validate {more} --validation-file {{rows}} --predictions {{out}} --json");
    let report = serde_json::from_str(&run(tiny, &line, &[]).ok().out).unwrap();
    let predictions = fs::read_to_string(tiny.path("out.jsonl")).unwrap();
    (report, predictions.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn scores(prediction: &Value) -> Vec<f64> {
    prediction["scores"].as_array().unwrap().iter().map(|score| score.as_f64().unwrap()).collect()
}

#[track_caller]
fn same(found: &[Value], expected: &[Value]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        for field in ["row", "label", "answer", "text"] {
            assert_eq!(found[field], expected[field], "{field} of {found} and {expected}");
        }
        for (score, other) in scores(found).into_iter().zip(scores(expected)) {
            assert!((score - other).abs() <= TOLERANCE, "{found} and {expected}");
        }
    }
}

#[test]
fn rows_without_a_label_are_answered_and_not_counted() {
    let tiny = TinyModel::new();
    let (report, predictions) = validate(&tiny, &format!("{NATIVE} --batch-size 4"));
    assert_eq!((report["rows"].as_u64(), report["counted"].as_u64()), (Some(6), Some(4)));
    assert_eq!(report["mode"], "generate");
    assert!(report["rows_per_second"].as_f64().unwrap() > 0.0);
    // In the file's order, by its lines, of which the fourth is blank.
    let found: Vec<_> =
        predictions.iter().map(|p| (p["row"].as_u64().unwrap(), p["label"].as_str())).collect();
    let expected = [
        (1, Some("entailment")),
        (2, Some("neutral")),
        (3, Some("contradiction")),
        (5, None),
        (6, None),
        (7, Some("entailment")),
    ];
    assert_eq!(found, expected);
    // A model that knows nothing writes no label.
    assert!(predictions.iter().all(|p| p["answer"] == "unknown" && p["text"].is_string()), "{predictions:?}");
    assert_eq!((report["correct"].as_u64(), report["no_label"].as_u64()), (Some(0), Some(6)));
    assert_eq!(report["no_label_examples"][3]["row"], 5);
    assert!(scores(&predictions[0]).iter().all(|&score| score < 0.0));

    let (alone, one_by_one) = validate(&tiny, &format!("{NATIVE} --batch-size 1 --threads 1"));
    same(&one_by_one, &predictions);
    assert_eq!(alone["confusion"], report["confusion"]);
}

#[test]
fn the_likeliest_label_is_the_answer_of_mode_score() {
    let tiny = TinyModel::new();
    let (report, predictions) = validate(&tiny, &format!("{NATIVE} --mode score --max-eval-samples 3"));
    assert_eq!((report["mode"].as_str(), report["rows"].as_u64()), (Some("score"), Some(3)));
    for prediction in &predictions {
        let scores = scores(prediction);
        let best = (0..3).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
        assert_eq!(prediction["answer"], ["entailment", "neutral", "contradiction"][best], "{prediction}");
    }
    let text =
        run(&tiny, &format!("validate {NATIVE} --validation-file {{rows}} --mode score"), &[]).ok().out;
    for part in
        ["accuracy   ", "95 % confidence ", " rows/s", "no label   2 rows have none", "label \\ answer"]
    {
        assert!(text.contains(part), "expected `{part}` in: {text}");
    }
}

#[test]
fn ids_are_scored_as_ids() {
    let tiny = TinyModel::new();
    let (_, words) = validate(&tiny, &format!("{NATIVE} --mode score"));
    let (_, ids) = validate(&tiny, &format!("{NATIVE} --mode score --label-style ids"));
    // One token an id; `entailment` has more than one.
    assert!(scores(&ids[0])[0] > scores(&words[0])[0] + 5.0, "{} and {}", ids[0], words[0]);
}

#[test]
fn an_adapter_changes_the_scores() {
    let tiny = TinyModel::new();
    let adapter = tiny.path("adapter");
    let labelled = tiny.path("train.jsonl");
    let rows = fs::read_to_string(tiny.rows()).unwrap();
    fs::write(&labelled, rows.lines().take(3).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let line = "train --model {model} --train-file {labelled} --precision f32 --max-seq-length 48 --max-steps 2 \
        --packing pad --learning-rate 0.1 --output-dir {adapter}";
    run(&tiny, line, &[("adapter", &adapter), ("labelled", &labelled)]).ok();
    let (_, without) = validate(&tiny, &format!("{NATIVE} --mode score"));
    let line = format!("{NATIVE} --mode score --adapter {}", adapter.display());
    let (_, with) = validate(&tiny, &line);
    let moved = (scores(&with[0])[0] - scores(&without[0])[0]).abs();
    assert!(moved > 1e-4, "moved by {moved}");
}

#[test]
fn both_engines_agree() {
    let tiny = TinyModel::new();
    if !has_onnxruntime("both_engines_agree") {
        return;
    }
    for more in ["", "--mode score", "--batch-size 1", "--batch-size 3 --max-new-tokens 2 --threads 1"] {
        let (native, expected) = validate(&tiny, &format!("{NATIVE} {more}"));
        let (onnx, found) = validate(&tiny, &format!("{ONNX} {more}"));
        same(&found, &expected);
        assert_eq!(onnx["confusion"], native["confusion"], "{more}");
        assert!(onnx["engine"].as_str().unwrap().starts_with("ONNX Runtime"), "{onnx}");
        assert!(native["engine"].as_str().unwrap().starts_with("gptjc"), "{native}");
    }
    let prompts = tiny.path("prompts.txt");
    fs::write(&prompts, "One.\nA second prompt that is longer than the first\n Third\n").unwrap();
    let generate = |engine: &str| {
        let line =
            format!("generate {engine} --prompt-file {{prompts}} --max-new-tokens 7 --batch-size 2 --json");
        run(&tiny, &line, &[("prompts", &prompts)]).ok().out
    };
    assert_eq!(generate(NATIVE), generate(ONNX));
}

#[test]
fn prompts_are_continued_one_a_line() {
    let tiny = TinyModel::new();
    let prompts = tiny.path("prompts.txt");
    fs::write(&prompts, "One.\r\nA second prompt\n").unwrap();
    let line = format!("generate {NATIVE} --prompt-file {{prompts}} --max-new-tokens 6");
    let lines = run(&tiny, &line, &[("prompts", &prompts)]).ok().out;
    let json = run(&tiny, &format!("{line} --json"), &[("prompts", &prompts)]).ok().out;
    let found: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert_eq!((found.len(), lines.lines().count()), (2, 2), "{json}\n{lines}");
    assert_eq!((&found[0]["prompt"], &found[1]["prompt"]), (&json!("One."), &json!("A second prompt")));
    assert!(found.iter().all(|answer| answer["tokens"].as_array().unwrap().len() <= 6), "{json}");

    let logits = tiny.path("logits.safetensors");
    run(&tiny, &format!("{line} --save-logits {{logits}}"), &[("prompts", &prompts), ("logits", &logits)])
        .ok();
    let file = SafetensorsFile::open(&logits).unwrap();
    for (index, answer) in found.iter().enumerate() {
        let [tokens, values] = ["tokens", "logits"].map(|name| &file.entries()[&format!("{name}.{index}")]);
        let length = tokens.shape[0];
        assert_eq!(values.shape[0], length);
        let last: Vec<f32> = file
            .bytes(values)
            .chunks_exact(4)
            .skip((length - 1) * values.shape[1])
            .map(|value| f32::from_le_bytes(value.try_into().unwrap()))
            .collect();
        // The largest logit of the last token is the first token of the answer.
        if let Some(first) = answer["tokens"][0].as_u64() {
            assert!(last.iter().all(|&value| value <= last[first as usize]), "{answer}");
        }
    }

    let model = tiny.model();
    let one =
        ["generate", "--precision", "f32", "--prompt", "A second prompt", "--max-new-tokens", "6", "--model"];
    let one: Vec<&str> = one.into_iter().chain(model.to_str()).collect();
    let text = gptjc_in(tiny.root.path(), &one).ok().out;
    assert_eq!(text.trim_end_matches('\n'), found[1]["text"].as_str().unwrap().trim_end_matches('\n'));
}
