//! Options in, plan out.

use crate::cost::CostModel;
use crate::lower::lower;
use crate::memory::residency::{self, Weights};
use crate::memory::stream::simulate;
use crate::pass_manager::Pass;
use crate::planner::{Choice, Fused, Planner};
use crate::{CompileError, pass_manager, pipeline};
use gptjc_graphs::graph::Graph;
use gptjc_graphs::models::gptj::{decode_graphs, training_program};
use gptjc_graphs::plan::{CompileOptions, Plan, Prediction, verify};
use std::fmt;

/// Bytes that a plan needs while it runs, at the peak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Frozen weights that stay in memory, in the type that the kernels read, as far as a micro-batch touches them.
    pub weights: u64,
    /// Their copies besides the first, for other NUMA nodes.
    pub copies: u64,
    /// Frozen weights that are there for a while.
    pub stream: u64,
    /// Parameters, state, batch, control and results.
    pub persistent: u64,
    /// Temporaries.
    pub arena: u64,
    /// The process besides: program, stacks, packing buffers of kernels, data.
    pub process: u64,
}

impl MemoryNeed {
    /// What `plan` needs.
    pub fn of(plan: &Plan) -> Self {
        Self {
            weights: plan.prediction.touched_weight_bytes,
            copies: plan.prediction.weight_copy_bytes,
            stream: plan.stream_bytes,
            persistent: plan.persistent_bytes,
            arena: plan.arena_bytes,
            process: plan.prediction.process_bytes,
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.copies + self.stream + self.persistent + self.arena + self.process
    }
}

impl fmt::Display for MemoryNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { weights, copies, stream, persistent, arena, process } = self;
        write!(f, "weights take {weights} bytes, ")?;
        if *copies > 0 {
            write!(f, "their copies {copies}, ")?;
        }
        write!(
            f,
            "streamed ones {stream}, parameters and state {persistent}, temporaries \
             {arena}, the process {process}"
        )
    }
}

/// Compiles `options`. Micro-batch (unless `options.micro_batch` says it), number of recomputed blocks and weight
/// residency are what makes an optimizer step fastest, by the cost model, within the memory budget.
///
/// # Errors
/// [`CompileError`] if an option is out of its range or the budget cannot be met.
pub fn compile(options: &CompileOptions) -> Result<Plan, CompileError> {
    check(options)?;
    let mut planner = Planner::new(options);
    for micro_batch in micro_batches(options) {
        planner.consider(Fused::build(options, micro_batch)?)?;
        if planner.is_settled() {
            break;
        }
    }
    let (fused, choice, remarks) = planner.choose()?;
    finish(options, fused, &choice, remarks)
}

/// The micro-batches that are considered, the largest first: that of the options, or powers of two up to the batch.
fn micro_batches(options: &CompileOptions) -> Vec<u64> {
    if options.decode_sequences > 0 {
        return vec![options.decode_sequences];
    }
    match options.micro_batch {
        0 => {
            let largest = 1 << options.per_device_train_batch_size.ilog2();
            std::iter::successors(Some(largest), |&windows| (windows > 1).then_some(windows / 2)).collect()
        }
        windows => vec![windows],
    }
}

/// The passes that run over the graph of the entry point `entry`, with `blocks` blocks recomputed.
///
/// # Errors
/// [`CompileError::Option`] if the target has kernels of no known instruction set.
pub(crate) fn passes(
    options: &CompileOptions,
    entry: &str,
    blocks: usize,
) -> Result<Vec<Box<dyn Pass>>, CompileError> {
    let mut passes = fusions(options)?;
    if entry == Fused::TRAINING {
        passes.extend(pipeline::memory_passes(blocks));
    }
    Ok(passes)
}

/// The passes that run over every graph.
pub(crate) fn fusions(options: &CompileOptions) -> Result<Vec<Box<dyn Pass>>, CompileError> {
    let isa = options.target.isa.parse().map_err(|expected| CompileError::Option {
        option: "target isa",
        expected,
        found: options.target.isa.clone(),
    })?;
    Ok(pipeline::passes(options.precision(), isa))
}

