//! Proves a plan from its steps alone, without trusting what made it.
//!
//! Invariants:
//! - every step names a kernel of an op that exists, with attributes that the op takes, and buffers that exist;
//! - operands and results have types that the op's shape rule gives;
//! - every buffer is aligned and lies inside its region; no two persistent buffers overlap;
//! - a step writes no buffer twice, and none that it reads but where the op may work in place;
//! - weights, batch and control buffers are never written; a temporary is written before it is read;
//! - while a temporary is live (from the step that writes it to the last that reads it), no other live temporary
//!   overlaps it, but for a result that the op may write over an operand which nobody reads later;
//! - every streamed tensor that a step reads is loaded before, and no load may start while a step that reads what lies
//!   there is still to run, be it of the same run or of the one before.

use super::{ALIGNMENT, Buffer, EntryPoint, KernelId, Memory, Plan, STREAM_ALIGNMENT, Step, stream};
use crate::ops::Op;
use crate::shape::TensorType;
use std::collections::BTreeMap;

/// A plan that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A buffer that cannot be.
    #[error("buffer {index} `{name}`: {reason}")]
    Buffer {
        /// Index of the buffer.
        index: usize,
        /// Name of the buffer.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A load that cannot be.
    #[error("entry `{entry}`, load {load} of `{tensor}`: {reason}")]
    Load {
        /// Entry point.
        entry: String,
        /// Index of the load.
        load: usize,
        /// Name of the tensor.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
    /// A step that cannot be.
    #[error("entry `{entry}`, step {step} `{kernel}`: {reason}")]
    Step {
        /// Entry point.
        entry: String,
        /// Index of the step.
        step: usize,
        /// Kernel of the step.
        kernel: String,
        /// What is wrong.
        reason: String,
    },
}

/// Checks the invariants.
///
/// # Errors
/// [`PlanError`] with the first that does not hold.
pub fn verify(plan: &Plan) -> Result<(), PlanError> {
    for (index, buffer) in plan.buffers.iter().enumerate() {
        check_buffer(plan, buffer).map_err(|reason| PlanError::Buffer {
            index,
            name: buffer.name.clone(),
            reason,
        })?;
    }
    check_persistent_overlap(plan)?;
    for entry in &plan.entries {
        for (index, step) in entry.steps.iter().enumerate() {
            check_step(plan, step).map_err(|reason| step_error(entry, index, reason))?;
        }
        check_lifetimes(plan, entry)?;
        stream::check_loads(plan, entry)?;
    }
    Ok(())
}

pub(super) fn step_error(entry: &EntryPoint, step: usize, reason: String) -> PlanError {
    let kernel = entry.steps.get(step).map(|step| step.kernel.clone()).unwrap_or_default();
    PlanError::Step { entry: entry.name.clone(), step, kernel, reason }
}

fn check_buffer(plan: &Plan, buffer: &Buffer) -> Result<(), String> {
    Memory::try_from(buffer.memory).map_err(|_| format!("memory kind {} is unknown", buffer.memory))?;
    buffer.ty().map_err(|error| error.to_string())?;
    let end = buffer.end().ok_or("its size is more than can be counted")?;
    let alignment = if buffer.memory() == Memory::Stream { STREAM_ALIGNMENT } else { ALIGNMENT };
    if !buffer.offset.is_multiple_of(alignment) {
        return Err(format!("offset {} is not a multiple of {alignment}", buffer.offset));
    }
    let region = match buffer.memory() {
        Memory::Arena => plan.arena_bytes,
        Memory::Weight => return Ok(()),
        _ if buffer.copied => return Err("it is to be copied, and no weight that stays".to_owned()),
        Memory::Stream => plan.stream_bytes,
        Memory::Parameter | Memory::State | Memory::Batch | Memory::Control | Memory::Result => {
            plan.persistent_bytes
        }
    };
    if end > region {
        return Err(format!("it ends at byte {end} of a region of {region} bytes"));
    }
    Ok(())
}

fn check_persistent_overlap(plan: &Plan) -> Result<(), PlanError> {
    let mut regions: Vec<(u64, u64, usize)> = plan
        .buffers
        .iter()
        .enumerate()
        .filter(|(_, buffer)| buffer.memory().is_persistent())
        .filter_map(|(index, buffer)| Some((buffer.offset, buffer.end()?, index)))
        .filter(|&(start, end, _)| start < end)
        .collect();
    regions.sort_unstable();
    for pair in regions.windows(2) {
        if pair[1].0 < pair[0].1 {
            let (index, other) = (pair[1].2, pair[0].2);
            let (name, other) = (plan.buffers[index].name.clone(), &plan.buffers[other].name);
            return Err(PlanError::Buffer { index, name, reason: format!("it overlaps `{other}`") });
        }
    }
    Ok(())
}

fn check_step(plan: &Plan, step: &Step) -> Result<(), String> {
    let op = op_of(step)?;
    let types = |ids: &[u32]| -> Result<Vec<TensorType>, String> {
        ids.iter()
            .map(|&id| {
                let buffer = plan.buffers.get(id as usize).ok_or(format!("buffer {id} does not exist"))?;
                buffer.ty().map_err(|error| error.to_string())
            })
            .collect()
    };
    let (operands, results) = (types(&step.operands)?, types(&step.results)?);
    let expected = op.infer(&operands.iter().collect::<Vec<_>>()).map_err(|error| error.to_string())?;
    if expected != results {
        return Err(format!("expected results {}, found {}", list(&expected), list(&results)));
    }
    let workspace = types(&step.workspace)?;
    let expected = op.workspace(&operands.iter().collect::<Vec<_>>(), &results.iter().collect::<Vec<_>>());
    if expected != workspace {
        return Err(format!("expected workspace {}, found {}", list(&expected), list(&workspace)));
    }
    if let Some(id) = step.workspace.iter().find(|&&id| plan.buffers[id as usize].memory() != Memory::Arena) {
        return Err(format!("its workspace {id} is no temporary"));
    }
    if step.partition.rows == 0 {
        return Err("a tile has 0 rows".to_owned());
    }
    for (index, &id) in step.results.iter().enumerate() {
        let buffer = &plan.buffers[id as usize];
        if step.results[..index].contains(&id) {
            return Err(format!("it writes buffer {id} twice"));
        }
        let mut sharing = step.operands.iter().enumerate().filter(|&(_, &operand)| operand == id);
        if let Some((operand, _)) = sharing.find(|&(operand, _)| !op.in_place().contains(&(index, operand))) {
            return Err(format!(
                "it writes result {index} over operand {operand}, which `{}` may not",
                op.name()
            ));
        }
        match buffer.memory() {
            Memory::Arena | Memory::Parameter | Memory::State | Memory::Result => {}
            memory @ (Memory::Weight | Memory::Batch | Memory::Control | Memory::Stream) => {
                return Err(format!("it writes the {} buffer `{}`", memory.name(), buffer.name));
            }
        }
    }
    Ok(())
}

fn list(types: &[TensorType]) -> String {
    types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn op_of(step: &Step) -> Result<Op, String> {
    let id = KernelId::parse(&step.kernel).ok_or("the kernel's name is not <op>-<dtype>-<isa>")?;
    match Op::from_parts(&id.op, &step.attributes()) {
        Ok(Some(op)) => Ok(op),
        Ok(None) => Err(format!("no op is called `{}`", id.op)),
        Err(error) => Err(error.to_string()),
    }
}

/// First write and last use of each temporary, recomputed from the steps.
fn lifetimes(plan: &Plan, entry: &EntryPoint) -> Result<BTreeMap<u32, (usize, usize)>, PlanError> {
    let mut lives: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
    for (index, step) in entry.steps.iter().enumerate() {
        let is_temporary = |id: &&u32| plan.buffers[**id as usize].memory() == Memory::Arena;
        for id in step.operands.iter().filter(is_temporary) {
            match lives.get_mut(id) {
                Some(life) => life.1 = index,
                None => {
                    let reason = format!("it reads temporary {id}, which no earlier step wrote");
                    return Err(step_error(entry, index, reason));
                }
            }
        }
        for id in step.results.iter().filter(is_temporary).chain(&step.workspace) {
            if lives.insert(*id, (index, index)).is_some() {
                return Err(step_error(entry, index, format!("temporary {id} is written twice")));
            }
        }
    }
    Ok(lives)
}

fn check_lifetimes(plan: &Plan, entry: &EntryPoint) -> Result<(), PlanError> {
    let lives = lifetimes(plan, entry)?;
    // Temporaries by the step that writes them; each is held against those that are live then.
    let mut by_start: Vec<(usize, u32)> = lives.iter().map(|(&id, &(start, _))| (start, id)).collect();
    by_start.sort_unstable();
    let mut live: Vec<u32> = Vec::new();
    for (start, id) in by_start {
        live.retain(|other| lives[other].1 >= start);
        for &other in &live {
            if overlaps(plan, id, other) && !may_share(plan, entry, &lives, start, id, other) {
                let (name, other_name) = (label(plan, id), label(plan, other));
                let reason = format!("its result {name} overlaps {other_name}, which is still live");
                return Err(step_error(entry, start, reason));
            }
        }
        live.push(id);
    }
    Ok(())
}

fn label(plan: &Plan, id: u32) -> String {
    format!("{id} `{}`", plan.buffers[id as usize].name)
}

pub(super) fn overlaps(plan: &Plan, a: u32, b: u32) -> bool {
    let range = |id: u32| {
        let buffer = &plan.buffers[id as usize];
        (buffer.offset, buffer.end().unwrap_or(u64::MAX))
    };
    let ((a_start, a_end), (b_start, b_end)) = (range(a), range(b));
    a_start < b_end && b_start < a_end
}

/// True if the step at `start` may write its result `id` exactly over its operand `other`, read there for the last time.
fn may_share(
    plan: &Plan,
    entry: &EntryPoint,
    lives: &BTreeMap<u32, (usize, usize)>,
    start: usize,
    id: u32,
    other: u32,
) -> bool {
    let step = &entry.steps[start];
    let Ok(op) = op_of(step) else { return false };
    let same_place = plan.buffers[id as usize].offset == plan.buffers[other as usize].offset
        && plan.buffers[id as usize].bytes() == plan.buffers[other as usize].bytes();
    // A value that is also another operand of the step may be read after the write.
    let read_once = step.operands.iter().filter(|&&operand| operand == other).count() == 1;
    let pair = op.in_place().iter().any(|&(result, operand)| {
        step.results.get(result) == Some(&id) && step.operands.get(operand) == Some(&other)
    });
    same_place && read_once && pair && lives[&other].1 == start
}
