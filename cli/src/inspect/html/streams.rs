//! Weights that are streamed: when they are read, and how far ahead of their use.

use crate::html::markup::{Table, details, escape, legend, number, px, section, ticks};
use crate::inspect::View;
use crate::numbers::{bytes, seconds, thousands};
use gptjc_compiler::explain::{EntryReport, LoadRow};
use std::fmt::Write;

const WIDTH: f64 = 1120.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 12.0;
/// Loads that have a bar.
const MOST: usize = 400;

pub(super) fn write(view: &View<'_>, entry: &EntryReport, out: &mut String) {
    if entry.loads.is_empty() {
        return;
    }
    let memory = &view.report.memory;
    let late = entry.loads.iter().filter(|load| load.read_seconds > load.seconds_ahead).count();
    let lead = format!(
        "{} of weights stay in memory; {} a run of <code>{}</code> are read from the checkpoint into a region of {}, in {} \
         loads. Steps wait {} a run for them; {} loads take longer to read than the steps that run meanwhile.",
        bytes(memory.weight_bytes),
        bytes(entry.read_bytes),
        escape(&entry.name),
        bytes(memory.stream_bytes),
        thousands(entry.loads.len() as u64),
        seconds((entry.run_seconds - entry.cost.seconds).max(0.0)),
        thousands(late as u64)
    );
    let body = format!(
        "<div class=\"card wide\"><h3>Reading ahead</h3><p class=\"note\">A bar is a tensor in the stream region: from the step \
         after which it may be read to the step that first uses it. What begins at the left edge may begin during the run \
         before.</p>{}<div class=\"scroll\">{}</div></div>{}",
        legend(&[
            ("c-stream", "may be read"),
            ("c-backward", "may be read, but for less time than reading takes")
        ]),
        bars(entry),
        details("Every load", &table(&entry.loads), false)
    );
    section(out, "streams", "Weights in and out of memory", &lead, &body);
}

fn bars(entry: &EntryReport) -> String {
    let loads = &entry.loads[..entry.loads.len().min(MOST)];
    let row = (360.0 / loads.len() as f64).clamp(1.5, 14.0);
    let height = loads.len() as f64 * row;
    let steps = entry.steps.len().max(1) as f64;
    let x = |step: u32| LEFT + (WIDTH - LEFT - RIGHT) * f64::from(step) / steps;
    let mut svg =
        format!("<svg viewBox=\"0 0 {WIDTH} {}\" class=\"chart map\" role=\"img\">", px(height + 30.0));
    for tick in ticks(steps, 8, 10.0) {
        let (at, floor) = (px(x(tick as u32)), px(height));
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{at} 0V{floor}\"/><text class=\"m\" x=\"{at}\" y=\"{}\">{tick}</text>",
            px(height + 18.0)
        );
    }
    for (index, load) in loads.iter().enumerate() {
        let class = if load.read_seconds > load.seconds_ahead { "c-backward" } else { "c-stream" };
        let (left, right) = (x(load.after_step), x(load.before_step));
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{}\n{}, read in {}\nafter step {}, \
             before step {}: {} ahead</title></rect>",
            px(left),
            px(index as f64 * row),
            px((right - left).max(1.5)),
            px(row * 0.8),
            escape(&load.tensor),
            bytes(load.bytes),
            seconds(load.read_seconds),
            load.after_step,
            load.before_step,
            seconds(load.seconds_ahead)
        );
    }
    let _ =
        write!(svg, "<text class=\"r\" x=\"{}\" y=\"{}\">step</text></svg>", LEFT - 30.0, px(height + 18.0));
    svg
}

fn table(loads: &[LoadRow]) -> String {
    let mut table = Table::new(&[
        ("tensor", 'l'),
        ("bytes", 'r'),
        ("read after step", 'r'),
        ("of the previous run", 'r'),
        ("before step", 'r'),
        ("steps ahead", 'r'),
        ("time ahead", 'r'),
        ("reading takes", 'r'),
    ]);
    for load in loads {
        table.row(&[
            format!("<code>{}</code>", escape(&load.tensor)),
            number(load.bytes as f64, &bytes(load.bytes)),
            load.after_step.to_string(),
            load.previous_after_step.to_string(),
            load.before_step.to_string(),
            load.steps_ahead.to_string(),
            number(load.seconds_ahead, &seconds(load.seconds_ahead)),
            number(load.read_seconds, &seconds(load.read_seconds)),
        ]);
    }
    table.finish()
}
