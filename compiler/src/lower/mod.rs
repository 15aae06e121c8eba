//! From graphs to a plan: every value gets a buffer, every node becomes a step.
//!
//! Inputs of one name in several graphs are one buffer. A result that is the new content of a parameter or of state is
//! written where the old content lies, if the op may do so and nobody reads the old content later; anything else would
//! be a wrong graph. Other outputs get buffers of their own, temporaries an offset in the arena.

mod buffers;
mod partition;
mod variants;

use crate::CompileError;
use crate::cost::{self, CostModel};
use crate::memory::arena;
use buffers::{Assignment, BufferTable};
use gptjc_graphs::entities::NodeId;
use gptjc_graphs::graph::{Graph, Node};
use gptjc_graphs::plan::{
    ALIGNMENT, CompileOptions, EntryPoint, FORMAT_VERSION, Isa, KernelId, Memory, Plan, Step, Target,
};

/// Lowers the graphs of all entry points.
///
/// # Errors
/// [`CompileError::Lower`] if a graph cannot be lowered.
pub fn lower(graphs: &[Graph], options: &CompileOptions) -> Result<Plan, CompileError> {
    let mut table = BufferTable::default();
    let mut entries = Vec::new();
    let mut arena_bytes = 0;
    let cost = CostModel::new(&options.target);
    for graph in graphs {
        let assignment = buffers::assign(graph, &mut table)?;
        let layout = arena::pack(&assignment.blocks);
        for (&buffer, &block) in &assignment.block_of_buffer {
            table.buffers[buffer as usize].offset = layout.offsets[block];
        }
        arena_bytes = arena_bytes.max(layout.bytes);
        entries.push(entry(graph, &assignment, &options.target, &cost));
    }
    let persistent_bytes = place_persistent(&mut table);
    let weight_bytes = |table: &BufferTable| {
        let weights = table.buffers.iter().filter(|buffer| buffer.memory() == Memory::Weight);
        weights.filter_map(|buffer| buffer.bytes()).sum()
    };
    Ok(Plan {
        format_version: FORMAT_VERSION,
        compiler_version: env!("CARGO_PKG_VERSION").to_owned(),
        options: options.clone(),
        weight_bytes: weight_bytes(&table),
        buffers: table.buffers,
        entries,
        arena_bytes,
        persistent_bytes,
        ..Plan::default()
    })
}

/// Gives every persistent buffer its own place, in the order of declaration.
fn place_persistent(table: &mut BufferTable) -> u64 {
    let mut offset = 0;
    for buffer in table.buffers.iter_mut().filter(|buffer| buffer.memory().is_persistent()) {
        buffer.offset = offset;
        offset += buffer.bytes().unwrap_or(0).next_multiple_of(ALIGNMENT);
    }
    offset
}

/// Bytes of an arena for the temporaries of one graph.
///
/// # Errors
/// [`CompileError::Lower`] if the graph cannot be lowered.
pub(crate) fn arena_bytes(graph: &Graph) -> Result<u64, CompileError> {
    let assignment = buffers::assign(graph, &mut BufferTable::default())?;
    Ok(arena::pack(&assignment.blocks).bytes)
}

fn entry(graph: &Graph, assignment: &Assignment, target: &Target, cost: &CostModel) -> EntryPoint {
    let steps = graph.nodes().map(|(id, node)| step(graph, id, node, assignment, target, cost)).collect();
    EntryPoint {
        name: graph.name.clone(),
        steps,
        live_bytes: arena::live_bytes(&assignment.blocks),
        ..EntryPoint::default()
    }
}

fn step(
    graph: &Graph,
    id: NodeId,
    node: &Node,
    assignment: &Assignment,
    target: &Target,
    cost: &CostModel,
) -> Step {
    // A target of another name was refused before any pass.
    let isa = variants::choose(graph, node, target.isa.parse().unwrap_or(Isa::Portable));
    Step {
        kernel: kernel_id(graph, node, isa).to_string(),
        attributes: Step::encode_attributes(&node.op.attributes()),
        operands: node.operands.iter().map(|&value| assignment.buffer(value)).collect(),
        results: node.results.iter().map(|&value| assignment.buffer(value)).collect(),
        partition: partition::of(graph, node, isa, target),
        module: node.module.clone(),
        flops: graph.node_flops(node),
        bytes: cost::bytes(graph, node),
        workspace: assignment.workspace(id).to_vec(),
        seconds: cost.seconds(graph, node),
    }
}

/// The kernel of a node: its op, the floating-point types that it reads, and its instruction set.
fn kernel_id(graph: &Graph, node: &Node, isa: Isa) -> KernelId {
    let mut dtypes: Vec<&str> = Vec::new();
    for dtype in node.operands.iter().map(|&operand| graph.ty(operand).dtype) {
        if dtype.is_float() && !dtypes.contains(&dtype.name()) {
            dtypes.push(dtype.name());
        }
    }
    let dtype = if dtypes.is_empty() { "f32".to_owned() } else { dtypes.join("_") };
    KernelId { op: node.op.name().to_owned(), dtype, isa: isa.name().to_owned() }
}
