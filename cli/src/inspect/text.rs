//! A plan as text.

mod tables;

use super::View;
use crate::error::CliError;
use crate::flags::inspect::Show;
use crate::numbers::{bytes, bytes_per_second, flops_per_second, quantity};
use gptjc_compiler::explain::{PlanFacts, Stage, TargetFacts, trace};
use gptjc_graphs::graph::Graph;
use gptjc_graphs::plan::text;
use gptjc_graphs::text::{print, statement};
use std::fmt::{self, Write};

/// The text.
pub(crate) fn render(view: &View<'_>) -> Result<String, CliError> {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = sections(view, &mut out);
    if view.show.has(Show::Graph) || view.show.has(Show::Fused) {
        graphs(view, &mut out)?;
    }
    if view.show.has(Show::Plan) {
        let mut plan = view.plan.clone();
        plan.entries.retain(|entry| view.entry.is_none_or(|name| entry.name == name));
        let _ = text::print(&plan, &mut out);
    }
    Ok(out)
}

fn sections(view: &View<'_>, out: &mut String) -> fmt::Result {
    let (report, show) = (&view.report, view.show);
    if show.has(Show::Summary) {
        head(&report.plan, out)?;
        tables::prediction(report, out)?;
        tables::entries(report, out)?;
        tables::memory(&report.memory, out)?;
        tables::planner(&report.planner, out)?;
    }
    if show.has_job() {
        tables::job(report, out)?;
    }
    if show.has(Show::Costs) {
        report.entries.iter().try_for_each(|entry| tables::costs(entry, out))?;
    }
    if show.has(Show::Memory) {
        if !show.has(Show::Summary) {
            tables::memory(&report.memory, out)?;
            tables::planner(&report.planner, out)?;
        }
        report.entries.iter().try_for_each(|entry| tables::arena(entry, &report.memory, out))?;
    }
    if show.has(Show::Passes) {
        report.entries.iter().try_for_each(|entry| tables::passes(entry, out))?;
    } else if show.has(Show::Summary) {
        tables::passes_in_short(report, out)?;
    }
    Ok(())
}

/// The graphs of the entry point, whole in the text form that parses back, or the statements of one block.
fn graphs(view: &View<'_>, out: &mut String) -> Result<(), CliError> {
    let Some(entry) = view.graph_entry() else { return Ok(()) };
    let stages = trace(view.plan, entry).map_err(|source| CliError::Compile(source.into()))?;
    let mut show = |part, title: &str, stage: Option<&Stage>| {
        if let Some(stage) = stage.filter(|_| view.show.has(part)) {
            // Writing to a string does not fail.
            let _ = graph(view, title, &stage.graph, out);
        }
    };
    show(Show::Graph, "training graph, before the passes", stages.first());
    show(Show::Fused, "graph after the passes", stages.last());
    Ok(())
}

fn graph(view: &View<'_>, title: &str, graph: &Graph, out: &mut String) -> fmt::Result {
    writeln!(out, "; {title}")?;
    let Some(layer) = view.layer else { return out.write_str(&print(graph)) };
    writeln!(out, "; block {layer} of graph @{}", graph.name)?;
    let mut nodes = graph.nodes().filter(|(_, node)| view.has_module(&node.module));
    nodes.try_for_each(|(id, _)| writeln!(out, "{}", statement(graph, id)))
}

fn head(plan: &PlanFacts, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "plan of format version {}, compiled by gptjc {}",
        plan.format_version, plan.compiler_version
    )?;
    let (model, options) = (&plan.model, &plan.options);
    writeln!(out, "\noptions")?;
    writeln!(
        out,
        "  model            GPT-J: n_layer {}, n_embd {}, n_head {}, rotary_dim {}, n_inner {}, vocab_size {}, \
         n_positions {}, layer_norm_epsilon {}; {} parameters, {} of them trained",
        model.n_layer,
        model.n_embd,
        model.n_head,
        model.rotary_dim,
        model.n_inner,
        model.vocab_size,
        model.n_positions,
        model.layer_norm_epsilon,
        quantity(model.parameters + if plan.lora.is_some() { model.trained_parameters } else { 0 }),
        quantity(model.trained_parameters)
    )?;
    match &plan.lora {
        Some(lora) => writeln!(
            out,
            "  trainable        lora: rank {}, alpha {}{}, dropout {}, on {}",
            lora.rank,
            lora.alpha,
            if lora.use_rslora { " (rsLoRA)" } else { "" },
            lora.dropout,
            lora.described
        )?,
        None => writeln!(out, "  trainable        all parameters")?,
    }
    writeln!(out, "  precision        {}", options.precision)?;
    if options.decode_sequences > 0 {
        let (sequences, slots) = (options.decode_sequences, options.decode_slots);
        writeln!(out, "  decode           {sequences} sequence(s), at most {slots} new token(s) a run")?;
    } else {
        writeln!(
            out,
            "  windows          at most {} tokens, packing {}",
            options.max_seq_length, options.packing
        )?;
        let (micro, step) = (options.micro_batch, options.step_windows);
        writeln!(out, "  windows at most  {micro} a micro-batch, {step} an optimizer step")?;
    }
    target(&plan.target, out)
}

fn target(target: &TargetFacts, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "  target           {}: kernels {}, {} socket(s) of {} NUMA node(s), {} core(s), {} thread(s), caches {} / {} / {}",
        target.name,
        target.isa,
        target.sockets,
        target.numa_nodes_per_socket,
        target.cores,
        target.threads,
        bytes(target.l1d_bytes),
        bytes(target.l2_bytes),
        bytes(target.l3_bytes)
    )?;
    writeln!(
        out,
        "  target memory    {} at {}, disk {}",
        bytes(target.memory_bytes),
        bytes_per_second(target.memory_bandwidth),
        bytes_per_second(target.disk_bandwidth)
    )?;
    writeln!(
        out,
        "  target peak      {} in f32, {} in bf16",
        flops_per_second(target.peak_f32),
        flops_per_second(target.peak_bf16)
    )
}
