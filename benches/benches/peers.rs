//! f32 products with the weights of GPT-J-6B: gptjc beside the crates `gemm` and `tract-linalg`, in turns in one run.
//!
//! `cargo bench -p gptjc-benches --bench peers -- 64 512` takes these numbers of tokens; without any, 64, 512 and 1024.
//!
//! Every row is `y = x · Wᵀ` with `W` row-major `[n, k]`, as checkpoints have it. gptjc and `gemm` read `x` and `W` as
//! they lie and pack inside; tract packs in a call of its own, which is left out of its time for `W`, since it packs
//! weights once, and in for `x`. gptjc's bf16 product, which neither of the others has, stands beside them. Shares are of
//! the largest peak of f32 multiply-adds that was measured between the rounds; figures are medians.
#![allow(clippy::print_stdout)] // a benchmark's report

use gemm::Parallelism;
use gptjc_compiler::single_op::{Product, ProductForm, gptj_products, product_plan};
use gptjc_graphs::plan::{Isa, Precision, Target};
use gptjc_runtime::bench::isolated::{Bound, Inputs, isolate};
use gptjc_runtime::bench::peak;
use gptjc_runtime::{isa, machine};
use std::error::Error;
use std::time::{Duration, Instant};
use tract_data::internal::{DatumType, Tensor};
use tract_linalg::MmmDispatch;
use tract_linalg::mmm::{AsInputValue, FusedSpec, MMMInputValue, MatMatMul};
use tract_linalg::multithread::{Executor, multithread_tract_scope};

/// Rounds, of which the median is taken.
const ROUNDS: usize = 5;
/// Tokens when none are given.
const TOKENS: [usize; 3] = [64, 512, 1024];
/// Time of a measurement of the peak.
const PEAK: Duration = Duration::from_millis(100);

type Run = Box<dyn FnMut() -> Result<(), Box<dyn Error>>>;

fn main() -> Result<(), Box<dyn Error>> {
    let threads = machine::host().cores.max(1) as usize;
    let mut tokens: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    if tokens.is_empty() {
        tokens.extend(TOKENS);
    }
    println!("GFLOP/s and share of the f32 peak, {threads} threads, median of {ROUNDS} rounds in turns");
    for (name, product) in tokens.iter().flat_map(|&tokens| gptj_products(tokens, Precision::F32)) {
        if product.form == ProductForm::Forward {
            compare(&name, product, threads)?;
        }
    }
    Ok(())
}

/// Runs all of them on one product in turns, and prints a line.
fn compare(name: &str, product: Product, threads: usize) -> Result<(), Box<dyn Error>> {
    let mut runs: Vec<(String, Run)> = Vec::new();
    for precision in [Precision::F32, Precision::Bf16] {
        for isa in Isa::ALL.into_iter().filter(|&isa| isa != Isa::Portable && isa::usable(isa)) {
            if let Some(run) = ours(Product { precision, ..product }, isa, threads) {
                runs.push((format!("{isa} {precision}"), run));
            }
        }
    }
    runs.push(("gemm".to_owned(), gemm_crate(product, threads)));
    runs.extend(tract(product, threads).map(|run| ("tract".to_owned(), run)));

    let mut speeds = vec![Vec::new(); runs.len()];
    let mut peak = 0.0f64;
    let best = peak::reference(Isa::Portable, false);
    for round in 0..=ROUNDS {
        for ((_, run), speeds) in runs.iter_mut().zip(&mut speeds) {
            let begun = Instant::now();
            run()?;
            let flops = 2.0 * product.m as f64 * product.n as f64 * product.k as f64;
            // The first round warms up.
            if round > 0 {
                speeds.push(flops / begun.elapsed().as_secs_f64() / 1e9);
            }
        }
        peak = best.map_or(peak, |one| peak.max(peak::measure(one, threads, PEAK) / 1e9));
    }
    let columns = runs.iter().zip(speeds).map(|((name, _), mut speeds)| {
        speeds.sort_by(f64::total_cmp);
        let median = speeds[speeds.len() / 2];
        format!("{name} {median:.0} ({:.2})", median / peak)
    });
    let columns: Vec<String> = columns.collect();
    println!("{:>4} x {:>5} x {:>5} {name:<21} {}", product.m, product.n, product.k, columns.join("  "));
    Ok(())
}

