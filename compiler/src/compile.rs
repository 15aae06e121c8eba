//! Options in, plan out.

use crate::lower::lower;
use crate::pass_manager::Pass;
use crate::{CompileError, pass_manager, pipeline};
use gptjc_graphs::graph::Graph;
use gptjc_graphs::models::gptj::{decode_graphs, training_program};
use gptjc_graphs::plan::{CompileOptions, Plan, verify};

/// Bytes that a plan needs while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Frozen weights that stay in memory, in the type that the kernels read.
    pub weights: u64,
    /// Frozen weights that are there for a while.
    pub stream: u64,
    /// Parameters, state, batch, control and results.
    pub persistent: u64,
    /// Temporaries.
    pub arena: u64,
}

impl MemoryNeed {
    /// What `plan` needs.
    pub fn of(plan: &Plan) -> Self {
        Self {
            weights: plan.weight_bytes,
            stream: plan.stream_bytes,
            persistent: plan.persistent_bytes,
            arena: plan.arena_bytes,
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.stream + self.persistent + self.arena
    }
}

/// Compiles `options`: with micro-batches of `options.micro_batch` windows, or, if that is 0, with the largest power of
/// two that is at most the batch and fits the memory budget.
///
/// # Errors
/// [`CompileError`] if an option is out of its range or the budget cannot be met.
pub fn compile(options: &CompileOptions) -> Result<Plan, CompileError> {
    check(options)?;
    if options.decode_sequences > 0 {
        let plan = compile_graphs(entry_graphs(options)?, options)?;
        return within_budget(plan, options, options.decode_sequences);
    }
    let mut candidates: Vec<u64> = match options.micro_batch {
        0 => {
            let largest = 1 << options.per_device_train_batch_size.ilog2();
            std::iter::successors(Some(largest), |&windows| (windows > 1).then_some(windows / 2)).collect()
        }
        windows => vec![windows],
    };
    loop {
        let micro_batch = candidates.remove(0);
        let plan = compile_with_micro_batch(options, micro_batch as usize)?;
        match within_budget(plan, options, micro_batch) {
            Err(CompileError::Budget { .. }) if !candidates.is_empty() => {}
            outcome => return outcome,
        }
    }
}

/// The plan, if it fits the memory budget.
fn within_budget(plan: Plan, options: &CompileOptions, micro_batch: u64) -> Result<Plan, CompileError> {
    let budget = match options.memory_budget {
        0 => options.target.memory_bytes,
        bytes => bytes,
    };
    let need = MemoryNeed::of(&plan);
    if need.total() <= budget {
        return Ok(plan);
    }
    Err(CompileError::Budget {
        budget,
        micro_batch,
        max_seq_length: options.max_seq_length,
        weights: need.weights,
        persistent: need.persistent,
        arena: need.arena,
        needed: need.total(),
    })
}

/// Compiles `options` for micro-batches of at most `micro_batch` windows, whatever memory that takes.
///
/// # Errors
/// [`CompileError`] if an option is out of its range.
fn compile_with_micro_batch(options: &CompileOptions, micro_batch: usize) -> Result<Plan, CompileError> {
    let mut options = options.clone();
    options.micro_batch = micro_batch as u64;
    compile_graphs(entry_graphs(&options)?, &options)
}

/// The graphs of all entry points, before the passes, for options that say how many windows a micro-batch has.
///
/// # Errors
/// [`CompileError`] if an option is out of its range.
pub(crate) fn entry_graphs(options: &CompileOptions) -> Result<Vec<Graph>, CompileError> {
    if options.decode_sequences > 0 {
        return Ok(decode_graphs(options)?);
    }
    Ok(training_program(options, options.micro_batch as usize)?.into_graphs())
}

/// The passes that change what is computed, for `options`.
pub(crate) fn passes(options: &CompileOptions) -> Result<Vec<Box<dyn Pass>>, CompileError> {
    let isa = options.target.isa.parse().map_err(|expected| CompileError::Option {
        option: "target isa",
        expected,
        found: options.target.isa.clone(),
    })?;
    Ok(pipeline::passes(options.precision(), isa))
}

/// Runs the passes over the graphs of all entry points and lowers them.
fn compile_graphs(mut graphs: Vec<Graph>, options: &CompileOptions) -> Result<Plan, CompileError> {
    let passes = passes(options)?;
    let mut remarks = Vec::new();
    for graph in &mut graphs {
        remarks.extend(pass_manager::run(&passes, graph)?);
    }
    let mut plan = lower(&graphs, options)?;
    plan.remarks = remarks;
    verify::verify(&plan)?;
    Ok(plan)
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
