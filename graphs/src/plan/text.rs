//! A plan as text, for people.

use super::{Memory, Plan, Step};
use std::fmt::{self, Write};

/// Writes the whole plan: options, memory, entry points, steps.
///
/// # Errors
/// Those of the writer.
pub fn print(plan: &Plan, out: &mut impl Write) -> fmt::Result {
    writeln!(out, "plan version {} by gptjc {}", plan.format_version, plan.compiler_version)?;
    writeln!(
        out,
        "memory: arena {} B, persistent {} B, weights {} B",
        plan.arena_bytes, plan.persistent_bytes, plan.weight_bytes
    )?;
    for buffer in plan.buffers.iter().filter(|buffer| buffer.memory() != Memory::Arena) {
        let ty = buffer.ty().map_or_else(|error| error.to_string(), |ty| ty.to_string());
        writeln!(out, "  {:<9} {ty} `{}` at {}", buffer.memory().name(), buffer.name, buffer.offset)?;
    }
    for entry in &plan.entries {
        writeln!(
            out,
            "entry {}: {} steps, {} flops, {} bytes moved, {} bytes live",
            entry.name,
            entry.steps.len(),
            entry.flops(),
            entry.bytes(),
            entry.live_bytes
        )?;
        for (index, step) in entry.steps.iter().enumerate() {
            print_step(plan, index, step, out)?;
        }
    }
    Ok(())
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
    write!(out, " tile {}x{}", step.partition.rows, step.partition.columns)?;
    if !step.module.is_empty() {
        write!(out, " @ {}", step.module)?;
    }
    writeln!(out)
}
