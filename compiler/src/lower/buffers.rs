//! Which buffer each value of a graph has.

use crate::CompileError;
use crate::memory::arena::Block;
use crate::memory::liveness::{LiveRange, last_reads, live_ranges};
use gptjc_graphs::entities::{Entity, NodeId, ValueId};
use gptjc_graphs::graph::{Graph, Node, Role};
use gptjc_graphs::plan::{Buffer, Memory};
use gptjc_graphs::shape::TensorType;
use std::collections::BTreeMap;

/// The buffers of all entry points.
#[derive(Default)]
pub(super) struct BufferTable {
    pub(super) buffers: Vec<Buffer>,
    by_name: BTreeMap<String, u32>,
}

impl BufferTable {
    fn push(&mut self, buffer: Buffer) -> u32 {
        self.buffers.push(buffer);
        self.buffers.len() as u32 - 1
    }

    /// The buffer that the outside calls `name`, made if it is new.
    fn named(
        &mut self,
        graph: &Graph,
        name: &str,
        memory: Memory,
        ty: &TensorType,
    ) -> Result<u32, CompileError> {
        let wanted = Buffer::new(name, memory, ty, 0);
        match self.by_name.get(name) {
            Some(&index) if self.buffers[index as usize] == wanted => Ok(index),
            Some(&index) => {
                let found = &self.buffers[index as usize];
                let reason = format!("`{name}` is {wanted:?} here and {found:?} in an earlier graph");
                Err(CompileError::Lower { graph: graph.name.clone(), reason })
            }
            None => {
                let index = self.push(wanted);
                self.by_name.insert(name.to_owned(), index);
                Ok(index)
            }
        }
    }
}

/// The buffers of one graph's values, and the blocks of its temporaries.
pub(super) struct Assignment {
    buffer_of_value: Vec<Option<u32>>,
    pub(super) blocks: Vec<Block>,
    pub(super) block_of_buffer: BTreeMap<u32, usize>,
    /// Workspace of each node that has some.
    workspaces: BTreeMap<NodeId, Vec<u32>>,
}

impl Assignment {
    pub(super) fn buffer(&self, value: ValueId) -> u32 {
        self.buffer_of_value[value.index()].unwrap_or(u32::MAX) // the plan's verifier refuses it
    }

    /// The buffers of a node's workspace.
    pub(super) fn workspace(&self, node: NodeId) -> &[u32] {
        self.workspaces.get(&node).map_or(&[], Vec::as_slice)
    }
}

const fn memory_of(role: Role) -> Memory {
    match role {
        Role::Weight => Memory::Weight,
        Role::Parameter => Memory::Parameter,
        Role::State => Memory::State,
        Role::Batch => Memory::Batch,
        Role::Control => Memory::Control,
    }
}

/// Assigns a buffer to each value of `graph`.
pub(super) fn assign(graph: &Graph, table: &mut BufferTable) -> Result<Assignment, CompileError> {
    let reads = last_reads(graph);
    let mut buffer_of_value: Vec<Option<u32>> = vec![None; graph.value_count()];
    for input in graph.inputs() {
        let is_output = graph.find_output(&input.name).is_some();
        if reads[input.value.index()].is_some() || is_output {
            let index = table.named(graph, &input.name, memory_of(input.role), graph.ty(input.value))?;
            buffer_of_value[input.value.index()] = Some(index);
        }
    }
    for output in graph.outputs() {
        let buffer = match graph.find_input(&output.name) {
            Some(input) => {
                check_update(graph, input.value, output.value, &reads)?;
                buffer_of_value[input.value.index()]
            }
            None => Some(table.named(graph, &output.name, Memory::Result, graph.ty(output.value))?),
        };
        if buffer_of_value[output.value.index()].is_some() {
            let reason = format!("output `{}` is an input, or is an output twice", output.name);
            return Err(CompileError::Lower { graph: graph.name.clone(), reason });
        }
        buffer_of_value[output.value.index()] = buffer;
    }
    let mut assignment = Assignment {
        buffer_of_value,
        blocks: Vec::new(),
        block_of_buffer: BTreeMap::new(),
        workspaces: BTreeMap::new(),
    };
    assign_temporaries(graph, table, &mut assignment);
    Ok(assignment)
}

