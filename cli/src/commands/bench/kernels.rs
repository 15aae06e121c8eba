//! `gptjc bench kernels`: every variant at the shapes of GPT-J-6B.

use super::{giga, threads};
use crate::console::Console;
use crate::error::CliError;
use crate::flags::KernelsFlags;
use gptjc_compiler::single_op::{Product, ProductForm, distinct_steps, gptj_products, product_plan};
use gptjc_compiler::work;
use gptjc_graphs::plan::{CompileOptions, Isa, KernelId, Plan, Precision, Step, Target};
use gptjc_runtime::bench::isolated::{Bound, Inputs, isolate};
use gptjc_runtime::bench::{kernel, peak};
use gptjc_runtime::executor::ExecutorError;
use gptjc_runtime::kernels::KernelError;
use gptjc_runtime::{isa, machine};
use serde::Serialize;
use std::time::Duration;

/// Tokens of the model whose other kernels are measured.
const WINDOW: u64 = 512;

/// A kernel's row. Sizes are 0, and the form empty, where there are none.
#[derive(Serialize)]
struct Row {
    name: String,
    variant: String,
    kernel: String,
    form: &'static str,
    m: usize,
    n: usize,
    k: usize,
    seconds: f64,
    gflops: f64,
    /// Operands and results, each once.
    gbs: f64,
    peak_gflops: Option<f64>,
    share_of_peak: Option<f64>,
    rounds: usize,
}

/// Runs the command.
pub(crate) fn run(flags: &KernelsFlags, console: Console) -> Result<(), CliError> {
    let mut rows = Vec::new();
    if !flags.measure.json {
        console.line(&heading());
    }
    for isa in variants(flags)? {
        let target = Target { isa: isa.name().to_owned(), ..machine::host() };
        let mut bench = Bench { flags, isa, target, console, rows: &mut rows };
        bench.products()?;
        bench.steps()?;
    }
    if rows.is_empty() {
        console.warn("no kernel was measured: no variant has one that the flags ask for");
    }
    if flags.measure.json { console.json(&rows) } else { Ok(()) }
}

/// The variants to measure, all of which this CPU can run.
fn variants(flags: &KernelsFlags) -> Result<Vec<Isa>, CliError> {
    let Some(asked) = &flags.variant else {
        let usable: Vec<Isa> = Isa::ALL.into_iter().filter(|&isa| isa::usable(isa)).collect();
        return Ok(if usable.len() > 1 { usable[1..].to_vec() } else { usable });
    };
    match asked.iter().find(|&&isa| !isa::usable(isa)) {
        Some(isa) => Err(CliError::Usage {
            what: format!("this CPU cannot run kernels for {isa}"),
            advice: "see `gptjc doctor` for those that it can".to_owned(),
        }),
        None => Ok(asked.clone()),
    }
}

/// The kernels of one variant.
struct Bench<'a> {
    flags: &'a KernelsFlags,
    isa: Isa,
    target: Target,
    console: Console,
    rows: &'a mut Vec<Row>,
}

