//! What the plan of GPT-J-6B is made of: the reference workflow's step, 8 windows of 512 tokens, rank 8 on q, k, v, out.
#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

use gptjc_graphs::plan::{
    CompileOptions, EntryPoint, LoraOptions, Memory, ModelConfig, Packing, Plan, Precision,
};
use gptjc_tests::golden::target;
use std::collections::BTreeMap;

const LAYERS: u64 = 28;
const WIDTH: u64 = 4096;
const VOCAB: u64 = 50400;
const WINDOW: u64 = 512;

fn options(micro_batch: u64) -> CompileOptions {
    let targets = ["q_proj", "k_proj", "v_proj", "out_proj"].map(str::to_owned).to_vec();
    let mut target = target();
    target.memory_bytes = 64 << 30;
    CompileOptions {
        model: ModelConfig {
            n_layer: LAYERS,
            n_embd: WIDTH,
            n_head: 16,
            rotary_dim: 64,
            n_inner: 4 * WIDTH,
            vocab_size: VOCAB,
            n_positions: 2048,
            layer_norm_epsilon: 1e-5,
        },
        lora: Some(LoraOptions {
            rank: 8,
            alpha: 54.0,
            dropout: 0.05,
            targets,
            use_rslora: false,
            only_in: Vec::new(),
        }),
        precision: Precision::Bf16.into(),
        packing: Packing::Concat.into(),
        max_seq_length: WINDOW,
        micro_batch,
        per_device_train_batch_size: 8,
        memory_budget: 0,
        target,
        step_windows: 8,
        decode_sequences: 0,
        decode_slots: 0,
    }
}

fn plan(micro_batch: u64) -> Plan {
    gptjc_compiler::compile(&options(micro_batch)).unwrap()
}

/// Number of steps of each op in the block `layer`.
fn ops_of_block(entry: &EntryPoint, layer: u64) -> BTreeMap<&str, usize> {
    let prefix = format!("transformer.h.{layer}.");
    let mut counts = BTreeMap::new();
    for step in entry.steps.iter().filter(|step| step.module.starts_with(&prefix)) {
        *counts.entry(step.kernel.split('-').next().unwrap()).or_default() += 1;
    }
    counts
}

#[test]
fn a_block_is_a_few_fused_steps() {
    let plan = plan(1);
    let micro_step = plan.entry("micro_step").unwrap();
    for layer in 0..LAYERS {
        let counts = ops_of_block(micro_step, layer);
        let count = |op: &str| counts.get(op).copied().unwrap_or(0);
        let at = format!("block {layer}: {counts:?}");
        // One group, out_proj and fc_out; the last block has queries and fc_in on labelled rows, keys and values on all.
        let is_last = layer == LAYERS - 1;
        assert_eq!(count("projection"), if is_last { 4 } else { 3 }, "{at}");
        assert_eq!(count("attention"), 1, "{at}");
        assert_eq!(count("attention_grad"), 1, "{at}");
        // Block 0 needs the input gradient of out_proj only.
        let gradients = match layer {
            0 => 1,
            _ if is_last => 4,
            _ => 3,
        };
        assert_eq!(count("projection_grad"), gradients, "{at}");
        for primitive in
            ["matmul", "window_matmul", "segment_scores", "masked_softmax", "rotary", "gelu_tanh", "dropout"]
        {
            assert_eq!(count(primitive), 0, "{at}");
        }
    }
    assert_eq!(micro_step.steps.iter().filter(|step| step.kernel.starts_with("vocab_loss")).count(), 1);
}

#[test]
fn nothing_as_large_as_what_fusion_avoids_is_in_memory() {
    let plan = plan(2);
    let tokens = 2 * WINDOW;
    for buffer in plan.buffers.iter().filter(|buffer| buffer.memory() != Memory::Weight) {
        let bounds: Vec<u64> = buffer.dims.iter().map(|dim| dim.bound).collect();
        let has = |size: u64| bounds.contains(&size);
        let is_scores = bounds.iter().filter(|&&bound| bound == tokens || bound == WINDOW).count() > 1;
        assert!(!is_scores, "{} is {bounds:?}: scores", buffer.name);
        assert!(!(has(VOCAB) && has(tokens)), "{} is {bounds:?}: logits", buffer.name);
        let is_weight_gradient = bounds.iter().filter(|&&bound| bound >= WIDTH).count() > 1;
        assert!(!is_weight_gradient, "{} is {bounds:?}: the gradient of a weight", buffer.name);
    }
}

/// FLOPs of a step of 8 windows as DESIGN counts work: matmul weights forward and backward, and attention.
#[test]
fn the_work_is_that_of_the_model() {
    let square = WIDTH * WIDTH;
    let weights = LAYERS * 12 * square + VOCAB * WIDTH;
    // Block 0: of 12 parts, only out_proj's input gradient.
    let products = 2 * (2 * weights - 11 * square);
    // Scores and mixing over half of a window, forward once and backward twice.
    let attention = 3 * LAYERS * 2 * (WINDOW + 1) * WIDTH;
    let adapters = 3 * LAYERS * 4 * 2 * 8 * (2 * WIDTH);
    let expected = (products + attention + adapters) * 8 * WINDOW;
    assert!((22.9e9..23.1e9).contains(&(products as f64)), "{products} FLOPs a token");
    let plan = plan(1);
    let found = 8 * plan.entry("micro_step").unwrap().flops();
    let relative = (found as f64 - expected as f64) / expected as f64;
    assert!(relative.abs() < 0.01, "{found} FLOPs for {expected}: {relative:.4}");
}

#[test]
fn the_arena_is_what_must_be_kept() {
    let plan = plan(1);
    let micro_step = plan.entry("micro_step").unwrap();
    assert!(plan.arena_bytes <= 1_300_000_000, "{} bytes", plan.arena_bytes);
    let waste = plan.arena_bytes as f64 / micro_step.live_bytes as f64 - 1.0;
    assert!(waste <= 0.1, "{} bytes for {} live ones: {waste:.3}", plan.arena_bytes, micro_step.live_bytes);
}
