//! Pages of made-up runs: what is on them, and that what is missing is not.

use super::*;
use gptjc_runtime::record::{
    Answers, EvaluationRecord, MetricsLine, PlanFacts, RunExtent, RunFacts, RunStatus,
};
use gptjc_runtime::train::{LogEntry, Others};
use std::path::Path;

fn log() -> Vec<MetricsLine> {
    let line = |entry| MetricsLine { time: Some(1.7e9), entry };
    let mut log = Vec::new();
    for step in 1..=10u64 {
        let mut entry = LogEntry::training(step * 10, step as f64 / 10.0, 3.0 / step as f32, 1.5, 1e-4);
        entry.other.insert("tokens_per_second".to_owned(), 900.0.into());
        log.push(line(entry));
        if step.is_multiple_of(5) {
            let other = Others::from_iter([("eval_loss".to_owned(), (2.0 / step as f64).into())]);
            log.push(line(LogEntry {
                step: step * 10,
                epoch: step as f64 / 10.0,
                other,
                ..LogEntry::default()
            }));
        }
    }
    log
}

fn evaluation(step: u64, accuracy: f64) -> EvaluationRecord {
    let metrics = [("eval_loss", 20.0 / step as f64), ("eval_accuracy", accuracy), ("eval_runtime", 2.5)];
    let correct = (accuracy * 300.0).round() as u64;
    EvaluationRecord {
        step,
        epoch: step as f64 / 100.0,
        metrics: metrics.map(|(name, value)| (name.to_owned(), value)).into(),
        answers: vec![Answers {
            mode: "score".to_owned(),
            counted: 300,
            correct,
            interval: Some([accuracy - 0.05, accuracy + 0.05]),
            confusion: [[90, 6, 4, 0], [5, 80, 15, 0], [correct - 170 - 5, 5, correct - 170, 0]],
        }],
    }
}

fn record() -> RunRecord {
    let families = |factor: f64| {
        let times = [("matrix products", 3.0), ("attention", 1.0)];
        times.map(|(name, time)| (name.to_owned(), factor * time)).into()
    };
    RunRecord {
        format: 1,
        facts: RunFacts {
            command: ["gptjc", "finetune", "--prompt-template", "<it's>"].map(str::to_owned).to_vec(),
            gptjc: "0.1.0".to_owned(),
            plan: PlanFacts {
                peak_bytes: 3 << 30,
                memory: vec![("weights".to_owned(), 2 << 30), ("temporaries".to_owned(), 1 << 30)],
                step_seconds: 5.0,
                families: families(1.1),
                ..PlanFacts::default()
            },
            ..RunFacts::default()
        },
        extent: RunExtent { total_steps: 100, epochs: 1.0, windows: 800, step_windows: 8 },
        status: RunStatus::Finished,
        sessions: vec![Session {
            started: 1.7e9,
            updated: 1.7e9 + 700.0,
            last_step: 100,
            step_seconds: 600.0,
            tokens: 409_600,
            peak_bytes: Some(29 << 27),
            families: families(100.0),
            ..Session::default()
        }],
        evaluations: vec![evaluation(50, 0.8), evaluation(100, 0.85)],
        tensorboard: None,
    }
}

fn collected(directory: &str) -> Collected {
    Collected { directory: directory.into(), record: Some(record()), log: log(), missing: Vec::new() }
}

/// Ids of the page's sections, in order.
fn sections(page: &str) -> Vec<&str> {
    page.split("<section id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn a_run_has_curves_a_matrix_times_memory_and_its_command() {
    let page = render(&named(vec![collected("some/where/out")]));
    assert_eq!(sections(&page), ["curves", "evaluation", "time", "memory", "facts"]);
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<title>Training run out</title>"));
    let said = [
        "gptjc training run · finished",
        "<h3>Loss</h3>",
        "<h3>Learning rate</h3>",
        "<h3>Norm of the gradient, before clipping</h3>",
        "<h3>Tokens a second</h3>",
        "2 evaluations",
        "80.0 % – 90.0 %",
        "<h3>likeliest label, after step 100</h3>",
        "255 of 300 rows right: 85.0 %",
        "matrix products: measured 3.00 s, predicted 3.30 s",
        "An optimizer step took 6.00 s (2.00 s of it outside of the plan's steps), predicted 5.00 s (-16.7 %)",
        "gptjc finetune --prompt-template '&lt;it'\\''s&gt;'",
        "One start of the program",
        "2023-11-14 22:13:20",
        "3.62 GiB",
    ];
    for text in said {
        assert!(page.contains(text), "expected `{text}`");
    }
    // Nothing is fetched from anywhere.
    assert!(!page.contains("http") && !page.contains("src="), "a page stands alone");
}

#[test]
fn what_a_run_did_not_leave_is_said_and_not_shown() {
    let missing = vec!["run.json is not there".to_owned()];
    let found = Collected { record: None, missing, ..collected("old") };
    let page = render(&named(vec![found]));
    assert_eq!(sections(&page), ["missing", "curves", "evaluation"]);
    assert!(page.contains("<p class=\"missed\">run.json is not there</p>") && page.contains("state unknown"));
    let empty = Collected { log: Vec::new(), record: Some(RunRecord::default()), ..collected("aborted") };
    assert_eq!(sections(&render(&named(vec![empty]))), ["facts"]);
}

#[test]
fn runs_are_side_by_side() {
    let mut other = collected("b/out");
    other.record = None;
    let page = render(&named(vec![collected("a/out"), other]));
    assert_eq!(sections(&page), ["runs", "curves", "evaluation", "time", "memory", "facts"]);
    for text in
        ["<title>2 training runs</title>", "a/out, training", "b/out, evaluation", "a/out: 2 evaluations"]
    {
        assert!(page.contains(text), "expected `{text}`");
    }
    let names: Vec<String> =
        named(vec![collected("x/one"), collected("x/two")]).into_iter().map(|run| run.name).collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(
        named(vec![Collected { directory: Path::new("/").into(), ..Collected::default() }])[0].name,
        "/"
    );
}
