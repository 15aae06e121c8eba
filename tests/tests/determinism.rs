//! The contract on bits: the adapter's bytes depend on the graph, the data and the seed; not on threads, sockets,
//! micro-batches, caches or budgets.
#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

use gptjc_compiler::CompileError;
use gptjc_graphs::plan::{CompileOptions, Isa, Packing, Precision};
use gptjc_runtime::data::window::Window;
use gptjc_runtime::isa;
use gptjc_runtime::topology::Pretended;
use gptjc_runtime::train::TrainOptions;
use gptjc_tests::golden::Golden;

/// Eight windows of uneven length out of the golden case `plain`; in `segments` packing two examples share a window.
fn windows(packing: Packing) -> Vec<Window> {
    let rows: Vec<Window> = Golden::open("plain").steps().into_iter().flatten().take(8).collect();
    rows.into_iter()
        .enumerate()
        .map(|(index, mut row)| {
            let length = row.tokens.len() - index;
            row.tokens.truncate(length);
            row.positions.truncate(length);
            row.targets.truncate(length);
            row.targets[length - 1] = None;
            row.segments = vec![length as u32];
            if packing == Packing::Segments && index % 2 == 0 {
                let first = 5;
                row.segments = vec![first, length as u32 - first];
                row.positions = (0..first).chain(0..length as u32 - first).collect();
                row.targets[first as usize - 1] = None;
            }
            row
        })
        .collect()
}

struct Run {
    options: CompileOptions,
    threads: usize,
    topology: Option<Pretended>,
}

impl Run {
    fn new(packing: Packing, precision: Precision, isa: Isa) -> Self {
        let golden = Golden::open("plain");
        let mut options = golden.compile_options();
        options.packing = packing.into();
        options.precision = precision.into();
        options.target.isa = isa.name().to_owned();
        options.step_windows = 8;
        options.per_device_train_batch_size = 8;
        options.micro_batch = 8;
        if let Some(lora) = &mut options.lora {
            lora.dropout = 0.05;
        }
        Self { options, threads: 1, topology: None }
    }

