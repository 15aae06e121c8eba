//! What the report says holds against the plan that it is of.

use super::*;
use crate::{compile, target};
use gptjc_graphs::plan::{CompileOptions, LoraOptions, ModelConfig};

const JOB: Job = Job { windows: 10, epochs: 2.0, labelled_share: 0.25 };

fn plan() -> Plan {
    let model = ModelConfig {
        n_layer: 4,
        n_embd: 16,
        n_head: 2,
        rotary_dim: 4,
        n_inner: 32,
        vocab_size: 64,
        n_positions: 16,
        layer_norm_epsilon: 1e-5,
    };
    let targets = vec!["q_proj".to_owned(), "v_proj".to_owned()];
    let lora =
        LoraOptions { rank: 2, alpha: 4.0, dropout: 0.05, targets, use_rslora: false, only_in: Vec::new() };
    let options = CompileOptions {
        model,
        lora: Some(lora),
        max_seq_length: 8,
        micro_batch: 2,
        per_device_train_batch_size: 2,
        step_windows: 4,
        memory_budget: 1 << 30,
        target: target::shipped("avx2-2c").unwrap().unwrap(),
        ..CompileOptions::default()
    };
    compile(&options).unwrap()
}

#[test]
fn costs_are_those_of_the_steps_however_they_are_grouped() {
    let plan = plan();
    let report = report(&plan, None, &JOB).unwrap();
    assert_eq!(report.entries.len(), plan.entries.len());
    for (row, entry) in report.entries.iter().zip(&plan.entries) {
        assert_eq!(
            (row.cost.calls, row.cost.flops, row.cost.bytes),
            (entry.steps.len(), entry.flops(), entry.bytes())
        );
        let kernels: u64 = row.kernels.iter().map(|kernel| kernel.cost.flops).sum();
        let groups: u64 = row.groups.iter().map(|group| group.forward.flops + group.backward.flops).sum();
        assert_eq!((kernels, groups), (entry.flops(), entry.flops()), "{}", entry.name);
        let steps: usize = row.blocks.iter().map(|kind| kind.groups.len() * kind.steps.len()).sum();
        assert_eq!(steps, entry.steps.len(), "{}", entry.name);
    }
}

#[test]
fn live_bytes_over_time_have_the_peak_that_the_plan_states() {
    let plan = plan();
    for row in report(&plan, None, &JOB).unwrap().entries {
        assert_eq!(row.live.iter().copied().max().unwrap_or(0), row.live_bytes, "{}", row.name);
        assert!(row.arena.iter().all(|buffer| buffer.first <= buffer.last && buffer.last < row.steps.len()));
    }
}

#[test]
fn passes_lead_from_the_training_graph_to_the_steps() {
    let plan = plan();
    for row in report(&plan, None, &JOB).unwrap().entries {
        assert!(row.graphs_match, "{}", row.name);
        assert_eq!(row.passes[0].before.nodes, row.training_graph.nodes.len());
        assert_eq!(row.passes[row.passes.len() - 1].after.nodes, row.steps.len());
        assert!(row.passes.windows(2).all(|pair| pair[0].after == pair[1].before));
        assert_eq!(row.backward_from.is_some(), row.name == "micro_step");
    }
}

#[test]
fn a_plan_of_other_steps_does_not_match() {
    let mut plan = plan();
    plan.entries[1].steps.pop();
    let name = plan.entries[1].name.clone();
    assert!(!report(&plan, Some(&name), &JOB).unwrap().entries[0].graphs_match);
    assert!(trace(&plan, "backward").unwrap().is_empty());
}

#[test]
fn a_job_counts_tokens_steps_and_work() {
    let plan = plan();
    let job = report(&plan, None, &JOB).unwrap().job.unwrap();
    assert_eq!((job.tokens, job.optimizer_steps, job.micro_steps), (160, 6, 10));
    let [all, masked] = &job.cases[..] else { panic!("{job:?}") };
    let flops = plan.entry("micro_step").unwrap().flops() as f64;
    assert_eq!(all.flops_per_token + all.recomputed_flops_per_token, flops / 16.0);
    assert!(masked.flops_per_token < all.flops_per_token && masked.seconds <= all.seconds);
}

#[test]
fn remarks_that_begin_with_missed_have_a_reason() {
    let record = |remarks: &[&str]| crate::pass_manager::PassRecord {
        pass: "p",
        before: crate::pass_manager::Size { nodes: 1, flops: 1, bytes: 1 },
        after: crate::pass_manager::Size { nodes: 1, flops: 1, bytes: 1 },
        remarks: remarks.iter().map(|&remark| remark.to_owned()).collect(),
    };
    let graph = gptjc_graphs::graph::Graph::new("g");
    let stage = Stage { record: Some(record(&["missed a sum: it is read: twice", "two fused"])), graph };
    let rows = passes::of(&[stage]);
    assert_eq!(rows[0].applied, ["two fused"]);
    let missed = Missed { what: "a sum".to_owned(), reason: "it is read: twice".to_owned() };
    assert_eq!(rows[0].missed, [missed]);
}
