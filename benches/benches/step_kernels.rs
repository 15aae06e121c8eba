//! Every other kernel of a training step of GPT-J-6B's width, at 1×512 tokens, for every variant that this CPU can run;
//! throughput is in bytes of operands and results.
//!
//! `cargo bench -p gptjc-benches --bench step_kernels -- attention` runs some of them.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gptjc_compiler::single_op::distinct_steps;
use gptjc_graphs::plan::{
    CompileOptions, Isa, KernelId, LoraOptions, ModelConfig, Packing, Plan, Precision, Target,
};
use gptjc_runtime::bench::isolated::{Bound, Inputs, isolate};
use gptjc_runtime::data::window::{Window, WindowLimits};
use gptjc_runtime::{isa, machine};

const WINDOW: usize = 512;
const VOCABULARY: usize = 50400;

fn plan(target: &Target) -> Option<Plan> {
    let model = ModelConfig {
        n_layer: 2,
        n_embd: 4096,
        n_head: 16,
        rotary_dim: 64,
        n_inner: 16384,
        vocab_size: VOCABULARY as u64,
        n_positions: 2048,
        layer_norm_epsilon: 1e-5,
    };
    let targets = ["q_proj", "k_proj", "v_proj", "out_proj"].map(str::to_owned).to_vec();
    gptjc_compiler::compile(&CompileOptions {
        model,
        lora: Some(LoraOptions {
            rank: 8,
            alpha: 16.0,
            dropout: 0.05,
            targets,
            use_rslora: false,
            only_in: Vec::new(),
        }),
        precision: Precision::Bf16.into(),
        packing: Packing::Concat.into(),
        max_seq_length: WINDOW as u64,
        micro_batch: 1,
        per_device_train_batch_size: 1,
        memory_budget: u64::MAX,
        target: target.clone(),
        step_windows: 1,
        decode_sequences: 0,
        decode_slots: 0,
    })
    .ok()
}

/// A window of one segment, every token of which has a label.
fn window() -> Window {
    let limits = WindowLimits { window_length: WINDOW, n_positions: 2048, vocab_size: VOCABULARY };
    let ids: Vec<u32> = (0..WINDOW as u32).map(|index| index * 7919 % VOCABULARY as u32).collect();
    let labels: Vec<Option<u32>> = ids.iter().map(|&id| Some(id)).collect();
    let mut window = Window::default();
    // Length and ids are within the limits.
    let _ = window.push_segment(&ids, &labels, &limits);
    window
}

fn step_kernels(criterion: &mut Criterion) {
    let threads = machine::host().cores.max(1) as usize;
    let inputs = Inputs::new(&[window()], 1);
    for isa in Isa::ALL.into_iter().filter(|&isa| isa != Isa::Portable && isa::usable(isa)) {
        let target = Target { isa: isa.name().to_owned(), ..machine::host() };
        let Some(plan) = plan(&target) else { continue };
        for (index, step) in distinct_steps(&plan).into_iter().enumerate() {
            let Some(id) = KernelId::parse(&step.kernel) else { continue };
            let bound = isolate(&plan, step, Some(isa)).map(|one| Bound::new(one, &inputs, threads));
            let Some(Ok(mut bound)) = bound else { continue }; // no such variant
            let mut group = criterion.benchmark_group(format!("{isa}/{}", id.op));
            group.throughput(Throughput::Bytes(step.bytes)).sample_size(10);
            group.bench_function(format!("{index} {}", step.module), |bencher| {
                bencher.iter(|| bound.run().unwrap_or_else(|error| panic!("{error}")));
            });
            group.finish();
        }
    }
}

criterion_group!(benches, step_kernels);
criterion_main!(benches);
