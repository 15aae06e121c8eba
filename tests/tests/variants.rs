//! Kernels of every instruction set in whole plans: the compiler asks for kernels that the runtime has, and what it runs
//! with vectors is as near to the reference as with plain Rust, and depends on threads and micro-batches as little.
#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

use gptjc_graphs::plan::{CompileOptions, Isa, KernelId, Plan, Precision};
use gptjc_runtime::data::window::Window;
use gptjc_runtime::isa;
use gptjc_runtime::train::{TrainOptions, Trainer};
use gptjc_tests::golden::Golden;
use std::collections::BTreeSet;

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

/// Instruction sets with vectors that this CPU has. `GPTJC_REQUIRE_ISA` names those that it must have.
fn usable() -> Vec<Isa> {
    let required = std::env::var("GPTJC_REQUIRE_ISA").unwrap_or_default();
    for isa in Isa::ALL {
        let is_required = required.split(',').any(|name| name == isa.name());
        assert!(isa::usable(isa) || !is_required, "{isa} must be tested, and this CPU lacks it");
    }
    Isa::ALL.into_iter().filter(|&isa| isa > Isa::Portable && isa::usable(isa)).collect()
}

fn options(golden: &Golden, isa: Isa, precision: Precision) -> CompileOptions {
    let mut options = golden.compile_options();
    options.target.isa = isa.name().to_owned();
    options.precision = precision.into();
    options
}

fn kernels(plan: &Plan) -> BTreeSet<KernelId> {
    let steps = plan.entries.iter().flat_map(|entry| &entry.steps);
    steps.map(|step| KernelId::parse(&step.kernel).unwrap()).collect()
}

#[test]
fn the_runtime_has_the_kernels_that_the_compiler_chooses() {
    for name in ["plain", "full", "alltargets"] {
        let golden = Golden::open(name);
        for (isa, precision) in usable().into_iter().flat_map(|isa| PRECISIONS.map(|p| (isa, p))) {
            let trainer = golden.trainer(&options(&golden, isa, precision), golden.train_options());
            let with_vectors = kernels(trainer.plan()).into_iter().filter(|id| id.isa != "portable").count();
            assert!(with_vectors > 0, "no kernel of `{name}` for {isa} has vectors");
        }
    }
}

/// A kernel that the compiler takes as portable for a large target has no variant that it does not know of.
#[test]
fn what_is_portable_has_no_variant() {
    for (isa, precision) in usable().into_iter().flat_map(|isa| PRECISIONS.map(|p| (isa, p))) {
        let golden = Golden::open("plain");
        let plan = gptjc_compiler::compile(&options(&golden, isa, precision)).unwrap();
        for id in kernels(&plan).into_iter().filter(|id| id.isa == "portable") {
            let mut changed = plan.clone();
            let other = KernelId { isa: isa.name().to_owned(), ..id.clone() }.to_string();
            for step in changed.entries.iter_mut().flat_map(|entry| &mut entry.steps) {
                if step.kernel == id.to_string() {
                    step.kernel.clone_from(&other);
                }
            }
            let trainer = Trainer::new(changed, golden.checkpoint(), golden.start(), golden.train_options());
            assert!(trainer.is_err(), "the compiler does not know of `{other}`");
        }
    }
}

#[test]
fn losses_are_those_of_hugging_face_with_every_variant() {
    for name in ["plain", "full"] {
        let golden = Golden::open(name);
        for isa in usable() {
            let mut trainer = golden.trainer(&options(&golden, isa, Precision::F32), golden.train_options());
            for (step, windows) in golden.steps().iter().enumerate() {
                let windows: Vec<&Window> = windows.iter().collect();
                let loss = trainer.step(&windows, golden.schedule().rate(trainer.done())).unwrap().loss;
                let (loss, expected) = (f64::from(loss), f64::from(golden.expected.loss[step]));
                let difference = (loss - expected).abs() / expected;
                assert!(difference < 2e-6, "{name} with {isa}, step {step}: {loss}, expected {expected}");
            }
        }
    }
}

/// Bytes of the first parameters after the steps of `plain`.
fn parameters(options: &CompileOptions, threads: usize) -> Vec<Vec<f32>> {
    let golden = Golden::open("plain");
    let train = TrainOptions { threads, ..golden.train_options() };
    let mut trainer = golden.trainer(options, train);
    for windows in golden.steps().iter().take(2) {
        let windows: Vec<&Window> = windows.iter().collect();
        trainer.step(&windows, golden.schedule().rate(trainer.done())).unwrap();
    }
    let memory = gptjc_graphs::plan::Memory::Parameter;
    let names: Vec<String> = trainer.plan().buffers_in(memory).map(|buffer| buffer.name.clone()).collect();
    names.iter().map(|name| trainer.executor().read::<f32>(name).unwrap()).collect()
}

/// Threads, micro-batches and the blocks that follow from caches and cores leave the bits alone, with every variant.
#[test]
fn bits_do_not_depend_on_how_the_work_is_cut() {
    let golden = Golden::open("plain");
    for (isa, precision) in usable().into_iter().flat_map(|isa| PRECISIONS.map(|p| (isa, p))) {
        let whole = options(&golden, isa, precision);
        let expected = parameters(&whole, 1);
        assert!(parameters(&whole, 2) == expected, "{isa}, {precision:?}: two threads");
        let mut cut = whole.clone();
        cut.micro_batch = 1;
        (cut.target.l2_bytes, cut.target.cores) = (64 << 10, 32);
        assert!(parameters(&cut, 2) == expected, "{isa}, {precision:?}: other blocks");
    }
}
