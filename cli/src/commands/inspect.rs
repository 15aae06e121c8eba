//! `gptjc inspect`: what a plan holds, as text.

use crate::console::Console;
use crate::error::CliError;
use crate::flags::InspectCommand;
use crate::flags::values::human_bytes;
use crate::settings::read_plan;
use gptjc_compiler::MemoryNeed;
use gptjc_graphs::plan::{Buffer, Memory, Plan, text};
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// Kinds of memory, in the order of the page.
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

/// Runs the command.
pub(crate) fn run(command: &InspectCommand, console: Console) -> Result<(), CliError> {
    let plan = read_plan(&command.plan)?;
    let mut page = String::new();
    // Writing to a string does not fail.
    let _ = describe(&plan, &mut page);
    if command.steps {
        page.push('\n');
        let _ = text::print(&plan, &mut page);
    }
    console.line(&page);
    Ok(())
}

/// Writes the page without the steps.
pub(crate) fn describe(plan: &Plan, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "plan of format version {}, compiled by gptjc {}",
        plan.format_version, plan.compiler_version
    )?;
    describe_options(plan, out)?;
    describe_entries(plan, out)?;
    describe_memory(plan, out)?;
    writeln!(out, "\npasses")?;
    plan.remarks.iter().try_for_each(|remark| writeln!(out, "  {remark}"))
}

fn describe_options(plan: &Plan, out: &mut String) -> fmt::Result {
    let options = &plan.options;
    let model = &options.model;
    writeln!(out, "\noptions")?;
    writeln!(
        out,
        "  model            GPT-J: n_layer {}, n_embd {}, n_head {}, rotary_dim {}, n_inner {}, vocab_size {}, \
         n_positions {}, layer_norm_epsilon {}",
        model.n_layer,
        model.n_embd,
        model.n_head,
        model.rotary_dim,
        model.n_inner,
        model.vocab_size,
        model.n_positions,
        model.layer_norm_epsilon
    )?;
    match &options.lora {
        Some(lora) => writeln!(
            out,
            "  trainable        lora: rank {}, alpha {}{}, dropout {}, on {}",
            lora.rank,
            lora.alpha,
            if lora.use_rslora { " (rsLoRA)" } else { "" },
            lora.dropout,
            lora.targets.join(",")
        )?,
        None => writeln!(out, "  trainable        all parameters")?,
    }
    writeln!(out, "  precision        {}", options.precision())?;
    writeln!(
        out,
        "  windows          at most {} tokens, packing {}",
        options.max_seq_length,
        options.packing()
    )?;
    writeln!(
        out,
        "  windows at most  {} a micro-batch, {} an optimizer step",
        options.micro_batch, options.step_windows
    )?;
    describe_target(plan, out)
}

fn describe_target(plan: &Plan, out: &mut String) -> fmt::Result {
    let target = &plan.options.target;
    let budget = match plan.options.memory_budget {
        0 => format!("the target's memory, {}", human_bytes(target.memory_bytes)),
        bytes => human_bytes(bytes),
    };
    writeln!(out, "  memory budget    {budget}")?;
    writeln!(
        out,
        "  target           {}: kernels {}, {} core(s), caches {} / {} / {}, memory {}",
        target.name,
        target.isa,
        target.cores,
        human_bytes(target.l1d_bytes),
        human_bytes(target.l2_bytes),
        human_bytes(target.l3_bytes),
        human_bytes(target.memory_bytes)
    )
}

fn describe_entries(plan: &Plan, out: &mut String) -> fmt::Result {
    writeln!(out, "\nentry points, at the bounds (all slots used, every one labelled)")?;
    writeln!(
        out,
        "  {:<12} {:>6} {:>12} {:>13} {:>13}",
        "name", "steps", "GFLOP", "bytes moved", "bytes live"
    )?;
    for entry in &plan.entries {
        writeln!(
            out,
            "  {:<12} {:>6} {:>12.6} {:>13} {:>13}",
            entry.name,
            entry.steps.len(),
            entry.flops() as f64 / 1e9,
            human_bytes(entry.bytes()),
            human_bytes(entry.live_bytes)
        )?;
        for (kernel, (calls, flops)) in
            kernels(entry.steps.iter().map(|step| (step.kernel.as_str(), step.flops)))
        {
            writeln!(out, "    {:<36} {:>6} calls {:>12.6} GFLOP", kernel, calls, flops as f64 / 1e9)?;
        }
    }
    Ok(())
}

/// Calls and FLOPs of each kernel, by name.
fn kernels<'a>(steps: impl Iterator<Item = (&'a str, u64)>) -> BTreeMap<&'a str, (usize, u64)> {
    let mut kernels = BTreeMap::new();
    for (kernel, flops) in steps {
        let (calls, total): &mut (usize, u64) = kernels.entry(kernel).or_default();
        *calls += 1;
        *total += flops;
    }
    kernels
}

fn describe_memory(plan: &Plan, out: &mut String) -> fmt::Result {
    let need = MemoryNeed::of(plan);
    writeln!(out, "\nmemory")?;
    for memory in KINDS {
        let buffers: Vec<&Buffer> = plan.buffers_in(memory).collect();
        let bytes: u64 = buffers.iter().filter_map(|buffer| buffer.bytes()).sum();
        let place = match memory {
            Memory::Arena => format!("in an arena of {}", human_bytes(plan.arena_bytes)),
            Memory::Weight | Memory::Stream => "read from the checkpoint".to_owned(),
            _ => "kept".to_owned(),
        };
        let (kind, count) = (memory.name(), buffers.len());
        writeln!(out, "  {kind:<10} {count:>6} buffers {:>13} {place}", human_bytes(bytes))?;
    }
    writeln!(
        out,
        "  in all {}: weights {}, kept {}, arena {}",
        human_bytes(need.total()),
        human_bytes(need.weights),
        human_bytes(need.persistent),
        human_bytes(need.arena)
    )
}
