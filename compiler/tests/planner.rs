//! What the planner makes of GPT-J-6B on machines that are not there.
#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

use gptjc_compiler::{CompileError, compile, target};
use gptjc_graphs::plan::artifact::encode;
use gptjc_graphs::plan::{CompileOptions, LoraOptions, Memory, ModelConfig, Packing, Plan, Precision};

const GIB: u64 = 1 << 30;

/// The reference workflow's step: 8 windows of 512 tokens, rank 8 on q, k, v, out.
fn options(machine: &str, memory_budget: u64) -> CompileOptions {
    let targets = ["q_proj", "k_proj", "v_proj", "out_proj"].map(str::to_owned).to_vec();
    CompileOptions {
        model: ModelConfig {
            n_layer: 28,
            n_embd: 4096,
            n_head: 16,
            rotary_dim: 64,
            n_inner: 16384,
            vocab_size: 50400,
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
        max_seq_length: 512,
        micro_batch: 0,
        per_device_train_batch_size: 8,
        memory_budget,
        target: target::shipped(machine).unwrap().unwrap(),
        step_windows: 8,
        decode_sequences: 0,
        decode_slots: 0,
    }
}

fn plan(machine: &str, memory_budget: u64) -> Plan {
    compile(&options(machine, memory_budget)).unwrap()
}

/// Blocks that the plan recomputes: those with a projection of more than there are forward and backward.
fn recomputed_blocks(plan: &Plan) -> usize {
    let micro_step = plan.entry("micro_step").unwrap();
    let count = |block: usize| {
        let prefix = format!("transformer.h.{block}.");
        let is_attention = |kernel: &str| kernel.starts_with("attention-");
        micro_step
            .steps
            .iter()
            .filter(|step| step.module.starts_with(&prefix) && is_attention(&step.kernel))
            .count()
    };
    (0..28).filter(|&block| count(block) > 1).count()
}

#[test]
fn plans_fit_their_budgets_and_more_memory_is_never_slower() {
    for machine in ["zen4-2c", "spr-2s"] {
        let mut slower = f64::INFINITY;
        for budget in [6, 8, 16, 64] {
            let plan = plan(machine, budget * GIB);
            let prediction = plan.prediction;
            assert!(prediction.peak_bytes <= budget * GIB, "{machine}, {budget} GiB: {prediction:?}");
            let regions = plan.arena_bytes + plan.persistent_bytes + plan.stream_bytes;
            let weights = prediction.touched_weight_bytes + prediction.weight_copy_bytes;
            let sum = regions + weights + prediction.process_bytes;
            assert_eq!(prediction.peak_bytes, sum, "{machine}, {budget} GiB");
            assert!(prediction.seconds <= slower * 1.005, "{machine}, {budget} GiB: {prediction:?}");
            slower = prediction.seconds;
            // All weights are there once, resident or streamed.
            let is_matrix = |name: &str| name.ends_with("proj.weight") || name.ends_with("lm_head.weight");
            let names = plan.frozen_tensors().filter(|buffer| is_matrix(&buffer.name)).count();
            assert_eq!(names, 28 * 4 + 1, "{machine}, {budget} GiB");
            assert_eq!(plan.stream_bytes == 0, plan.entries.iter().all(|entry| entry.loads.is_empty()));
        }
    }
}

#[test]
fn each_node_gets_a_copy_of_the_weights_where_there_is_room() {
    let remark = |plan: &Plan| plan.remarks.iter().any(|remark| remark.contains("NUMA nodes"));
    let roomy = plan("spr-2s", 64 * GIB);
    let copied: u64 =
        roomy.buffers.iter().filter(|buffer| buffer.copied).filter_map(|buffer| buffer.bytes()).sum();
    assert!(roomy.prediction.weight_copy_bytes >= copied && copied > 10 * GIB, "{:?}", roomy.prediction);
    assert!(remark(&roomy), "{:?}", roomy.remarks);
    // The table of embeddings and vectors are read where they are.
    let is_copied = |name: &str| roomy.buffers.iter().any(|buffer| buffer.name == name && buffer.copied);
    assert!(
        is_copied("lm_head.weight") && !is_copied("transformer.wte.weight") && !is_copied("lm_head.bias")
    );
    for (machine, budget) in [("spr-2s", 20), ("spr-2s", 8), ("zen4-2c", 64)] {
        let plan = plan(machine, budget * GIB);
        assert_eq!(plan.prediction.weight_copy_bytes, 0, "{machine}, {budget} GiB");
        assert!(plan.buffers.iter().all(|buffer| !buffer.copied));
        assert_eq!(remark(&plan), machine == "spr-2s", "{:?}", plan.remarks);
    }
}

#[test]
fn a_slow_machine_hides_reading_and_a_fast_one_recomputes_to_read_less() {
    let slow = plan("zen4-2c", 8 * GIB);
    assert!(slow.stream_bytes > 0 && slow.prediction.read_bytes > 0);
    assert!(slow.prediction.wait_seconds < 0.01 * slow.prediction.seconds, "{:?}", slow.prediction);
    assert_eq!(recomputed_blocks(&slow), 0);
    let fast = plan("spr-2s", 8 * GIB);
    assert!(fast.prediction.wait_seconds > 0.5 * fast.prediction.seconds, "{:?}", fast.prediction);
    assert_eq!(recomputed_blocks(&fast), 28);
    assert!(fast.prediction.recomputed_flops > fast.prediction.flops / 5);
    let resident = plan("spr-2s", 0); // all of the machine's memory
    assert_eq!((resident.stream_bytes, recomputed_blocks(&resident)), (0, 0));
    assert!(resident.buffers_in(Memory::Stream).next().is_none());
    assert_eq!(resident.options.micro_batch, 8);
}

#[test]
fn the_arena_of_a_recomputed_plan_is_packed_tightly() {
    let plan = plan("spr-2s", 6 * GIB);
    let live = plan.entry("micro_step").unwrap().live_bytes;
    let waste = plan.arena_bytes as f64 / live as f64 - 1.0;
    assert!(waste <= 0.1, "{} bytes for {live} live ones", plan.arena_bytes);
}

#[test]
fn remarks_say_what_was_considered_and_equal_options_give_equal_bytes() {
    let plan = plan("zen4-2c", 6 * GIB);
    let planner: Vec<&String> =
        plan.remarks.iter().filter(|remark| remark.starts_with("planner: ")).collect();
    let has =
        |text: &str| assert!(planner.iter().any(|remark| remark.contains(text)), "{text}: {planner:#?}");
    has("memory budget: 6442450944 bytes, given");
    has("micro-batch 8: without recomputation nothing fits");
    has("units streamed through");
    has("chosen: micro-batch 4, the fastest of ");
    let again = compile(&options("zen4-2c", 6 * GIB)).unwrap();
    assert_eq!(encode(&plan), encode(&again));
}

#[test]
fn the_micro_batch_that_was_asked_for_is_kept() {
    let mut options = options("zen4-2c", 16 * GIB);
    options.micro_batch = 2;
    assert_eq!(compile(&options).unwrap().options.micro_batch, 2);
}

#[test]
fn an_impossible_budget_is_refused_with_the_least_that_works() {
    let error = compile(&options("zen4-2c", GIB / 2)).map(|plan| plan.prediction.peak_bytes).unwrap_err();
    let CompileError::Budget { budget, needed, .. } = error else { panic!("{error}") };
    assert_eq!(budget, GIB / 2);
    assert!(error.to_string().contains(&format!("the least that works is {needed} bytes")), "{error}");
    let least = compile(&options("zen4-2c", needed)).unwrap();
    assert!(least.prediction.peak_bytes <= needed);
    assert!(matches!(compile(&options("zen4-2c", needed - 1)), Err(CompileError::Budget { .. })));
}
