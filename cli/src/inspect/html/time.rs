//! Where the time goes: by kernel, by part of the model, by entry point.

use crate::html::markup::{Table, details, escape, legend, number, px, section, share_bar, ticks};
use crate::inspect::View;
use crate::numbers::{bytes, flops, percent, seconds, thousands};
use gptjc_compiler::explain::{Cost, EntryReport, Group, GroupCost, KernelCost};
use std::fmt::Write;

/// Kernels that have a bar of their own.
const BARS: usize = 12;

pub(super) fn write(view: &View<'_>, entry: &EntryReport, out: &mut String) {
    let lead = format!(
        "One run of <code>{}</code> takes {} for {} in {} steps, with every slot used and every position labelled.",
        escape(&entry.name),
        seconds(entry.run_seconds.max(entry.cost.seconds)),
        flops(entry.cost.flops as f64),
        thousands(entry.cost.calls as u64)
    );
    let body = format!(
        "<div class=\"columns\"><div class=\"card\"><h3>By kernel</h3>{}</div><div class=\"card\"><h3>By part of the \
         model</h3>{}{}</div></div>{}",
        bars(&entry.kernels),
        columns(&entry.groups),
        legend(&[("c-forward", "forward"), ("c-backward", "backward")]),
        details("All entry points", &entries(view), view.report.entries.len() > 1)
    );
    section(out, "time", "Where the time goes", &lead, &body);
}

fn bars(kernels: &[KernelCost]) -> String {
    let mut html = "<div class=\"bars\">".to_owned();
    let most = kernels.first().map_or(0.0, |row| row.time_share).max(1e-12);
    let mut bar = |name: &str, cost: &Cost, share: f64| {
        let (name, width) = (escape(name), px(share / most * 100.0));
        let tip = format!("{} calls, {}, {}", cost.calls, flops(cost.flops as f64), bytes(cost.bytes));
        let _ = write!(
            html,
            "<div data-t=\"{}\"><span>{name}</span><u><i style=\"width:{width}%\"></i></u><b>{}</b><em>{}</em></div>",
            escape(&tip),
            seconds(cost.seconds),
            percent(share)
        );
    };
    kernels.iter().take(BARS).for_each(|row| bar(&row.kernel, &row.cost, row.time_share));
    let mut rest = Cost::default();
    kernels.iter().skip(BARS).for_each(|row| rest += row.cost);
    if kernels.len() > BARS {
        let share = kernels.iter().skip(BARS).map(|row| row.time_share).sum();
        bar(&format!("{} others", kernels.len() - BARS), &rest, share);
    }
    html.push_str("</div>");
    html
}

/// Names under the columns.
fn short(group: Group) -> String {
    match group {
        Group::Embedding => "emb".to_owned(),
        Group::Block(layer) => layer.to_string(),
        Group::Head => "head".to_owned(),
        Group::Other => "other".to_owned(),
    }
}

/// One column a part of the model, forward and backward on top of each other.
fn columns(groups: &[GroupCost]) -> String {
    const SIZE: (f64, f64) = (560.0, 260.0);
    const LEFT: f64 = 54.0;
    const BOTTOM: f64 = 24.0;
    let most = groups.iter().map(|row| row.forward.seconds + row.backward.seconds).fold(0.0, f64::max);
    let plot = (SIZE.0 - LEFT - 4.0, SIZE.1 - BOTTOM - 10.0);
    let y = |value: f64| 10.0 + plot.1 * (1.0 - value / if most > 0.0 { most } else { 1.0 });
    let mut svg = format!("<svg viewBox=\"0 0 {} {}\" class=\"chart\" role=\"img\">", SIZE.0, SIZE.1);
    for tick in ticks(most, 4, 10.0) {
        let at = px(y(tick));
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {at}H{}\"/><text class=\"r\" x=\"{}\" y=\"{at}\" dy=\"4\">{}</text>",
            SIZE.0,
            LEFT - 6.0,
            seconds(tick)
        );
    }
    let width = plot.0 / groups.len().max(1) as f64;
    let every = (22.0 / width).ceil().max(1.0) as usize;
    for (index, row) in groups.iter().enumerate() {
        let left = LEFT + index as f64 * width;
        let mut below = 0.0;
        for (class, cost) in [("c-forward", row.forward), ("c-backward", row.backward)] {
            let (top, bottom) = (y(below + cost.seconds), y(below));
            below += cost.seconds;
            let name = if class == "c-forward" { "forward" } else { "backward" };
            let (time, work) = (seconds(cost.seconds), flops(cost.flops as f64));
            let _ = write!(
                svg,
                "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{}, {name}: {time}, {work}, {} \
                 steps</title></rect>",
                px(left + width * 0.1),
                px(top),
                px(width * 0.8),
                px(bottom - top),
                row.group,
                cost.calls
            );
        }
        let is_block = matches!(row.group, Group::Block(_));
        if !is_block && (row.forward.seconds + row.backward.seconds) < most * 0.02 && width < 30.0 {
            continue;
        }
        let next_is_named = groups.get(index + 1).is_some_and(|next| !matches!(next.group, Group::Block(_)));
        if !is_block || (index % every == 0 && !(next_is_named && width < 26.0)) {
            let (x, y) = (px(left + width / 2.0), SIZE.1 - 8.0);
            let _ = write!(svg, "<text class=\"m\" x=\"{x}\" y=\"{y}\">{}</text>", short(row.group));
        }
    }
    svg.push_str("</svg>");
    svg
}

fn entries(view: &View<'_>) -> String {
    let mut table = Table::new(&[
        ("entry point", 'l'),
        ("steps", 'r'),
        ("work", 'r'),
        ("bytes moved", 'r'),
        ("read from checkpoint", 'r'),
        ("temporaries live", 'r'),
        ("predicted", 'r'),
        ("share", 'l'),
    ]);
    let all: f64 = view.report.entries.iter().map(|entry| entry.run_seconds).sum();
    for entry in &view.report.entries {
        let share = if all > 0.0 { entry.run_seconds / all } else { 0.0 };
        table.row(&[
            format!("<code>{}</code>", escape(&entry.name)),
            number(entry.cost.calls as f64, &thousands(entry.cost.calls as u64)),
            number(entry.cost.flops as f64, &flops(entry.cost.flops as f64)),
            number(entry.cost.bytes as f64, &bytes(entry.cost.bytes)),
            number(entry.read_bytes as f64, &bytes(entry.read_bytes)),
            number(entry.live_bytes as f64, &bytes(entry.live_bytes)),
            number(entry.run_seconds, &seconds(entry.run_seconds)),
            share_bar(share, &percent(share)),
        ]);
    }
    table.finish()
}
