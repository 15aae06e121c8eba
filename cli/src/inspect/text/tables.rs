//! The tables of the text.

use crate::numbers::{bytes, flops, humane, percent, seconds as time, thousands};
use gptjc_compiler::explain::{Cost, EntryReport, JobCase, MemoryFacts, PassRow, Report};
use std::fmt::{self, Write};

pub(super) fn prediction(report: &Report, out: &mut String) -> fmt::Result {
    let (Some(expected), memory) = (&report.prediction, &report.memory) else { return Ok(()) };
    writeln!(out, "\npredicted, at the bounds (all slots used, every one labelled)")?;
    let budget = if memory.budget_given { "the budget" } else { "the target's memory" };
    writeln!(
        out,
        "  memory           {} at the peak, of {} in {budget}",
        bytes(memory.peak_bytes),
        bytes(memory.budget_bytes)
    )?;
    writeln!(
        out,
        "  optimizer step   {} in {} micro-step(s), {} of it waiting for weights",
        time(expected.seconds),
        expected.micro_steps,
        time(expected.wait_seconds)
    )?;
    writeln!(
        out,
        "  its work         {}, {} of it a second time ({} block(s) recomputed); {} moved, {} read from the checkpoint",
        flops(expected.flops as f64),
        flops(expected.recomputed_flops as f64),
        expected.recomputed_blocks,
        bytes(expected.moved_bytes),
        bytes(expected.read_bytes)
    )
}

pub(super) fn entries(report: &Report, out: &mut String) -> fmt::Result {
    writeln!(out, "\nentry points, at the bounds (all slots used, every one labelled)")?;
    writeln!(
        out,
        "  {:<12} {:>6} {:>14} {:>12} {:>12} {:>12} {:>12}",
        "name", "steps", "GFLOP", "bytes moved", "bytes read", "bytes live", "predicted"
    )?;
    report.entries.iter().try_for_each(|entry| {
        writeln!(
            out,
            "  {:<12} {:>6} {:>14.6} {:>12} {:>12} {:>12} {:>12}",
            entry.name,
            entry.cost.calls,
            entry.cost.flops as f64 / 1e9,
            bytes(entry.cost.bytes),
            bytes(entry.read_bytes),
            bytes(entry.live_bytes),
            time(entry.run_seconds)
        )
    })
}

pub(super) fn memory(memory: &MemoryFacts, out: &mut String) -> fmt::Result {
    writeln!(out, "\nmemory")?;
    for kind in &memory.kinds {
        let place = match kind.memory {
            "arena" => format!("in an arena of {}", bytes(memory.arena_bytes)),
            "stream" => format!("read in turns into a region of {}", bytes(memory.stream_bytes)),
            "weight" if memory.weight_copy_bytes > 0 => {
                format!(
                    "read from the checkpoint, {} of copies for other NUMA nodes",
                    bytes(memory.weight_copy_bytes)
                )
            }
            "weight" => "read from the checkpoint".to_owned(),
            _ => "kept".to_owned(),
        };
        writeln!(out, "  {:<10} {:>6} buffers {:>13} {place}", kind.memory, kind.buffers, bytes(kind.bytes))?;
    }
    let weights = memory.weight_bytes + memory.weight_copy_bytes;
    let total = weights + memory.stream_bytes + memory.persistent_bytes + memory.arena_bytes;
    writeln!(
        out,
        "  in all {}: weights {}, streamed weights {}, kept {}, arena {}",
        bytes(total),
        bytes(weights),
        bytes(memory.stream_bytes),
        bytes(memory.persistent_bytes),
        bytes(memory.arena_bytes)
    )
}

pub(super) fn planner(lines: &[String], out: &mut String) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nwhat the planner chose")?;
    lines.iter().try_for_each(|line| writeln!(out, "  {}", humane(line)))
}

pub(super) fn job(report: &Report, out: &mut String) -> fmt::Result {
    let Some(job) = &report.job else { return Ok(()) };
    writeln!(
        out,
        "\nthe whole job: {} full windows, {} epoch(s): {} tokens, {} optimizer steps, {} micro-batches",
        thousands(job.job.windows),
        job.job.epochs,
        thousands(job.tokens),
        thousands(job.optimizer_steps),
        thousands(job.micro_steps)
    )?;
    writeln!(
        out,
        "  {:<10} {:>14} {:>14} {:>14} {:>12} {:>10} {:>10} {:>9}",
        "labelled", "a token", "its attention", "recomputed", "a step", "tokens/s", "hours", "of peak"
    )?;
    job.cases.iter().try_for_each(|case| job_case(case, out))
}

fn job_case(case: &JobCase, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "  {:<10} {:>14} {:>14} {:>14} {:>12} {:>10.1} {:>10.2} {:>9}",
        percent(case.labelled_share),
        flops(case.flops_per_token),
        flops(case.attention_flops_per_token),
        flops(case.recomputed_flops_per_token),
        time(case.step_seconds),
        case.tokens_per_second,
        case.hours,
        percent(case.share_of_peak)
    )
}