    /// Bytes of the adapter after three steps.
    fn adapter_bytes(&self, packing: Packing) -> Vec<u8> {
        let golden = Golden::open("plain");
        let train_options = TrainOptions {
            threads: self.threads,
            topology: self.topology,
            per_device_train_batch_size: 8,
            ..golden.train_options()
        };
        let mut trainer = golden.trainer(&self.options, train_options);
        let is_copied = trainer.plan().buffers.iter().any(|buffer| buffer.copied);
        let nodes = self.topology.map_or(1, |topology| topology.topology().place(self.threads).nodes().len());
        let copies = if is_copied && nodes > 1 { nodes } else { 0 };
        assert_eq!(trainer.executor().weight_copies(), copies);
        let windows = windows(packing);
        let windows: Vec<&Window> = windows.iter().collect();
        for rate in [1e-3, 7e-4, 3e-4] {
            trainer.step(&windows, rate).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        trainer.save(dir.path()).unwrap();
        std::fs::read(dir.path().join("adapter_model.safetensors")).unwrap()
    }
}

/// The least bytes of memory that `options` can be compiled for.
fn least_budget(options: &CompileOptions) -> u64 {
    let impossible = CompileOptions { memory_budget: 1, ..options.clone() };
    match gptjc_compiler::compile(&impossible) {
        Err(CompileError::Budget { needed, .. }) => needed,
        Err(error) => panic!("{error}"),
        Ok(plan) => panic!("a plan for one byte: {:?}", plan.prediction),
    }
}

fn variants(packing: Packing, precision: Precision, isa: Isa) -> Vec<(&'static str, Run)> {
    let mut variants: Vec<(&str, Run)> = Vec::new();
    let micro_batches =
        [("micro-batch 1", 1), ("micro-batch 2", 2), ("micro-batch 3", 3), ("micro-batch 4", 4)];
    for (name, micro_batch) in micro_batches {
        let mut run = Run::new(packing, precision, isa);
        run.options.micro_batch = micro_batch;
        run.threads = 2;
        variants.push((name, run));
    }
    for (name, threads) in [("2 threads", 2), ("5 threads", 5)] {
        variants.push((name, Run { threads, ..Run::new(packing, precision, isa) }));
    }
    for (name, threads) in [("2x1", 2), ("3x2", 6), ("2x2", 3)] {
        let topology: Pretended = name.parse().unwrap();
        let run = || Run { threads, topology: Some(topology), ..Run::new(packing, precision, isa) };
        variants.push((name, run()));
        // A plan for these sockets, each with its own copy of the weights.
        let mut copied = run();
        copied.options.target.sockets = topology.topology().sockets() as u32;
        let plan = gptjc_compiler::compile(&copied.options).unwrap();
        assert!(plan.prediction.weight_copy_bytes > 0, "{:?}", plan.remarks);
        variants.push((name, copied));
    }
    let mut small_caches = Run::new(packing, precision, isa);
    small_caches.options.target.l2_bytes = 4 << 10;
    small_caches.options.target.cores = 7;
    variants.push(("small caches, many cores", small_caches));
    let mut large_caches = Run::new(packing, precision, isa);
    large_caches.options.target.l2_bytes = 64 << 20;
    large_caches.options.target.cores = 1;
    variants.push(("large caches, one core", large_caches));
    let mut budget = Run::new(packing, precision, isa);
    let eight = gptjc_compiler::compile(&budget.options).unwrap();
    budget.options.micro_batch = 0;
    budget.options.memory_budget = eight.prediction.peak_bytes - eight.arena_bytes / 2;
    let plan = gptjc_compiler::compile(&budget.options).unwrap();
    assert!(
        plan.options.micro_batch < 8 || plan.prediction.recomputed_blocks > 0,
        "the budget should force smaller micro-batches or recomputation"
    );
    variants.push(("a tight memory budget", budget));
    let mut least = Run::new(packing, precision, isa);
    least.options.micro_batch = 0;
    least.options.memory_budget = least_budget(&least.options);
    let plan = gptjc_compiler::compile(&least.options).unwrap();
    let recomputed = plan.prediction.recomputed_blocks;
    assert!(plan.options.micro_batch == 1 && plan.stream_bytes > 0 && recomputed > 0, "{:?}", plan.remarks);
    variants.push(("the least memory budget", least));
    let mut streaming = Run::new(packing, precision, isa);
    streaming.options.micro_batch = 1;
    let resident = gptjc_compiler::compile(&streaming.options).unwrap();
    streaming.options.memory_budget = resident.prediction.peak_bytes - resident.weight_bytes / 2;
    let plan = gptjc_compiler::compile(&streaming.options).unwrap();
    assert!(plan.stream_bytes > 0, "the budget should force streaming of weights");
    variants.push(("streamed weights", streaming));
    variants
}

/// Kernels of each instruction set that this CPU has, each a rounding class of its own or part of one.
fn check(packing: Packing, precision: Precision) {
    for isa in Isa::ALL.into_iter().filter(|&isa| isa::usable(isa)) {
        let reference = Run::new(packing, precision, isa).adapter_bytes(packing);
        for (name, run) in variants(packing, precision, isa) {
            assert!(
                run.adapter_bytes(packing) == reference,
                "{packing}, {precision}, {isa}: other adapter bytes with {name}"
            );
        }
    }
}

#[test]
fn same_bytes_in_f32() {
    check(Packing::Pad, Precision::F32);
}

#[test]
fn same_bytes_with_segments() {
    check(Packing::Segments, Precision::F32);
}

#[test]
fn same_bytes_in_bf16() {
    check(Packing::Pad, Precision::Bf16);
}

#[test]
fn the_same_options_give_the_same_plan() {
    let options = Golden::open("plain").compile_options();
    let bytes = || gptjc_graphs::plan::artifact::encode(&gptjc_compiler::compile(&options).unwrap());
    assert_eq!(bytes(), bytes());
}
