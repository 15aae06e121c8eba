//! One entry point: its costs, its steps, its memory, its passes.

use super::blocks::{self, BlockKind};
use super::costs::{self, Cost, GroupCost, KernelCost, Phase};
use super::graph::GraphView;
use super::loads::{self, LoadRow};
use super::memory::{self, ArenaBuffer};
use super::passes::{self, PassRow};
use super::trace::{matches_plan, trace};
use crate::CompileError;
use gptjc_graphs::plan::{EntryPoint, Plan};
use serde::Serialize;

/// What there is to say about an entry point.
#[derive(Clone, Debug, Serialize)]
pub struct EntryReport {
    /// `setup`, `micro_step`, `apply`, `forward` or `decode`.
    pub name: String,
    /// What its steps cost together.
    #[serde(flatten)]
    pub cost: Cost,
    /// Predicted seconds of a run, waiting for loads included.
    pub run_seconds: f64,
    /// Bytes that a run reads from the checkpoint.
    pub read_bytes: u64,
    /// Index of the first step of the backward pass, if there is one.
    pub backward_from: Option<usize>,
    /// The largest sum of bytes of temporaries that live at one time.
    pub live_bytes: u64,
    /// Costs by kernel, the longest first.
    pub kernels: Vec<KernelCost>,
    /// Costs by part of the model, in the model's order.
    pub groups: Vec<GroupCost>,
    /// Steps of each kind of block.
    pub blocks: Vec<BlockKind>,
    /// Every step.
    pub steps: Vec<StepRow>,
    /// Temporaries in the arena.
    pub arena: Vec<ArenaBuffer>,
    /// Bytes of the arena in use at each step.
    pub live: Vec<u64>,
    /// Weights that are streamed, in the order of reading.
    pub loads: Vec<LoadRow>,
    /// What the passes did to the graph.
    pub passes: Vec<PassRow>,
    /// False if this version of the compiler does not make these steps from the plan's options any more: then `passes`,
    /// `training_graph` and `fused_graph` are of this version, not of the plan.
    pub graphs_match: bool,
    /// The graph as it was built.
    pub training_graph: GraphView,
    /// The graph after the passes.
    pub fused_graph: GraphView,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepRow {
    /// The kernel.
    pub kernel: String,
    /// The module of the model.
    pub module: String,
    /// Forward or backward.
    pub phase: Phase,
    /// The op's attributes.
    pub attributes: String,
    /// Buffers read, by index.
    pub operands: Vec<u32>,
    /// Buffers written, by index.
    pub results: Vec<u32>,
    /// Temporaries of the step alone, by index.
    pub workspace: Vec<u32>,
    /// Rows and columns of a tile; 0 columns are all.
    pub tile: (u32, u32),
    /// What it costs.
    #[serde(flatten)]
    pub cost: Cost,
}

fn steps(entry: &EntryPoint, backward_from: Option<usize>) -> Vec<StepRow> {
    let row = |(index, step): (usize, &gptjc_graphs::plan::Step)| StepRow {
        kernel: step.kernel.clone(),
        module: step.module.clone(),
        phase: costs::phase(index, backward_from),
        attributes: step.attributes().to_string(),
        operands: step.operands.clone(),
        results: step.results.clone(),
        workspace: step.workspace.clone(),
        tile: (step.partition.rows, step.partition.columns),
        cost: Cost::of(step),
    };
    entry.steps.iter().enumerate().map(row).collect()
}

pub(super) fn of(plan: &Plan, entry: &EntryPoint) -> Result<EntryReport, CompileError> {
    let ops: Vec<&str> = entry.steps.iter().map(|step| costs::op_name(&step.kernel)).collect();
    let backward_from = costs::backward_from(&ops);
    let arena = memory::arena(plan, entry, backward_from);
    let stages = trace(plan, &entry.name)?;
    let view =
        |stage: Option<&super::Stage>| stage.map_or_else(GraphView::default, |s| GraphView::of(&s.graph));
    Ok(EntryReport {
        name: entry.name.clone(),
        cost: Cost::sum(&entry.steps),
        run_seconds: entry.seconds,
        read_bytes: entry.read_bytes,
        backward_from,
        live_bytes: entry.live_bytes,
        kernels: costs::by_kernel(entry),
        groups: costs::by_group(entry, backward_from),
        blocks: blocks::of(plan, entry, backward_from),
        steps: steps(entry, backward_from),
        live: memory::live(&arena, entry.steps.len()),
        arena,
        loads: loads::of(plan, entry),
        passes: passes::of(&stages),
        graphs_match: stages.last().is_some_and(|stage| matches_plan(&stage.graph, entry)),
        training_graph: view(stages.first()),
        fused_graph: view(stages.last()),
    })
}
