//! Products with the weights of GPT-J-6B, for every variant that this CPU can run; throughput is in FLOP/s.
//!
//! `cargo bench -p gptjc-benches --bench products -- 'avx2/fc_in'` runs some of them.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gptjc_compiler::single_op::{gptj_products, product_plan};
use gptjc_graphs::plan::{Isa, Precision, Target};
use gptjc_runtime::bench::isolated::{Bound, Inputs, isolate};
use gptjc_runtime::{isa, machine};
use std::time::Duration;

/// Tokens: of an answer, and of a window.
const TOKENS: [usize; 2] = [64, 512];

fn products(criterion: &mut Criterion) {
    let threads = machine::host().cores.max(1) as usize;
    for isa in Isa::ALL.into_iter().filter(|&isa| isa != Isa::Portable && isa::usable(isa)) {
        let target = Target { isa: isa.name().to_owned(), ..machine::host() };
        for precision in [Precision::Bf16, Precision::F32] {
            for (name, product) in TOKENS.iter().flat_map(|&tokens| gptj_products(tokens, precision)) {
                let Ok(plan) = product_plan(product, &target) else { continue };
                let step = &plan.entries[0].steps[0];
                let mut inputs = Inputs::new(&[], 1);
                inputs.extents.slots = product.m;
                let bound = isolate(&plan, step, Some(isa)).map(|one| Bound::new(one, &inputs, threads));
                let Some(Ok(mut bound)) = bound else { continue }; // no such variant
                let mut group = criterion.benchmark_group(format!("{isa}/{name}/{precision}"));
                group.throughput(Throughput::Elements(step.flops)).sample_size(10);
                group.measurement_time(Duration::from_secs(3));
                let label = format!("{} {}x{}x{}", product.form.name(), product.m, product.n, product.k);
                group.bench_function(label, |bencher| {
                    bencher.iter(|| bound.run().unwrap_or_else(|error| panic!("{error}")));
                });
                group.finish();
            }
        }
    }
}

criterion_group!(benches, products);
criterion_main!(benches);