/// gptjc's kernel for `isa`; none if there is no variant of this product.
fn ours(product: Product, isa: Isa, threads: usize) -> Option<Run> {
    let target = Target { isa: isa.name().to_owned(), ..machine::host() };
    let plan = product_plan(product, &target).ok()?;
    let step = &plan.entries[0].steps[0];
    let mut inputs = Inputs::new(&[], 1);
    inputs.extents.slots = product.m;
    let mut bound = Bound::new(isolate(&plan, step, Some(isa))?, &inputs, threads).ok()?;
    Some(Box::new(move || Ok(bound.run()?)))
}

/// Numbers for an operand: `elements` of them, none far from 1.
fn numbers(elements: usize) -> Vec<f32> {
    (0..elements).map(|index| ((index * 7919) % 1009) as f32 / 504.5 - 1.0).collect()
}

fn gemm_crate(Product { m, n, k, .. }: Product, threads: usize) -> Run {
    let (x, weight, mut y) = (numbers(m * k), numbers(n * k), vec![0.0f32; m * n]);
    Box::new(move || {
        let (rows, columns) = (k as isize, 1);
        // SAFETY: `y` is `[m, n]`, `x` is `[m, k]` and `weight` is `[n, k]`, row-major and of these lengths; the weight is
        // read transposed, so a step along its rows is a column of the product's right side. Nothing else uses `y`.
        unsafe {
            let (left, right) = (x.as_ptr(), weight.as_ptr());
            gemm::gemm(
                m,
                n,
                k,
                y.as_mut_ptr(),
                1,
                n as isize,
                false,
                left,
                columns,
                rows,
                right,
                rows,
                columns,
                0.0f32,
                1.0f32,
                false,
                false,
                false,
                Parallelism::Rayon(threads),
            );
        }
        Ok(())
    })
}

/// The kernel that tract prefers for these sizes; none if it prefers none.
fn tract(Product { m, n, k, .. }: Product, threads: usize) -> Option<Run> {
    let kernel = MmmDispatch::native().preferred_kernel(DatumType::F32, Some(m), Some(k), Some(n))?;
    let x = Tensor::from_shape(&[m, k], &numbers(m * k)).ok()?;
    let weight = Tensor::from_shape(&[n, k], &numbers(n * k)).ok()?;
    let packed = kernel.packings().first()?.1.prepare_one(&weight, 1, 0).ok()?;
    let mut y = Tensor::zero::<f32>(&[m, n]).ok()?;
    let executor = Executor::multithread(threads);
    Some(Box::new(move || {
        let x = kernel.packings()[0].0.prepare_one(&x, 1, 0)?;
        multithread_tract_scope(executor.clone(), || run_tract(&*kernel, m, n, &*x, &*packed, &mut y))
    }))
}

fn run_tract(
    kernel: &dyn MatMatMul,
    m: usize,
    n: usize,
    x: &dyn MMMInputValue,
    weight: &dyn MMMInputValue,
    y: &mut Tensor,
) -> Result<(), Box<dyn Error>> {
    let (a, b) = (AsInputValue::Borrowed(x), AsInputValue::Borrowed(weight));
    // SAFETY: both operands were packed by this kernel's packing 0, for `m` and `n` rows of one `k`; `y` is `[m, n]` of f32,
    // of which the view is taken, and nothing else uses it.
    unsafe {
        let store = kernel.c_view(Some(0), Some(1)).wrap(&y.view_mut());
        kernel.run(m, n, &[FusedSpec::AddMatMul { a, b, packing: 0 }, FusedSpec::Store(store)])?;
    }
    Ok(())
}