/// The graphs of all entry points for micro-batches of `micro_batch` windows, as they are built.
pub(crate) fn entry_graphs(options: &CompileOptions, micro_batch: u64) -> Result<Vec<Graph>, CompileError> {
    if options.decode_sequences > 0 {
        Ok(decode_graphs(options)?)
    } else {
        Ok(training_program(options, micro_batch as usize)?.into_graphs())
    }
}

/// Makes the plan that was chosen.
fn finish(
    options: &CompileOptions,
    fused: Fused,
    choice: &Choice,
    planned: Vec<String>,
) -> Result<Plan, CompileError> {
    let mut options = options.clone();
    if options.decode_sequences == 0 {
        options.micro_batch = fused.micro_batch;
    }
    let work = fused.flops();
    let (mut graphs, mut remarks) = (fused.graphs, fused.remarks);
    if let Some(graph) = graphs.iter_mut().find(|graph| graph.name == Fused::TRAINING) {
        remarks.extend(pass_manager::run(&pipeline::memory_passes(choice.blocks), graph)?);
    }
    let mut plan = lower(&graphs, &options)?;
    if !residency::apply(&mut plan, &graphs, &fused.weights, &choice.residency) {
        let reason = "a step reads more streamed units than there are slots".to_owned();
        return Err(CompileError::Lower { graph: Fused::TRAINING.to_owned(), reason });
    }
    if choice.need.copies > 0 {
        residency::copy(&mut plan, &fused.weights);
    }
    remarks.extend(planned);
    plan.remarks = remarks;
    let cost = CostModel::new(&options.target);
    predict_entries(&mut plan, &graphs, &fused.weights, choice, &cost);
    plan.prediction = predict(&plan, &options, choice, work);
    verify::verify(&plan)?;
    Ok(plan)
}

/// Says how long each entry point takes.
fn predict_entries(plan: &mut Plan, graphs: &[Graph], weights: &Weights, choice: &Choice, cost: &CostModel) {
    for (graph, entry) in graphs.iter().zip(&mut plan.entries) {
        let steps: Vec<f64> = entry.steps.iter().map(|step| step.seconds).collect();
        let reads = weights.reads(graph, &choice.residency.streamed);
        let stays = weights.stays(&reads, &choice.residency).unwrap_or_default();
        (entry.seconds, _) = simulate(&steps, &stays, &weights.tensors, cost.target().disk_bandwidth);
    }
}

/// What an optimizer step takes.
fn predict(plan: &Plan, options: &CompileOptions, choice: &Choice, work: u64) -> Prediction {
    let mut prediction = Prediction {
        peak_bytes: choice.need.total(),
        touched_weight_bytes: choice.need.weights,
        process_bytes: choice.need.process,
        weight_copy_bytes: choice.need.copies,
        recomputed_blocks: choice.blocks as u64,
        ..Prediction::default()
    };
    if let (Some(micro_step), Some(apply)) = (plan.entry(Fused::TRAINING), plan.entry("apply")) {
        let runs = options.step_windows.div_ceil(options.micro_batch.max(1));
        prediction.micro_steps = runs;
        prediction.seconds = choice.seconds;
        prediction.wait_seconds = runs as f64 * (micro_step.seconds - micro_step.step_seconds()).max(0.0);
        prediction.read_bytes = runs * micro_step.read_bytes;
        prediction.flops = runs * micro_step.flops() + apply.flops();
        prediction.recomputed_flops = runs * micro_step.flops().saturating_sub(work);
        prediction.moved_bytes = runs * micro_step.bytes() + apply.bytes();
    }
    prediction
}

fn check(options: &CompileOptions) -> Result<(), CompileError> {
    let sizes = [
        ("per_device_train_batch_size", options.per_device_train_batch_size),
        ("step_windows", options.step_windows),
        ("max_seq_length", options.max_seq_length),
    ];
    for (option, value) in sizes {
        if !(1..=1 << 24).contains(&value) {
            let (expected, found) = (format!("a number from 1 to {}", 1 << 24), value.to_string());
            return Err(CompileError::Option { option, expected, found });
        }
    }
    // Bits do not depend on the micro-batch, but windows that fit no step are memory for nothing.
    if options.micro_batch > options.step_windows {
        let expected = format!("at most the {} windows of an optimizer step", options.step_windows);
        let found = options.micro_batch.to_string();
        return Err(CompileError::Option { option: "micro_batch", expected, found });
    }
    Ok(())
}
