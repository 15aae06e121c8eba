//! Memory of a plan, and when each temporary is in use.

use super::costs::{Phase, phase};
use crate::planner;
use gptjc_graphs::plan::{Buffer, EntryPoint, Memory, Plan};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Memory of the whole plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryFacts {
    /// Bytes that the run may use.
    pub budget_bytes: u64,
    /// False if that is the target's memory but for a reserve, because no budget was given.
    pub budget_given: bool,
    /// Bytes predicted at the peak.
    pub peak_bytes: u64,
    /// Bytes of weights that stay in memory.
    pub weight_bytes: u64,
    /// Bytes of them that are touched.
    pub touched_weight_bytes: u64,
    /// Bytes of their copies besides the first, for other NUMA nodes.
    pub weight_copy_bytes: u64,
    /// Bytes of the region that streamed weights are read into.
    pub stream_bytes: u64,
    /// Bytes of parameters, state, batch, control and results.
    pub persistent_bytes: u64,
    /// Bytes of the arena of temporaries.
    pub arena_bytes: u64,
    /// Bytes that the process needs besides.
    pub process_bytes: u64,
    /// Buffers by kind.
    pub kinds: Vec<MemoryKind>,
    /// Buffers that the outside knows by their names.
    pub buffers: Vec<NamedBuffer>,
}

/// All buffers of one kind of memory.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryKind {
    /// `weight`, `stream`, `parameter`, `state`, `batch`, `control`, `result` or `arena`.
    pub memory: &'static str,
    /// Number of buffers.
    pub buffers: usize,
    /// Sum of their bytes.
    pub bytes: u64,
}

/// A buffer with a name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NamedBuffer {
    /// Index of the buffer in the plan.
    pub buffer: u32,
    /// Name.
    pub name: String,
    /// Kind of memory.
    pub memory: &'static str,
    /// Dtype and shape.
    #[serde(rename = "type")]
    pub ty: String,
    /// Offset in its region; 0 for a weight.
    pub offset: u64,
    /// Bytes at the bounds.
    pub bytes: u64,
}

/// What a temporary is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BufferKind {
    /// Written in the forward pass and read in the backward pass.
    Saved,
    /// Used in the forward pass only.
    Forward,
    /// Used in the backward pass only.
    Backward,
    /// Used by one step alone.
    Workspace,
}

impl BufferKind {
    /// Every kind, in the order of legends.
    pub const ALL: [BufferKind; 4] = [Self::Saved, Self::Forward, Self::Backward, Self::Workspace];

    /// Name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Saved => "kept for the backward pass",
            Self::Forward => "forward temporary",
            Self::Backward => "gradient or backward temporary",
            Self::Workspace => "workspace of one step",
        }
    }
}

/// A temporary in the arena.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArenaBuffer {
    /// Index of the buffer in the plan.
    pub buffer: u32,
    /// The module that it belongs to.
    pub module: String,
    /// The kernel that writes it.
    pub kernel: String,
    /// Dtype and shape.
    #[serde(rename = "type")]
    pub ty: String,
    /// What it is for.
    pub kind: BufferKind,
    /// Offset in the arena.
    pub offset: u64,
    /// Bytes at the bounds.
    pub bytes: u64,
    /// Index of the step that writes it.
    pub first: usize,
    /// Index of the last step that reads it.
    pub last: usize,
}

const KINDS: [Memory; 8] = [
    Memory::Weight,
    Memory::Stream,
    Memory::Parameter,
    Memory::State,
    Memory::Batch,
    Memory::Control,
    Memory::Result,
    Memory::Arena,
];

fn type_text(buffer: &Buffer) -> String {
    buffer.ty().map_or_else(|error| error.to_string(), |ty| ty.to_string())
}

