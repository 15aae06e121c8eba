//! The graphs of an entry point, before the passes and after each.

use crate::CompileError;
use crate::compile::{entry_graphs, passes};
use crate::pass_manager::{self, PassRecord};
use gptjc_graphs::graph::Graph;
use gptjc_graphs::plan::{EntryPoint, KernelId, Plan};

/// A graph on its way through the passes.
#[derive(Clone, Debug)]
pub struct Stage {
    /// What the pass that made it did; none for the graph as it was built.
    pub record: Option<PassRecord>,
    /// The graph.
    pub graph: Graph,
}

/// The graph of `entry` as it was built, and after each pass that is run on it; nothing if there is no such entry point.
/// A plan keeps its options and what was chosen, so the last graph is the one that was lowered.
///
/// # Errors
/// [`CompileError`] if the options cannot be compiled.
pub fn trace(plan: &Plan, entry: &str) -> Result<Vec<Stage>, CompileError> {
    let options = &plan.options;
    let graphs = entry_graphs(options, options.micro_batch)?;
    let Some(mut graph) = graphs.into_iter().find(|graph| graph.name == entry) else {
        return Ok(Vec::new());
    };
    let mut stages = vec![Stage { record: None, graph: graph.clone() }];
    let passes = passes(options, entry, plan.prediction.recomputed_blocks as usize)?;
    pass_manager::run_each(&passes, &mut graph, |record, graph| {
        stages.push(Stage { record: Some(record.clone()), graph: graph.clone() });
    })?;
    Ok(stages)
}

/// True if the steps of `entry` are the nodes of `graph`, one for one: false for a plan that another version compiled.
pub fn matches_plan(graph: &Graph, entry: &EntryPoint) -> bool {
    let same = |(node, step): (&str, &str)| KernelId::parse(step).is_some_and(|id| id.op == node);
    let nodes = graph.nodes().map(|(_, node)| node.op.name());
    graph.node_count() == entry.steps.len()
        && nodes.zip(entry.steps.iter().map(|step| step.kernel.as_str())).all(same)
}
