//! What a plan holds and why, as data: what `gptjc inspect` shows.
//!
//! [`report`] says everything there is to say about a plan: its options, memory, costs, passes, steps and, for a job of a
//! given size, hours. [`trace`] builds the graphs of an entry point again from the options that the plan keeps, before the
//! passes and after each.
//!
//! Does not: decide or print anything. The fields of a [`Report`] are the schema of `--format json`, which
//! `docs/inspect.md` documents: a field may be added, but none renamed or removed without a new [`SCHEMA`] number.

mod blocks;
mod costs;
mod entry;
mod facts;
mod graph;
mod job;
mod loads;
mod memory;
mod passes;
mod trace;

pub use blocks::{BlockKind, BlockStep};
pub use costs::{Cost, Group, GroupCost, KernelCost, Phase};
pub use entry::{EntryReport, StepRow};
pub use facts::{LoraFacts, ModelFacts, OptionFacts, PlanFacts, PredictionFacts, TargetFacts};
pub use graph::{GraphInput, GraphNode, GraphOutput, GraphRole, GraphView, TypedValue};
pub use job::{Job, JobCase, JobReport, step_seconds};
pub use loads::LoadRow;
pub use memory::{ArenaBuffer, BufferKind, MemoryFacts, MemoryKind, NamedBuffer};
pub use passes::{Missed, PassRow};
pub use trace::{Stage, matches_plan, trace};

use crate::CompileError;
use gptjc_graphs::plan::Plan;
use serde::Serialize;

/// Number of the schema of [`Report`].
pub const SCHEMA: u32 = 1;

/// How the planner's remarks begin.
const PLANNER: &str = "planner: ";

/// Everything there is to say about a plan.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The plan's file and what it was compiled for.
    pub plan: PlanFacts,
    /// Memory of the whole plan.
    pub memory: MemoryFacts,
    /// Entry points, in the plan's order.
    pub entries: Vec<EntryReport>,
    /// What is predicted of an optimizer step, with every extent at its bound; none for a plan that does not train.
    pub prediction: Option<PredictionFacts>,
    /// Work and time of a whole job; none for a plan that does not train.
    pub job: Option<JobReport>,
    /// What the planner considered and chose: micro-batch, recomputed blocks, weights that stay or are streamed.
    pub planner: Vec<String>,
    /// What the passes said when the plan was compiled.
    pub remarks: Vec<String>,
}

/// The report of `plan`: of all its entry points, or of the one called `entry`; the job is `job`.
///
/// # Errors
/// [`CompileError`] if the plan's options cannot be compiled, which is an error of the compiler that wrote it.
pub fn report(plan: &Plan, entry: Option<&str>, job: &Job) -> Result<Report, CompileError> {
    let wanted = plan.entries.iter().filter(|found| entry.is_none_or(|name| found.name == name));
    let entries = wanted.map(|found| entry::of(plan, found)).collect::<Result<_, _>>()?;
    let planner = |remark: &String| remark.strip_prefix(PLANNER).map(str::to_owned);
    Ok(Report {
        schema: SCHEMA,
        plan: facts::of(plan),
        memory: memory::of(plan),
        entries,
        prediction: facts::prediction(plan),
        job: job::of(plan, job),
        planner: plan.remarks.iter().filter_map(planner).collect(),
        remarks: plan.remarks.iter().filter(|remark| !remark.starts_with(PLANNER)).cloned().collect(),
    })
}

#[cfg(test)]
mod tests;