fn kind(plan: &Plan, memory: Memory) -> MemoryKind {
    let bytes = plan.buffers_in(memory).filter_map(Buffer::bytes);
    MemoryKind { memory: memory.name(), buffers: plan.buffers_in(memory).count(), bytes: bytes.sum() }
}

pub(super) fn of(plan: &Plan) -> MemoryFacts {
    let named = plan.buffers.iter().enumerate().filter(|(_, buffer)| buffer.is_named());
    MemoryFacts {
        budget_bytes: planner::budget(&plan.options),
        budget_given: plan.options.memory_budget != 0,
        peak_bytes: plan.prediction.peak_bytes,
        weight_bytes: plan.weight_bytes,
        touched_weight_bytes: plan.prediction.touched_weight_bytes,
        weight_copy_bytes: plan.prediction.weight_copy_bytes,
        stream_bytes: plan.stream_bytes,
        persistent_bytes: plan.persistent_bytes,
        arena_bytes: plan.arena_bytes,
        process_bytes: plan.prediction.process_bytes,
        kinds: KINDS.into_iter().map(|memory| kind(plan, memory)).collect(),
        buffers: named
            .map(|(index, buffer)| NamedBuffer {
                buffer: index as u32,
                name: buffer.name.clone(),
                memory: buffer.memory().name(),
                ty: type_text(buffer),
                offset: buffer.offset,
                bytes: buffer.bytes().unwrap_or(0),
            })
            .collect(),
    }
}

/// The temporaries of `entry`, in the order in which they are written.
pub(super) fn arena(plan: &Plan, entry: &EntryPoint, backward_from: Option<usize>) -> Vec<ArenaBuffer> {
    let mut rows: Vec<ArenaBuffer> = Vec::new();
    let mut row_of_buffer: BTreeMap<u32, usize> = BTreeMap::new();
    for (index, step) in entry.steps.iter().enumerate() {
        for id in &step.operands {
            if let Some(&row) = row_of_buffer.get(id) {
                rows[row].last = index;
            }
        }
        let written =
            step.results.iter().map(|id| (id, false)).chain(step.workspace.iter().map(|id| (id, true)));
        for (&id, is_workspace) in written {
            let Some(buffer) = plan.buffers.get(id as usize).filter(|b| b.memory() == Memory::Arena) else {
                continue;
            };
            row_of_buffer.insert(id, rows.len());
            rows.push(ArenaBuffer {
                buffer: id,
                module: buffer.name.clone(),
                kernel: step.kernel.clone(),
                ty: type_text(buffer),
                kind: if is_workspace { BufferKind::Workspace } else { BufferKind::Forward },
                offset: buffer.offset,
                bytes: buffer.bytes().unwrap_or(0),
                first: index,
                last: index,
            });
        }
    }
    for row in rows.iter_mut().filter(|row| row.kind != BufferKind::Workspace) {
        row.kind = match (phase(row.first, backward_from), phase(row.last, backward_from)) {
            (Phase::Forward, Phase::Backward) => BufferKind::Saved,
            (Phase::Forward, Phase::Forward) => BufferKind::Forward,
            (Phase::Backward, _) => BufferKind::Backward,
        };
    }
    rows
}

/// Bytes of the arena in use at each step of an entry point of `steps` steps.
pub(super) fn live(rows: &[ArenaBuffer], steps: usize) -> Vec<u64> {
    // A result that takes over the place of an operand counts once where both live.
    let taken: BTreeSet<(usize, u64)> = rows.iter().map(|row| (row.first, row.offset)).collect();
    let mut change = vec![0i64; steps + 1];
    for row in rows {
        let handed_over = row.last > row.first && taken.contains(&(row.last, row.offset));
        let end = if handed_over { row.last } else { row.last + 1 };
        change[row.first] += row.bytes as i64;
        change[end] -= row.bytes as i64;
    }
    let mut live = 0;
    let running = |delta: &i64| {
        live += delta;
        live.max(0) as u64
    };
    change[..steps].iter().map(running).collect()
}
