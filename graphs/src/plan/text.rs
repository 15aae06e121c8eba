//! A plan as text, for people.

use super::{Load, Memory, Plan, Step};
use std::fmt::{self, Write};

/// Writes the whole plan: options, memory, entry points, steps.
///
/// # Errors
/// Those of the writer.
pub fn print(plan: &Plan, out: &mut impl Write) -> fmt::Result {
    writeln!(out, "plan version {} by gptjc {}", plan.format_version, plan.compiler_version)?;
    writeln!(
        out,
        "memory: arena {} B, persistent {} B, weights {} B, stream {} B",
        plan.arena_bytes, plan.persistent_bytes, plan.weight_bytes, plan.stream_bytes
    )?;
    print_prediction(plan, out)?;
    for buffer in plan.buffers.iter().filter(|buffer| buffer.memory() != Memory::Arena) {
        let ty = buffer.ty().map_or_else(|error| error.to_string(), |ty| ty.to_string());
        let copied = if buffer.copied { ", a copy on each NUMA node" } else { "" };
        writeln!(out, "  {:<9} {ty} `{}` at {}{copied}", buffer.memory().name(), buffer.name, buffer.offset)?;
    }
    for entry in &plan.entries {
        writeln!(
            out,
            "entry {}: {} steps, {} flops, {} bytes moved, {} bytes live, {} bytes read, {:.6} s",
            entry.name,
            entry.steps.len(),
            entry.flops(),
            entry.bytes(),
            entry.live_bytes,
            entry.read_bytes,
            entry.seconds
        )?;
        for (index, load) in entry.loads.iter().enumerate() {
            print_load(plan, index, load, out)?;
        }
        for (index, step) in entry.steps.iter().enumerate() {
            print_step(plan, index, step, out)?;
        }
    }
    Ok(())
}

fn print_prediction(plan: &Plan, out: &mut impl Write) -> fmt::Result {
    let expected = &plan.prediction;
    writeln!(
        out,
        "expected: {} B at the peak ({} B of weights touched, {} B of the process); an optimizer step of {} micro-steps \
         takes {:.6} s ({:.6} s of it waiting), reads {} B, does {} flops ({} of them again), moves {} B",
        expected.peak_bytes,
        expected.touched_weight_bytes,
        expected.process_bytes,
        expected.micro_steps,
        expected.seconds,
        expected.wait_seconds,
        expected.read_bytes,
        expected.flops,
        expected.recomputed_flops,
        expected.moved_bytes
    )
}

fn print_load(plan: &Plan, index: usize, load: &Load, out: &mut impl Write) -> fmt::Result {
    let name = plan.buffers.get(load.buffer as usize).map_or("?", |buffer| buffer.name.as_str());
    writeln!(
        out,
        "  load {index:>4} @{}:{name} before step {}, after {} steps, or {} of the previous run",
        load.buffer, load.before_step, load.after_step, load.previous_after_step
    )
}

fn print_step(plan: &Plan, index: usize, step: &Step, out: &mut impl Write) -> fmt::Result {
    let names = |ids: &[u32]| {
        let name = |&id: &u32| match plan.buffers.get(id as usize) {
            Some(buffer) if buffer.is_named() => format!("@{id}:{}", buffer.name),
            Some(buffer) => format!("@{id}+{}", buffer.offset),
            None => format!("@{id}?"),
        };
        ids.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    write!(out, "  {index:>4} {} = {} {}", names(&step.results), step.kernel, names(&step.operands))?;
    let attributes = step.attributes();
    if !attributes.is_empty() {
        write!(out, " {{{attributes}}}")?;
    }
    if !step.workspace.is_empty() {
        write!(out, " workspace {}", names(&step.workspace))?;
    }
    write!(out, " tile {}x{}, {:.6} s", step.partition.rows, step.partition.columns, step.seconds)?;
    if !step.module.is_empty() {
        write!(out, " @ {}", step.module)?;
    }
    writeln!(out)
}
