//! What the passes did, and what they missed and why.

use crate::html::markup::{Table, details, escape, number, section};
use crate::inspect::View;
use crate::numbers::{bytes, flops, humane, thousands};
use gptjc_compiler::explain::{EntryReport, PassRow};
use std::collections::BTreeMap;
use std::fmt::Write;

pub(super) fn write(view: &View<'_>, out: &mut String) {
    let lead = "The training graph is built of primitive ops and differentiated; passes then rewrite it, each proved by the \
                interpreter. Nodes, FLOPs and bytes of all results, before and after.";
    let mut body = String::new();
    let trains = |entry: &EntryReport| entry.backward_from.is_some();
    let any = view.report.entries.iter().any(trains);
    for entry in &view.report.entries {
        let busy = entry.passes.iter().filter(|row| !row.is_idle()).count();
        let missed: usize = entry.passes.iter().map(|row| row.missed.len()).sum();
        let title = format!(
            "<code>{}</code> <span class=\"muted\">{} of {} passes changed it, {missed} missed</span>",
            escape(&entry.name),
            busy,
            entry.passes.len()
        );
        body.push_str(&details(&title, &rows(entry), trains(entry) || !any));
    }
    section(out, "passes", "What the passes did", lead, &body);
}

fn rows(entry: &EntryReport) -> String {
    let mut html = String::new();
    if !entry.graphs_match {
        html.push_str(
            "<p class=\"warn\">This version of gptjc would not make the plan's steps: passes and graphs are of this \
             version.</p>",
        );
    }
    let mut table = Table::new(&[
        ("pass", 'l'),
        ("nodes", 'r'),
        ("work", 'r'),
        ("bytes of results", 'r'),
        ("remarks", 'l'),
    ]);
    for row in &entry.passes {
        let PassRow { before, after, .. } = row;
        table.row(&[
            format!("<code>{}</code>", row.pass),
            change(before.nodes as u64, after.nodes as u64, thousands),
            change(before.flops, after.flops, |value| flops(value as f64)),
            change(before.bytes, after.bytes, bytes),
            remarks(row),
        ]);
    }
    html.push_str(&table.finish());
    html
}

fn change(before: u64, after: u64, text: impl Fn(u64) -> String) -> String {
    if before == after {
        return number(after as f64, &text(after));
    }
    let part = (after as f64 / before.max(1) as f64 - 1.0) * 100.0;
    let class = if part < 0.0 { "less" } else { "more" };
    let (before, end) = (escape(&text(before)), number(after as f64, &text(after)));
    if part.abs() < 0.05 {
        return format!("<span class=\"muted\">{before} →</span> {end}");
    }
    format!("<span class=\"muted\">{before} →</span> {end} <small class=\"{class}\">{part:+.1} %</small>")
}

fn remarks(row: &PassRow) -> String {
    let mut html = String::new();
    for applied in &row.applied {
        let _ = write!(html, "<p class=\"applied\">{}</p>", escape(&humane(applied)));
    }
    // The blocks of a model are alike, and so are the reasons.
    let mut alike: BTreeMap<(String, String), usize> = BTreeMap::new();
    for missed in &row.missed {
        *alike.entry((general(&missed.what), general(&missed.reason))).or_default() += 1;
    }
    for ((what, reason), count) in alike {
        let times = if count > 1 { format!("{count} × ") } else { String::new() };
        let _ = write!(html, "<p class=\"missed\">{times}missed {}: {}</p>", escape(&what), escape(&reason));
    }
    html
}

/// `text` without the numbers of blocks and values.
fn general(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['.', '%']) {
        let (head, tail) = rest.split_at(at + 1);
        out.push_str(head);
        let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
        let is_number = digits > 0 && (head.ends_with("h.") || head.ends_with('%'));
        if is_number {
            out.push('…');
        }
        rest = if is_number { &tail[digits..] } else { tail };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::general;

    #[test]
    fn reasons_of_alike_blocks_are_alike() {
        assert_eq!(
            general("of `transformer.h.12.attn`: `%3 = add %14`"),
            "of `transformer.h.….attn`: `%… = add %…`"
        );
        assert_eq!(general("rank 8 of 0.5"), "rank 8 of 0.5");
    }
}