impl Bench<'_> {
    /// Products with the weights of GPT-J-6B.
    fn products(&mut self) -> Result<(), CliError> {
        let precision = self.flags.precision;
        let inputs = Inputs::new(&[], 1);
        for &tokens in &self.flags.tokens {
            for (name, product) in gptj_products(tokens as usize, precision) {
                let plan =
                    product_plan(product, &self.target).map_err(|source| CliError::Compile(source.into()))?;
                let mut inputs = inputs.clone();
                inputs.extents.slots = product.m;
                self.measure(&name, Some(product), &plan, &plan.entries[0].steps[0], &inputs)?;
            }
        }
        Ok(())
    }

    /// The kernels of a training step of two layers of GPT-J-6B, each once.
    fn steps(&mut self) -> Result<(), CliError> {
        let options = self.options();
        let plan = gptjc_compiler::compile(&options).map_err(|source| CliError::Compile(source.into()))?;
        let windows = super::model::windows(1, WINDOW, WINDOW, 1.0, options.model.vocab_size);
        let inputs = Inputs::new(&windows, 1);
        for step in distinct_steps(&plan) {
            self.measure(&step.module, None, &plan, step, &inputs)?;
        }
        Ok(())
    }

    fn options(&self) -> CompileOptions {
        let model = super::model::config(2, 4096, 16, 50400);
        let mut options = crate::settings::defaults(model, self.target.clone(), None);
        options.precision = self.flags.precision.into();
        options.max_seq_length = WINDOW;
        (options.per_device_train_batch_size, options.step_windows) = (1, 1);
        // Nothing runs as a whole, so nothing has to fit.
        options.memory_budget = u64::MAX;
        if let Some(lora) = &mut options.lora {
            lora.targets = ["q_proj", "k_proj", "v_proj", "out_proj"].map(str::to_owned).to_vec();
        }
        options
    }

    /// Measures a step, if the variant has its kernel, and prints its row.
    fn measure(
        &mut self,
        name: &str,
        product: Option<Product>,
        plan: &Plan,
        step: &Step,
        inputs: &Inputs,
    ) -> Result<(), CliError> {
        let Some(id) = KernelId::parse(&step.kernel) else { return Ok(()) };
        let id = KernelId { isa: self.isa.name().to_owned(), ..id };
        let kernel_name = id.to_string();
        let wanted = |text: &String| name.contains(text.as_str()) || kernel_name.contains(text.as_str());
        if !self.flags.filter.as_ref().is_none_or(wanted) {
            return Ok(());
        }
        let Some(isolated) = isolate(plan, step, Some(self.isa)) else { return Ok(()) };
        let flops = flops(&isolated.plan, inputs);
        let threads = threads(&self.flags.measure);
        let mut bound = match Bound::new(isolated, inputs, threads) {
            Ok(bound) => bound,
            Err(error) if is_no_variant(&error) => return Ok(()),
            Err(error) => return Err(CliError::Bench(error.into())),
        };
        // Both factors of an unmixed product of bf16 are bf16.
        let bf16 = self.flags.precision == Precision::Bf16 && product.is_some();
        let reference = peak::reference(self.isa, bf16 || id.dtype.starts_with("bf16"));
        let limit = Duration::from_secs_f64(self.flags.limit);
        let rounds = self.flags.measure.rounds as usize;
        let speed = kernel::measure(&mut bound, flops, reference, threads, rounds, limit)
            .map_err(|source| CliError::Bench(source.into()))?;
        let row = Row {
            name: name.to_owned(),
            variant: self.isa.name().to_owned(),
            kernel: kernel_name,
            form: product.map_or("", |product| ProductForm::name(product.form)),
            m: product.map_or(0, |product| product.m),
            n: product.map_or(0, |product| product.n),
            k: product.map_or(0, |product| product.k),
            seconds: speed.seconds,
            gflops: flops as f64 / speed.seconds / 1e9,
            gbs: step.bytes as f64 / speed.seconds / 1e9,
            peak_gflops: speed.peak.map(|peak| peak / 1e9),
            share_of_peak: speed.share_of_peak,
            rounds: speed.rounds,
        };
        if !self.flags.measure.json {
            self.console.line(&row.line());
        }
        self.rows.push(row);
        Ok(())
    }
}

/// FLOPs of the only step at the extents of `inputs`.
fn flops(plan: &Plan, inputs: &Inputs) -> u64 {
    let segments: Vec<usize> = match inputs.integers.get("segment_table") {
        Some(table) => table.chunks_exact(2).map(|range| range[1] as usize).collect(),
        None => Vec::new(),
    };
    work::flops_at(plan, &plan.entries[0], &inputs.extents, &segments).iter().sum()
}

/// True if there is no such kernel, or none for these types.
fn is_no_variant(error: &ExecutorError) -> bool {
    let ExecutorError::Kernel { source, .. } = error else { return false };
    matches!(**source, KernelError::Unknown(_) | KernelError::Operands { .. })
}

fn heading() -> String {
    format!(
        "{:<34} {:<36} {:>4} {:>5} {:>6} {:>6} {:>10} {:>9} {:>7} {:>8} {:>6}",
        "name", "kernel", "form", "m", "n", "k", "ms", "GFLOP/s", "GB/s", "peak", "share"
    )
}

impl Row {
    fn line(&self) -> String {
        let peak = self.peak_gflops.map_or_else(String::new, |peak| format!("{peak:.1}"));
        let share = self.share_of_peak.map_or_else(String::new, |share| format!("{share:.3}"));
        format!(
            "{:<34} {:<36} {:>4} {:>5} {:>6} {:>6} {:>10.3} {:>9} {:>7.1} {:>8} {:>6}",
            self.name,
            self.kernel,
            self.form,
            self.m,
            self.n,
            self.k,
            self.seconds * 1e3,
            giga(self.gflops * 1e9),
            self.gbs,
            peak,
            share
        )
    }
}
