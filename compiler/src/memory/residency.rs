//! Which frozen weights stay in memory and which are streamed.
//!
//! Matrices are streamed by *unit*: those of a block together, lm_head by itself. Vectors and the embedding table always
//! stay: vectors are small, and of the table a micro-batch touches a few rows, which the system maps and drops by the
//! page. For a number of bytes that weights may take, `options` lists what can be done: for each number of slots of the
//! stream region, as many units as fit stay, either spread evenly, so that the disk reads on while they are at work, or
//! the lowest.

use super::stream::{Read, Stay, Tensor, lay_out, plan_stays};
use crate::remat::block_of;
use gptjc_graphs::graph::{Definition, Graph, Node, Role};
use gptjc_graphs::ops::Op;
use gptjc_graphs::plan::{Buffer, EntryPoint, Memory, Plan};
use std::collections::BTreeMap;

/// Most slots of the stream region that are tried: two hide reading behind work, more smooth it.
const MOST_SLOTS: usize = 4;

/// The frozen weights of all entry points.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    /// Those that may be streamed, in the order of their first use.
    pub tensors: Vec<Tensor>,
    /// Bytes of each unit in a slot, in the order of their first use.
    pub units: Vec<u64>,
    /// Bytes of the weights that always stay, of the embedding table only what a micro-batch touches.
    pub always: u64,
    names: BTreeMap<String, usize>,
}

/// What becomes of the units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Residency {
    /// The units that are streamed, by index.
    pub streamed: Vec<bool>,
    /// Slots of the stream region.
    pub slots: usize,
    /// Bytes of a slot.
    pub slot_bytes: u64,
}

impl Residency {
    /// Bytes of the stream region.
    pub fn stream_bytes(&self) -> u64 {
        self.slots as u64 * self.slot_bytes
    }

    /// Units that are streamed.
    pub fn streamed_count(&self) -> usize {
        self.streamed.iter().filter(|&&streamed| streamed).count()
    }

    /// Bytes of units that stay.
    pub fn resident_bytes(&self, weights: &Weights) -> u64 {
        let stay = weights.units.iter().zip(&self.streamed).filter(|(_, streamed)| !**streamed);
        stay.map(|(bytes, _)| bytes).sum()
    }

    /// Bytes of units that stay and of the stream region.
    pub fn bytes(&self, weights: &Weights) -> u64 {
        self.stream_bytes() + self.resident_bytes(weights)
    }
}

/// The frozen matrix that operand `index` of a node is, if it may be streamed: its name.
fn streamable<'g>(graph: &'g Graph, node: &Node, index: usize) -> Option<&'g str> {
    let value = node.operands[index];
    let Definition::Input(input) = graph.value(value).definition else { return None };
    let input = &graph.inputs()[input];
    let is_table = matches!((&node.op, index), (Op::Embedding(_), 0));
    (input.role == Role::Weight && graph.ty(value).rank() == 2 && !is_table).then_some(input.name.as_str())
}

impl Weights {
    /// The weights that `graphs` read.
    pub fn of(graphs: &[Graph]) -> Self {
        let mut weights = Self::default();
        let mut unit_of: BTreeMap<String, usize> = BTreeMap::new();
        let mut always: BTreeMap<&str, u64> = BTreeMap::new();
        for graph in graphs {
            for (_, node) in graph.nodes() {
                for (index, &value) in node.operands.iter().enumerate() {
                    let bytes = graph.ty(value).bytes() as u64;
                    match streamable(graph, node, index) {
                        Some(name) if !weights.names.contains_key(name) => {
                            let unit = block_of(name).map_or(name.to_owned(), |block| block.to_string());
                            let next = unit_of.len();
                            let unit = *unit_of.entry(unit).or_insert(next);
                            weights.names.insert(name.to_owned(), weights.tensors.len());
                            weights.tensors.push(Tensor { name: name.to_owned(), bytes, unit, offset: 0 });
                        }
                        Some(_) => {}
                        None => {
                            if let Some((name, bytes)) = touched(graph, node, index) {
                                always.insert(name, bytes.max(always.get(name).copied().unwrap_or(0)));
                            }
                        }
                    }
                }
            }
        }
        weights.units = lay_out(&mut weights.tensors, unit_of.len());
        weights.always = always.values().sum();
        weights
    }

    /// Reads of the tensors in units for which `wanted` is true, in the order of steps.
    pub fn reads(&self, graph: &Graph, wanted: &[bool]) -> Vec<Read> {
        let mut reads = Vec::new();
        for (step, (_, node)) in graph.nodes().enumerate() {
            for index in 0..node.operands.len() {
                let tensor = streamable(graph, node, index).and_then(|name| self.names.get(name));
                if let Some(&tensor) = tensor.filter(|&&tensor| wanted[self.tensors[tensor].unit]) {
                    reads.push(Read { step, tensor });
                }
            }
        }
        reads
    }

    /// Every unit stays.
    pub fn resident(&self) -> Residency {
        Residency { streamed: vec![false; self.units.len()], slots: 0, slot_bytes: 0 }
    }

