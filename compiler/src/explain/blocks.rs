//! The steps of the model's blocks, each kind of block once: most of a GPT's blocks are computed alike.

use super::costs::{Cost, Group, Phase, phase};
use gptjc_graphs::plan::{EntryPoint, Plan, Step};
use serde::Serialize;
use std::collections::BTreeMap;

/// Blocks (or other parts of the model) that are computed by the same steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BlockKind {
    /// The parts: blocks by their number, or `embedding`, `head`, `other`.
    pub groups: Vec<Group>,
    /// The steps of the first of them.
    pub steps: Vec<BlockStep>,
}

/// A step of a block.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BlockStep {
    /// Index of the step in the entry point.
    pub index: usize,
    /// Forward or backward.
    pub phase: Phase,
    /// The kernel.
    pub kernel: String,
    /// The module inside the block (`attn.q_proj`); empty for the block itself.
    pub part: String,
    /// Types of the operands.
    pub operands: Vec<String>,
    /// Types of the results.
    pub results: Vec<String>,
    /// What it costs.
    #[serde(flatten)]
    pub cost: Cost,
}

impl BlockStep {
    fn of(plan: &Plan, index: usize, step: &Step, phase: Phase) -> Self {
        Self {
            index,
            phase,
            kernel: step.kernel.clone(),
            part: part(&step.module).to_owned(),
            operands: types(plan, &step.operands),
            results: types(plan, &step.results),
            cost: Cost::of(step),
        }
    }

    /// True if the steps are alike but for their place.
    fn is_like(&self, other: &Self) -> bool {
        self.phase == other.phase
            && self.kernel == other.kernel
            && self.part == other.part
            && self.operands == other.operands
            && self.results == other.results
    }
}

/// The module inside its block.
fn part(module: &str) -> &str {
    match module.split_once("transformer.h.") {
        Some((_, rest)) => rest.split_once('.').map_or("", |(_, part)| part),
        None => module,
    }
}

/// The types of some buffers.
pub(super) fn types(plan: &Plan, buffers: &[u32]) -> Vec<String> {
    let ty = |&id: &u32| match plan.buffers.get(id as usize).map(|buffer| buffer.ty()) {
        Some(Ok(ty)) => ty.to_string(),
        Some(Err(error)) => error.to_string(),
        None => "?".to_owned(),
    };
    buffers.iter().map(ty).collect()
}

/// The kinds of blocks, in the order of their first.
pub(super) fn of(plan: &Plan, entry: &EntryPoint, backward_from: Option<usize>) -> Vec<BlockKind> {
    let mut groups: BTreeMap<Group, Vec<BlockStep>> = BTreeMap::new();
    for (index, step) in entry.steps.iter().enumerate() {
        let row = BlockStep::of(plan, index, step, phase(index, backward_from));
        groups.entry(Group::of(&step.module)).or_default().push(row);
    }
    let mut kinds: Vec<BlockKind> = Vec::new();
    for (group, steps) in groups {
        let alike = |kind: &&mut BlockKind| {
            kind.steps.len() == steps.len() && kind.steps.iter().zip(&steps).all(|(a, b)| a.is_like(b))
        };
        match kinds.iter_mut().find(alike) {
            Some(kind) => kind.groups.push(group),
            None => kinds.push(BlockKind { groups: vec![group], steps }),
        }
    }
    kinds
}
