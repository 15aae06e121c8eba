//! Proves the loads of an entry point: what a step reads is there, and nothing is read in over what is still needed.

use super::verify::{PlanError, overlaps, step_error};
use super::{EntryPoint, Memory, Plan};
use std::collections::BTreeMap;

/// Where a streamed buffer is used in a run.
#[derive(Clone, Copy)]
struct Use {
    /// Index of its load.
    load: usize,
    /// The first step that reads it, and the number of steps after which it may go.
    steps: (usize, usize),
}

/// Checks that every streamed buffer that a step reads has one load that is done before, that loads are in the order in
/// which they are needed, and that no load may start too early.
///
/// # Errors
/// [`PlanError`] with the first that does not hold.
pub(super) fn check_loads(plan: &Plan, entry: &EntryPoint) -> Result<(), PlanError> {
    let refuse = |load: usize, reason: String| {
        let buffer = entry.loads.get(load).and_then(|load| plan.buffers.get(load.buffer as usize));
        let tensor = buffer.map(|buffer| buffer.name.clone()).unwrap_or_default();
        PlanError::Load { entry: entry.name.clone(), load, tensor, reason }
    };
    let uses = uses(plan, entry, &refuse)?;
    for (index, load) in entry.loads.iter().enumerate() {
        let Some(&Use { steps, .. }) = uses.get(&load.buffer) else {
            return Err(refuse(index, "no step reads it".to_owned()));
        };
        check_order(entry, index, steps.0).map_err(|reason| refuse(index, reason))?;
        for (&other, other_use) in &uses {
            if overlaps(plan, load.buffer, other) {
                check_clear(plan, entry, index, other, other_use).map_err(|reason| refuse(index, reason))?;
            }
        }
    }
    Ok(())
}

/// The use of each streamed buffer that a step reads.
fn uses(
    plan: &Plan,
    entry: &EntryPoint,
    refuse: &impl Fn(usize, String) -> PlanError,
) -> Result<BTreeMap<u32, Use>, PlanError> {
    let mut loads: BTreeMap<u32, usize> = BTreeMap::new();
    for (index, load) in entry.loads.iter().enumerate() {
        match plan.buffers.get(load.buffer as usize).map(|buffer| buffer.memory()) {
            Some(Memory::Stream) => {}
            Some(memory) => return Err(refuse(index, format!("it is in {} memory", memory.name()))),
            None => return Err(refuse(index, format!("buffer {} does not exist", load.buffer))),
        }
        if loads.insert(load.buffer, index).is_some() {
            return Err(refuse(index, format!("buffer {} is loaded twice", load.buffer)));
        }
    }
    let mut uses: BTreeMap<u32, Use> = BTreeMap::new();
    for (step, &buffer) in entry
        .steps
        .iter()
        .enumerate()
        .flat_map(|(step, s)| s.operands.iter().map(move |buffer| (step, buffer)))
    {
        if plan.buffers[buffer as usize].memory() != Memory::Stream {
            continue;
        }
        let Some(&load) = loads.get(&buffer) else {
            let name = &plan.buffers[buffer as usize].name;
            return Err(step_error(entry, step, format!("it reads `{name}`, which no load brings")));
        };
        uses.entry(buffer).or_insert(Use { load, steps: (step, step + 1) }).steps.1 = step + 1;
    }
    Ok(uses)
}

/// The load is done before the first step that reads it, may start by then, and comes no earlier than its turn.
fn check_order(entry: &EntryPoint, index: usize, first_read: usize) -> Result<(), String> {
    let load = &entry.loads[index];
    if load.before_step as usize > first_read {
        return Err(format!("it is there before step {}, but step {first_read} reads it", load.before_step));
    }
    if load.after_step > load.before_step {
        let (after, before) = (load.after_step, load.before_step);
        return Err(format!("it waits for {after} steps and must be there before step {before}"));
    }
    if load.previous_after_step as usize > entry.steps.len() {
        let (after, steps) = (load.previous_after_step, entry.steps.len());
        return Err(format!("it waits for {after} steps of a run of {steps}"));
    }
    if index > 0 && entry.loads[index - 1].before_step > load.before_step {
        return Err("it is needed before the load in front of it".to_owned());
    }
    Ok(())
}

/// The load may only start when nobody reads `other`, which lies in the same place, any more: in the previous run, and,
/// if `other` is loaded first, in this one.
fn check_clear(
    plan: &Plan,
    entry: &EntryPoint,
    index: usize,
    other: u32,
    other_use: &Use,
) -> Result<(), String> {
    let load = &entry.loads[index];
    let name = &plan.buffers[other as usize].name;
    // With a step of its own run finished, the previous run is over.
    let previous = if load.after_step > 0 { entry.steps.len() } else { load.previous_after_step as usize };
    if previous < other_use.steps.1 {
        let last = other_use.steps.1 - 1;
        return Err(format!("it may start while step {last} of the previous run still reads `{name}` there"));
    }
    if other_use.load < index && (load.after_step as usize) < other_use.steps.1 {
        let last = other_use.steps.1 - 1;
        return Err(format!("it may start while step {last} still reads `{name}` there"));
    }
    Ok(())
}
