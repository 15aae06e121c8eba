//! The head of the page: what the plan is for, and its few numbers that matter; and at the end all options.

use crate::html::markup::{escape, grid, section, tile};
use crate::inspect::View;
use crate::numbers::{
    bytes, bytes_per_second, flops, flops_per_second, percent, quantity, seconds, thousands,
};
use gptjc_compiler::explain::{PlanFacts, Report};
use std::fmt::Write;

/// The title of the page.
pub(super) fn title(view: &View<'_>) -> String {
    let model = &view.report.plan.model;
    format!("GPT-J, {} blocks of {}: plan", model.n_layer, model.n_embd)
}

/// What the plan does, in a line.
fn purpose(plan: &PlanFacts) -> String {
    let options = &plan.options;
    let trained = match &plan.lora {
        Some(lora) => format!("LoRA of rank {} on {}", lora.rank, lora.described),
        None => "all parameters trained".to_owned(),
    };
    let windows = if options.decode_sequences > 0 {
        format!("{} sequences continued", options.decode_sequences)
    } else {
        let (micro, step) = (options.micro_batch, options.step_windows);
        format!(
            "micro-batches of {micro} × {} tokens, {step} windows an optimizer step",
            options.max_seq_length
        )
    };
    format!("{trained} · {} · {windows}", options.precision)
}

pub(super) fn write(view: &View<'_>, out: &mut String) {
    let plan = &view.report.plan;
    let (model, target) = (&plan.model, &plan.target);
    let _ = write!(
        out,
        "<header><div><p class=\"eyebrow\">gptjc plan · compiled for {} ({}, {} cores)</p><h1>GPT-J · {} parameters</h1>\
         <p class=\"purpose\">{}</p><div class=\"tiles\">",
        escape(&target.name),
        escape(&target.isa),
        target.cores,
        quantity(model.parameters),
        escape(&purpose(plan))
    );
    tiles(&view.report, out);
    out.push_str("</div></div></header>\n");
}

fn tiles(report: &Report, out: &mut String) {
    let memory = &report.memory;
    let case = report.job.as_ref().and_then(|job| job.cases.first());
    if let (Some(expected), Some(case)) = (&report.prediction, case) {
        let note = format!(
            "{} micro-steps; {} waiting for weights",
            expected.micro_steps,
            seconds(expected.wait_seconds)
        );
        tile(out, "Optimizer step", &seconds(expected.seconds), &note);
        let note = format!("{} of the target's peak", percent(case.share_of_peak));
        tile(out, "Throughput", &format!("{:.1} tokens/s", case.tokens_per_second), &note);
    }
    let share = memory.peak_bytes as f64 / memory.budget_bytes.max(1) as f64;
    let whose = if memory.budget_given { "budget" } else { "memory" };
    let note = format!("{} of the {whose} of {}", percent(share), bytes(memory.budget_bytes));
    tile(out, "Peak memory", &bytes(memory.peak_bytes), &note);
    if let (Some(job), Some(case)) = (&report.job, case) {
        let note = format!("{} of it attention", flops(case.attention_flops_per_token));
        tile(out, "Work a token", &flops(case.flops_per_token), &note);
        let note = format!("{} tokens, {} steps", quantity(job.tokens), thousands(job.optimizer_steps));
        tile(out, "Whole job", &seconds(case.seconds), &note);
    } else if let Some(entry) = report.entries.last() {
        tile(out, "Steps", &thousands(entry.cost.calls as u64), &format!("in {}", entry.name));
        tile(out, "A run", &seconds(entry.run_seconds), &flops(entry.cost.flops as f64));
    }
}

fn model(plan: &PlanFacts) -> String {
    let model = &plan.model;
    grid(
        "Model",
        &[
            ("n_layer", model.n_layer.to_string()),
            ("n_embd", model.n_embd.to_string()),
            ("n_head", model.n_head.to_string()),
            ("rotary_dim", model.rotary_dim.to_string()),
            ("n_inner", model.n_inner.to_string()),
            ("vocab_size", thousands(model.vocab_size)),
            ("n_positions", model.n_positions.to_string()),
            ("layer_norm_epsilon", format!("{:e}", model.layer_norm_epsilon)),
            ("parameters", thousands(model.parameters)),
            ("trained", thousands(model.trained_parameters)),
        ],
    )
}

fn options(view: &View<'_>) -> String {
    let (plan, memory) = (&view.report.plan, &view.report.memory);
    let options = &plan.options;
    let mut pairs = vec![("precision", options.precision.clone()), ("packing", options.packing.clone())];
    if let Some(lora) = &plan.lora {
        let kind = if lora.use_rslora { "α / √r" } else { "α / r" };
        pairs.extend([
            ("LoRA rank", lora.rank.to_string()),
            ("LoRA alpha", lora.alpha.to_string()),
            ("LoRA scaling", format!("{} ({kind})", lora.scaling)),
            ("LoRA dropout", lora.dropout.to_string()),
            ("LoRA on", lora.described.clone()),
        ]);
    }
    pairs.extend([
        ("tokens of a window", options.max_seq_length.to_string()),
        ("windows of a micro-batch", options.micro_batch.to_string()),
        ("windows of a batch", options.per_device_train_batch_size.to_string()),
        ("windows of an optimizer step", options.step_windows.to_string()),
        (
            "memory budget",
            if memory.budget_given { bytes(memory.budget_bytes) } else { "not given".to_owned() },
        ),
        ("plan format", plan.format_version.to_string()),
        ("compiled by", format!("gptjc {}", plan.compiler_version)),
    ]);
    grid("Options", &pairs)
}

fn target(plan: &PlanFacts) -> String {
    let target = &plan.target;
    grid(
        "Target",
        &[
            ("name", target.name.clone()),
            ("kernels", target.isa.clone()),
            ("sockets", target.sockets.to_string()),
            ("NUMA nodes of a socket", target.numa_nodes_per_socket.to_string()),
            ("cores", target.cores.to_string()),
            ("threads", target.threads.to_string()),
            ("L1d of a core", bytes(target.l1d_bytes)),
            ("L2 of a core", bytes(target.l2_bytes)),
            ("last-level cache", bytes(target.l3_bytes)),
            ("memory", bytes(target.memory_bytes)),
            ("memory bandwidth", bytes_per_second(target.memory_bandwidth)),
            ("disk bandwidth", bytes_per_second(target.disk_bandwidth)),
            ("peak in f32", flops_per_second(target.peak_f32)),
            ("peak in bf16", flops_per_second(target.peak_bf16)),
        ],
    )
}

/// All options, at the end of the page.
pub(super) fn write_facts(view: &View<'_>, out: &mut String) {
    let plan = &view.report.plan;
    let body = format!("<div class=\"columns three\">{}{}{}</div>", model(plan), options(view), target(plan));
    section(out, "facts", "What it was compiled for", "", &body);
}
