//! `gptjc inspect`: every flag, and what it refuses.

use crate::common::{golden, gptjc};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A small plan for a machine that is not this one.
fn plan(directory: &TempDir) -> PathBuf {
    let plan = directory.path().join("a.plan");
    let line = "compile --model {model} --target avx2-2c --max-seq-length 16 --per-device-train-batch-size 2 \
                --gradient-accumulation-steps 2 --micro-batch 2 -o {plan}";
    gptjc(line, &[("model", &golden("plain/model")), ("plan", &plan)]).ok();
    plan
}

fn inspect(plan: &Path, flags: &str) -> String {
    gptjc(&format!("inspect {{plan}} {flags}"), &[("plan", plan)]).ok().out
}

fn json(plan: &Path, flags: &str) -> serde_json::Value {
    serde_json::from_str(&inspect(plan, &format!("--format json {flags}"))).unwrap()
}

#[test]
fn the_summary_is_what_is_shown_if_nothing_is_asked_for() {
    let directory = TempDir::new().unwrap();
    let plan = plan(&directory);
    let page = inspect(&plan, "");
    assert_eq!(page, inspect(&plan, "--show summary --format text"));
    for part in
        ["\noptions\n", "\nentry points", "\nmemory\n", "\nthe whole job: 5,000 full windows, 3 epoch(s)"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[test]
fn every_part_as_text() {
    let directory = TempDir::new().unwrap();
    let plan = plan(&directory);
    let parts = [
        ("graph", "; training graph, before the passes\ngraph @micro_step("),
        ("fused", "; graph after the passes\ngraph @micro_step("),
        ("plan", "\nentry forward: "),
        ("memory", "\ntemporaries of forward: "),
        ("costs", "\ncosts of apply, by kernel\n"),
        ("passes", "\npasses over micro_step\n"),
    ];
    let all = inspect(&plan, "--show all");
    for (show, part) in parts {
        let page = inspect(&plan, &format!("--show {show}"));
        assert!(page.contains(part), "{show}: {page}");
        assert!(all.contains(part), "all: {part}");
    }
}

#[test]
fn one_entry_point_and_one_block() {
    let directory = TempDir::new().unwrap();
    let plan = plan(&directory);
    let page = inspect(&plan, "--show costs --entry apply");
    assert!(page.contains("costs of apply") && !page.contains("costs of micro_step"), "{page}");
    let page = inspect(&plan, "--show fused --entry forward --layer 1");
    assert!(page.contains("; block 1 of graph @forward"), "{page}");
    let dot = inspect(&plan, "--show graph --format dot --entry forward --layer 0");
    assert!(dot.contains("label=\"block 0\"") && !dot.contains("label=\"block 1\""), "{dot}");
}

#[test]
fn every_form_to_a_file() {
    let directory = TempDir::new().unwrap();
    let plan = plan(&directory);
    let out = directory.path().join("out");
    let beginnings =
        [("text", "plan of format"), ("dot", "digraph"), ("json", "{"), ("html", "<!DOCTYPE html>")];
    for (format, beginning) in beginnings {
        let line = format!("inspect {{plan}} --format {format} -o {{out}}");
        let said = gptjc(&line, &[("plan", &plan), ("out", &out)]).ok().out;
        assert!(said.starts_with("wrote "), "{said}");
        let page = fs::read_to_string(&out).unwrap();
        assert!(page.starts_with(beginning), "{format}: {page:.80}");
        assert_eq!(page.trim_end(), inspect(&plan, &format!("--format {format}")).trim_end());
    }
}

#[test]
fn the_job_is_what_was_asked_for() {
    let directory = TempDir::new().unwrap();
    let plan = plan(&directory);
    let job = &json(&plan, "--windows 8 --epochs 2 --labelled-share 0.25")["job"];
    assert_eq!((job["tokens"].as_u64(), job["optimizer_steps"].as_u64()), (Some(8 * 2 * 16), Some(4)));
    assert_eq!(job["cases"][1]["labelled_share"], 0.25);
    let flops = |case: usize| job["cases"][case]["flops_per_token"].as_f64().unwrap();
    assert!(flops(1) < flops(0), "fewer labels are less work: {job}");
}

#[test]
fn a_plan_says_what_it_cannot_show() {
    let directory = TempDir::new().unwrap();
    let plan = plan(&directory);
    let cases = [
        ("--entry backward", "the plan has no entry point `backward`", "setup, micro_step, apply, forward"),
        ("--show fused --layer 99", "the model has no block 99", "give a block from 0 to "),
        ("--layer 1", "--layer is about graphs", "--show graph"),
        ("--format dot --show costs", "--format dot cannot show costs", "--show graph or --show fused"),
        ("--format html --show costs", "--format html cannot show costs", "leave --show out"),
        ("--show passes --windows 3", "--windows is about the whole job", "--show summary"),
        ("--format dot --epochs 3", "--epochs is about the whole job", "--show summary"),
    ];
    for (flags, what, advice) in cases {
        let message = gptjc(&format!("inspect {{plan}} {flags}"), &[("plan", &plan)]).error();
        assert!(message.contains(what) && message.contains(advice), "{flags}: {message}");
    }
    let directory = directory.path().join("no/such/out.html");
    let message =
        gptjc("inspect {plan} --format html -o {out}", &[("plan", &plan), ("out", &directory)]).error();
    assert!(message.contains("out.html"), "{message}");
}
