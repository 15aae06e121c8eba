//! Which weights are streamed, and how far ahead of their use.

use super::facts::TargetFacts;
use gptjc_graphs::plan::{EntryPoint, Load, Plan};
use serde::Serialize;

/// A frozen tensor that is read from the checkpoint into the stream region.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadRow {
    /// Index of the buffer in the plan.
    pub buffer: u32,
    /// Name of the tensor.
    pub tensor: String,
    /// Offset in the stream region.
    pub offset: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Index of the first step that reads it.
    pub before_step: u32,
    /// Steps of the same run that must be finished before reading may start.
    pub after_step: u32,
    /// Steps of the previous run that must be finished before reading may start.
    pub previous_after_step: u32,
    /// Steps that run between the moment when reading may start and the first use, those of the previous run included.
    pub steps_ahead: usize,
    /// Predicted seconds of those steps.
    pub seconds_ahead: f64,
    /// Seconds that reading takes at the target's disk bandwidth.
    pub read_seconds: f64,
}

/// The steps that run between the moment when `load` may start and its first use.
fn ahead(entry: &EntryPoint, load: &Load) -> (usize, f64) {
    let (before, after) = (load.before_step as usize, load.after_step as usize);
    let seconds = |from: usize, to: usize| {
        let steps = entry.steps.get(from.min(to)..to.min(entry.steps.len())).unwrap_or_default();
        steps.iter().map(|step| step.seconds).sum::<f64>()
    };
    if after > 0 {
        return (before.saturating_sub(after), seconds(after, before));
    }
    let (last, previous) = (entry.steps.len(), load.previous_after_step as usize);
    (before + last.saturating_sub(previous), seconds(0, before) + seconds(previous, last))
}

/// The loads of `entry`, in the order of reading.
pub(super) fn of(plan: &Plan, entry: &EntryPoint) -> Vec<LoadRow> {
    let disk = TargetFacts::of(&plan.options.target).disk_bandwidth.max(1.0);
    let row = |load: &Load| {
        let buffer = plan.buffers.get(load.buffer as usize)?;
        let bytes = buffer.bytes().unwrap_or(0);
        let (steps_ahead, seconds_ahead) = ahead(entry, load);
        Some(LoadRow {
            buffer: load.buffer,
            tensor: buffer.name.clone(),
            offset: buffer.offset,
            bytes,
            before_step: load.before_step,
            after_step: load.after_step,
            previous_after_step: load.previous_after_step,
            steps_ahead,
            seconds_ahead,
            read_seconds: bytes as f64 / disk,
        })
    };
    entry.loads.iter().filter_map(row).collect()
}
