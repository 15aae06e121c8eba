//! What a run took, beside what its plan expected: time by kind of kernel, and memory.

use super::summary::Totals;
use super::{Run, side_by_side};
use crate::html::markup::{self, Table, escape, number, px};
use crate::numbers::{bytes, percent, seconds, thousands};
use gptjc_runtime::record::{RunRecord, Session};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Seconds of an optimizer step: by kind of kernel, waiting for weights, and everything else.
struct StepTime {
    families: BTreeMap<String, f64>,
    waited: f64,
    whole: f64,
}

/// Where the time of optimizer steps went; none if no run has it.
pub(super) fn time(runs: &[Run]) -> Option<String> {
    let cards = side_by_side(runs, |run| {
        let record = run.record()?;
        measured(&record.sessions).map(|measured| time_of(record, &measured))
    })?;
    let lead = "Seconds of an optimizer step by kind of kernel, measured by the clock around every step of the plan, beside what \
                the plan predicts for windows that are full and labelled throughout: with masked prompts, vocabulary and loss \
                take less. Evaluations are not in it.";
    let mut out = String::new();
    markup::section(&mut out, "time", "Where the time went", lead, &cards);
    Some(out)
}

fn measured(sessions: &[Session]) -> Option<StepTime> {
    let totals = Totals::of(sessions);
    if totals.steps == 0 || sessions.iter().all(|session| session.families.is_empty()) {
        return None;
    }
    let steps = totals.steps as f64;
    let mut families = BTreeMap::new();
    for (name, time) in sessions.iter().flat_map(|session| &session.families) {
        *families.entry(name.clone()).or_insert(0.0) += time / steps;
    }
    let waited = sessions.iter().map(|session| session.waited).sum::<f64>() / steps;
    Some(StepTime { families, waited, whole: totals.step_seconds / steps })
}

fn time_of(record: &RunRecord, measured: &StepTime) -> String {
    let predicted = &record.facts.plan.families;
    let names: BTreeSet<&String> = measured.families.keys().chain(predicted.keys()).collect();
    let of = |times: &BTreeMap<String, f64>, name: &String| times.get(name).copied().unwrap_or(0.0);
    let mut rows: Vec<(&str, f64, f64)> = names
        .into_iter()
        .map(|name| (name.as_str(), of(&measured.families, name), of(predicted, name)))
        .collect();
    rows.push(("waiting for weights", measured.waited, record.facts.plan.wait_seconds));
    rows.retain(|row| row.1 > 0.0 || row.2 > 0.0);
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    let most = rows.iter().map(|row| row.1.max(row.2)).fold(0.0, f64::max).max(1e-12);
    let mut html = pair_legend("measured", "predicted");
    html.push_str("<div class=\"bars pairs\">");
    for (name, measured, predicted) in rows {
        pair(&mut html, name, [measured, predicted], most, seconds);
    }
    html.push_str("</div>");
    let (whole, expected) = (measured.whole, record.facts.plan.step_seconds);
    let named: f64 = measured.families.values().sum::<f64>() + measured.waited;
    let outside = (whole - named).max(0.0);
    let _ = write!(
        html,
        "<p class=\"note under\">An optimizer step took {} ({} of it outside of the plan's steps), predicted {}{}.</p>",
        seconds(whole),
        seconds(outside),
        if expected > 0.0 { seconds(expected) } else { "nothing".to_owned() },
        difference(whole, expected)
    );
    html
}

/// By how much a prediction is off: ` (+12.0 %)`.
fn difference(measured: f64, predicted: f64) -> String {
    if measured > 0.0 && predicted > 0.0 {
        format!(" ({:+.1} %)", 100.0 * (predicted / measured - 1.0))
    } else {
        String::new()
    }
}

/// Two bars under each other, with the first one's value.
fn pair(html: &mut String, name: &str, values: [f64; 2], most: f64, text: fn(f64) -> String) {
    let [first, second] = values.map(|value| px(100.0 * value / most));
    let texts = values.map(text);
    let name = escape(name);
    let _ = write!(
        html,
        "<div data-t=\"{name}: measured {0}, predicted {1}\"><span>{name}</span><u><i style=\"width:{first}%\"></i>\
         <i class=\"expected\" style=\"width:{second}%\"></i></u><b>{0}</b><em>{1}</em></div>",
        escape(&texts[0]),
        escape(&texts[1])
    );
}

fn pair_legend(first: &str, second: &str) -> String {
    format!(
        "<div class=\"legend\"><span><i class=\"dot c-measured\"></i>{first}</span><span><i class=\"dot c-expected\"></i>{second}\
         </span></div>"
    )
}

/// Memory; none if no run has it.
pub(super) fn memory(runs: &[Run]) -> Option<String> {
    let cards = side_by_side(runs, |run| {
        let record = run.record()?;
        (record.facts.plan.peak_bytes > 0).then(|| memory_of(record))
    })?;
    let lead = "The most memory that the process has had, as the system counted it (VmHWM), beside what the plan predicts for \
                training. Weights that are read through the page cache count while they are mapped.";
    let mut out = String::new();
    markup::section(&mut out, "memory", "Memory", lead, &cards);
    Some(out)
}

fn memory_of(record: &RunRecord) -> String {
    let plan = &record.facts.plan;
    let peak = Totals::of(&record.sessions).peak_bytes;
    let most = peak.unwrap_or(0).max(plan.peak_bytes) as f64;
    let mut html = pair_legend("measured", "predicted");
    html.push_str("<div class=\"bars pairs\">");
    let text: fn(f64) -> String = |value| if value > 0.0 { bytes(value as u64) } else { "–".to_owned() };
    pair(&mut html, "peak", [peak.unwrap_or(0) as f64, plan.peak_bytes as f64], most, text);
    html.push_str("</div>");
    let mut table = Table::new(&[("predicted part", 'l'), ("bytes", 'r'), ("share", 'r')]);
    for (name, size) in plan.memory.iter().filter(|(_, size)| *size > 0) {
        let share = *size as f64 / plan.peak_bytes as f64;
        table.row(&[escape(name), number(*size as f64, &bytes(*size)), number(share, &percent(share))]);
    }
    html.push_str(&table.finish());
    let budget =
        plan.budget_bytes.map(|budget| format!(" The budget was {}.", bytes(budget))).unwrap_or_default();
    let off = peak.map(|peak| difference(peak as f64, plan.peak_bytes as f64)).unwrap_or_default();
    let machine = match record.facts.machine.memory_bytes {
        0 => String::new(),
        all => format!(" The machine has {}.", bytes(all)),
    };
    let _ = write!(
        html,
        "<p class=\"note under\">Predicted {} ({} bytes){off}.{budget}{machine}</p>",
        bytes(plan.peak_bytes),
        thousands(plan.peak_bytes)
    );
    html
}