    /// What can be done so that units and stream region take at most `bytes`; nothing if nothing can.
    pub fn options(&self, bytes: u64) -> Vec<Residency> {
        if self.units.iter().sum::<u64>() <= bytes {
            return vec![self.resident()];
        }
        let mut options: Vec<Residency> = Vec::new();
        for slots in 1..=MOST_SLOTS.min(self.units.len()) {
            for choose in [spread, lowest] {
                let fitting = (0..=self.units.len().saturating_sub(slots + 1)).rev().find_map(|resident| {
                    let residency = self.residency(slots, resident, choose);
                    (residency.bytes(self) <= bytes).then_some(residency)
                });
                options.extend(fitting.filter(|residency| !options.contains(residency)));
            }
        }
        options
    }

    /// `resident` units stay, those that `choose` says.
    fn residency(
        &self,
        slots: usize,
        resident: usize,
        choose: fn(unit: usize, units: usize, resident: usize) -> bool,
    ) -> Residency {
        let units = self.units.len();
        let streamed: Vec<bool> = (0..units).map(|unit| !choose(unit, units, resident)).collect();
        let of_streamed = self.units.iter().zip(&streamed).filter(|(_, streamed)| **streamed);
        let slot_bytes = of_streamed.map(|(&bytes, _)| bytes).max().unwrap_or(0);
        Residency { streamed, slots, slot_bytes }
    }

    /// The least that units can take: all streamed through one slot, or all resident if that is less.
    pub fn least(&self) -> u64 {
        let all: u64 = self.units.iter().sum();
        all.min(self.residency(1, 0, lowest).bytes(self))
    }

    /// The stays of one entry point; none if that many slots are too few.
    pub fn stays(&self, reads: &[Read], residency: &Residency) -> Option<Vec<Stay>> {
        plan_stays(&self.tensors, reads, residency.slots, residency.slot_bytes)
    }
}

/// `resident` of `units` stay, spread evenly from the first on: that one ends a run and begins the next.
fn spread(unit: usize, units: usize, resident: usize) -> bool {
    unit * resident % units < resident
}

/// The first `resident` units stay.
fn lowest(unit: usize, _units: usize, resident: usize) -> bool {
    unit < resident
}

/// A weight that is always resident: its name, and how many of its bytes a run touches.
fn touched<'g>(graph: &'g Graph, node: &Node, index: usize) -> Option<(&'g str, u64)> {
    const PAGE: u64 = 4096;
    let value = node.operands[index];
    let Definition::Input(input) = graph.value(value).definition else { return None };
    let input = &graph.inputs()[input];
    if input.role != Role::Weight {
        return None;
    }
    let bytes = graph.ty(value).bytes() as u64;
    let touched = match &node.op {
        Op::Embedding(_) => {
            let height = graph.ty(value).dims[0].bound.max(1) as u64;
            let rows = graph.ty(node.results[0]).dims[0].bound as u64;
            // A row lies across one page more than it fills.
            bytes.min((bytes / height + PAGE) * rows)
        }
        _ => bytes,
    };
    Some((input.name.as_str(), touched))
}

/// Makes the streamed tensors of `entry`, which was lowered from a graph with these reads, buffers of the stream region.
///
/// `buffers` are the plan's; a tensor's first stay takes over the buffer that was the resident weight's.
fn stream_entry(
    buffers: &mut Vec<Buffer>,
    entry: &mut EntryPoint,
    weights: &Weights,
    reads: &[Read],
    stays: &[Stay],
    resident: &BTreeMap<usize, u32>,
) {
    for stay in stays {
        let Some(&own) = resident.get(&stay.tensor) else { continue };
        let mut buffer = buffers[own as usize].clone();
        (buffer.memory, buffer.offset) = (Memory::Stream.into(), stay.offset);
        let is_first = buffers[own as usize].memory() == Memory::Weight;
        let id = if is_first { own } else { buffers.len() as u32 };
        if is_first {
            buffers[own as usize] = buffer;
        } else {
            buffers.push(buffer);
        }
        for read in reads {
            if read.tensor == stay.tensor && (stay.steps.0..=stay.steps.1).contains(&read.step) {
                for operand in entry.steps[read.step].operands.iter_mut().filter(|operand| **operand == own) {
                    *operand = id;
                }
            }
        }
        entry.loads.push(gptjc_graphs::plan::Load { buffer: id, ..stay.load });
        entry.read_bytes += weights.tensors[stay.tensor].bytes;
    }
}

/// Streams what `residency` says in all entry points of `plan`, which was lowered from `graphs` with every weight
/// resident. False if a step reads more units than there are slots.
pub fn apply(plan: &mut Plan, graphs: &[Graph], weights: &Weights, residency: &Residency) -> bool {
    let mut resident = BTreeMap::new();
    for (index, buffer) in plan.buffers.iter().enumerate() {
        if let (Memory::Weight, Some(&tensor)) = (buffer.memory(), weights.names.get(&buffer.name)) {
            resident.insert(tensor, index as u32);
        }
    }
    for (graph, entry) in graphs.iter().zip(&mut plan.entries) {
        let reads = weights.reads(graph, &residency.streamed);
        let Some(stays) = weights.stays(&reads, residency) else { return false };
        stream_entry(&mut plan.buffers, entry, weights, &reads, &stays, &resident);
    }
    plan.stream_bytes = residency.stream_bytes();
    plan.weight_bytes = plan.buffers_in(Memory::Weight).filter_map(Buffer::bytes).sum();
    true
}

/// Has every NUMA node get a copy of the units that stay.
pub fn copy(plan: &mut Plan, weights: &Weights) {
    for buffer in &mut plan.buffers {
        buffer.copied = buffer.memory() == Memory::Weight && weights.names.contains_key(&buffer.name);
    }
}