pub(super) fn costs(entry: &EntryReport, out: &mut String) -> fmt::Result {
    writeln!(out, "\ncosts of {}, by kernel", entry.name)?;
    writeln!(
        out,
        "  {:<38} {:>6} {:>14} {:>12} {:>9} {:>11} {:>8}",
        "kernel", "calls", "GFLOP", "bytes moved", "FLOP/B", "predicted", "share"
    )?;
    for row in &entry.kernels {
        let Cost { calls, flops, bytes: moved, seconds } = row.cost;
        writeln!(
            out,
            "  {:<38} {calls:>6} {:>14.6} {:>12} {:>9.2} {:>11} {:>8}",
            row.kernel,
            flops as f64 / 1e9,
            bytes(moved),
            row.intensity,
            time(seconds),
            percent(row.time_share)
        )?;
    }
    writeln!(out, "\ncosts of {}, by part of the model", entry.name)?;
    writeln!(
        out,
        "  {:<10} {:>6} {:>14} {:>12} {:>11}   {:>6} {:>14} {:>12} {:>11}",
        "part", "steps", "GFLOP", "bytes moved", "forward", "steps", "GFLOP", "bytes moved", "backward"
    )?;
    for row in &entry.groups {
        write!(out, "  {:<10}", row.group.to_string())?;
        for (index, cost) in [row.forward, row.backward].iter().enumerate() {
            let gap = if index == 0 { "" } else { "  " };
            let (gflop, moved) = (cost.flops as f64 / 1e9, bytes(cost.bytes));
            write!(out, "{gap} {:>6} {gflop:>14.6} {moved:>12} {:>11}", cost.calls, time(cost.seconds))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

pub(super) fn arena(entry: &EntryReport, memory: &MemoryFacts, out: &mut String) -> fmt::Result {
    if !entry.arena.is_empty() {
        writeln!(
            out,
            "\ntemporaries of {}: {} live at most, arena {}",
            entry.name,
            bytes(entry.live_bytes),
            bytes(memory.arena_bytes)
        )?;
        writeln!(out, "  {:>14} {:>12} {:>13}  use", "offset", "bytes", "steps")?;
        for row in &entry.arena {
            let steps = format!("{}..={}", row.first, row.last);
            let (kind, ty) = (row.kind.name(), &row.ty);
            let (kernel, module) = (&row.kernel, &row.module);
            writeln!(
                out,
                "  {:>14} {:>12} {steps:>13}  {kind}: {ty} of {kernel} @ {module}",
                row.offset, row.bytes
            )?;
        }
    }
    if entry.loads.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nweights that {} streams: {} a run", entry.name, bytes(entry.read_bytes))?;
    writeln!(
        out,
        "  {:>12} {:>8} {:>8} {:>10} {:>10} {:>12} {:>12}  tensor",
        "bytes", "before", "after", "previous", "ahead", "time ahead", "reading"
    )?;
    entry.loads.iter().try_for_each(|load| {
        writeln!(
            out,
            "  {:>12} {:>8} {:>8} {:>10} {:>10} {:>12} {:>12}  {}",
            bytes(load.bytes),
            load.before_step,
            load.after_step,
            load.previous_after_step,
            load.steps_ahead,
            time(load.seconds_ahead),
            time(load.read_seconds),
            load.tensor
        )
    })
}

pub(super) fn passes(entry: &EntryReport, out: &mut String) -> fmt::Result {
    writeln!(out, "\npasses over {}", entry.name)?;
    if !entry.graphs_match {
        writeln!(
            out,
            "  note: this version would not make the plan's steps; what follows is of this version"
        )?;
    }
    writeln!(out, "  {:<28} {:>15} {:>29} {:>29}", "pass", "nodes", "GFLOP", "bytes of results")?;
    entry.passes.iter().try_for_each(|row| pass(row, out))
}

fn pass(row: &PassRow, out: &mut String) -> fmt::Result {
    let change =
        |before: String, after: String| if before == after { after } else { format!("{before} -> {after}") };
    let gflop = |value: u64| format!("{:.6}", value as f64 / 1e9);
    writeln!(
        out,
        "  {:<28} {:>15} {:>29} {:>29}",
        row.pass,
        change(row.before.nodes.to_string(), row.after.nodes.to_string()),
        change(gflop(row.before.flops), gflop(row.after.flops)),
        change(bytes(row.before.bytes), bytes(row.after.bytes))
    )?;
    row.applied.iter().try_for_each(|applied| writeln!(out, "    applied: {applied}"))?;
    row.missed.iter().try_for_each(|missed| writeln!(out, "    missed: {}: {}", missed.what, missed.reason))
}

pub(super) fn passes_in_short(report: &Report, out: &mut String) -> fmt::Result {
    writeln!(out, "\npasses (--show passes has them all)")?;
    for entry in &report.entries {
        let (Some(first), Some(last)) = (entry.passes.first(), entry.passes.last()) else { continue };
        if entry.passes.iter().all(PassRow::is_idle) {
            continue;
        }
        writeln!(
            out,
            "  {:<12} {} -> {} nodes, {} -> {}, {} -> {} of results; {} missed",
            entry.name,
            first.before.nodes,
            last.after.nodes,
            flops(first.before.flops as f64),
            flops(last.after.flops as f64),
            bytes(first.before.bytes),
            bytes(last.after.bytes),
            entry.passes.iter().map(|row| row.missed.len()).sum::<usize>()
        )?;
    }
    Ok(())
}