/// Refuses the update of `old` by `new` if somebody would read the old content after it was written over.
fn check_update(
    graph: &Graph,
    old: ValueId,
    new: ValueId,
    reads: &[Option<usize>],
) -> Result<(), CompileError> {
    let Some(last_read) = reads[old.index()] else { return Ok(()) };
    let writer = graph.nodes().enumerate().find_map(|(step, (_, node))| {
        let result = node.results.iter().position(|&result| result == new)?;
        Some((step, node, result))
    });
    let safe = writer.is_some_and(|(step, node, result)| {
        let in_place = || {
            let mut pairs = node.op.in_place().iter();
            pairs.any(|&(r, operand)| r == result && node.operands.get(operand) == Some(&old))
        };
        let reads_once = node.operands.iter().filter(|&&operand| operand == old).count() <= 1;
        last_read < step || (last_read == step && reads_once && in_place())
    });
    if safe {
        return Ok(());
    }
    let reason = format!("{new} replaces {old}, whose old content is read at step {last_read} or later");
    Err(CompileError::Lower { graph: graph.name.clone(), reason })
}

/// Gives each temporary a block: that of an operand that it may be written over, or a new one.
fn assign_temporaries(graph: &Graph, table: &mut BufferTable, assignment: &mut Assignment) {
    let ranges = live_ranges(graph);
    for (step, (id, node)) in graph.nodes().enumerate() {
        for ty in node.op.workspace(&graph.operand_types(node), &graph.result_types(node)) {
            let buffer = table.push(Buffer::new(&node.module, Memory::Arena, &ty, 0));
            let range = LiveRange { first: step, last: step };
            assignment.blocks.push(Block { bytes: ty.bytes() as u64, range });
            assignment.block_of_buffer.insert(buffer, assignment.blocks.len() - 1);
            assignment.workspaces.entry(id).or_default().push(buffer);
        }
        let mut taken = Vec::new(); // blocks that a result of this node already took over
        for (index, &result) in node.results.iter().enumerate() {
            let Some(range) = ranges[result.index()] else { continue };
            if assignment.buffer_of_value[result.index()].is_some() {
                continue;
            }
            let ty = graph.ty(result);
            let buffer = table.push(Buffer::new(&node.module, Memory::Arena, ty, 0));
            assignment.buffer_of_value[result.index()] = Some(buffer);
            let shared = operand_block(graph, node, index, step, assignment, &ranges)
                .filter(|block| !taken.contains(block));
            let block = match shared {
                Some(block) => {
                    taken.push(block);
                    assignment.blocks[block].range.last = range.last;
                    block
                }
                None => {
                    assignment.blocks.push(Block { bytes: ty.bytes() as u64, range });
                    assignment.blocks.len() - 1
                }
            };
            assignment.block_of_buffer.insert(buffer, block);
        }
    }
}

/// The block of an operand that result `index` may be written over: a temporary of the same size that dies here.
fn operand_block(
    graph: &Graph,
    node: &Node,
    index: usize,
    step: usize,
    assignment: &Assignment,
    ranges: &[Option<LiveRange>],
) -> Option<usize> {
    let result_bytes = graph.ty(node.results[index]).bytes();
    node.op.in_place().iter().filter(|&&(result, _)| result == index).find_map(|&(_, operand)| {
        let value = *node.operands.get(operand)?;
        let dies_here = ranges[value.index()]?.last == step;
        let read_once = node.operands.iter().filter(|&&other| other == value).count() == 1;
        let same_size = graph.ty(value).bytes() == result_bytes;
        let block = assignment.block_of_buffer.get(&assignment.buffer(value))?;
        (dies_here && read_once && same_size).then_some(*block)
    })
}
