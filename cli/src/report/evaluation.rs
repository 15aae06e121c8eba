//! What evaluations found: a table of all, and the answers of the last as a matrix.

use super::{Run, side_by_side};
use crate::html::markup::{self, Table, details, escape, number};
use crate::numbers::{percent, seconds, thousands};
use gptjc_runtime::record::{Answers, EvaluationRecord};
use gptjc_runtime::validate::mnli::{LABELS, UNKNOWN};
use std::fmt::Write;

/// The section; none if no run was evaluated.
pub(super) fn section(runs: &[Run]) -> Option<String> {
    if runs.iter().all(|run| run.found.evaluations().is_empty()) {
        return None;
    }
    let mut body = String::new();
    for run in runs {
        let evaluations = run.found.evaluations();
        let whose = if runs.len() > 1 { format!("{}: ", run.name) } else { String::new() };
        let title = match evaluations.len() {
            1 => format!("{whose}one evaluation"),
            count => format!("{whose}{count} evaluations"),
        };
        if !evaluations.is_empty() {
            body.push_str(&details(&escape(&title), &table(&evaluations), true));
        }
    }
    let mut matrices = String::new();
    for (mode, name) in [("score", "likeliest label"), ("generate", "written label")] {
        let cards = side_by_side(runs, |run| {
            let evaluations = run.found.evaluations();
            let (step, answers) = last(&evaluations, mode)?;
            let title = format!("{name}, after step {}", thousands(step));
            Some(format!("<h3>{}</h3>{}", escape(&title), matrix(answers)))
        });
        matrices.extend(cards);
    }
    // Of one run, the matrices stand side by side; of several, the runs do.
    let one = runs.len() == 1 && !matrices.is_empty();
    body.push_str(&if one { format!("<div class=\"columns\">{matrices}</div>") } else { matrices });
    let lead = "Rows that the model was not trained on. Intervals are Wilson's, at 95 % confidence. In a matrix, rows are labels \
                and columns are the model's answers.";
    let mut out = String::new();
    markup::section(&mut out, "evaluation", "Evaluation", lead, &body);
    Some(out)
}

/// The answers of the last evaluation that has some.
fn last<'e>(evaluations: &'e [EvaluationRecord], mode: &str) -> Option<(u64, &'e Answers)> {
    evaluations.iter().rev().find_map(|found| {
        let answers = found.answers.iter().find(|answers| answers.mode == mode)?;
        Some((found.step, answers))
    })
}

fn table(evaluations: &[EvaluationRecord]) -> String {
    let mut table = Table::new(&[
        ("step", 'r'),
        ("epoch", 'r'),
        ("loss", 'r'),
        ("perplexity", 'r'),
        ("accuracy", 'r'),
        ("95 % interval", 'r'),
        ("written", 'r'),
        ("95 % interval", 'r'),
        ("took", 'r'),
    ]);
    for found in evaluations {
        let metric = |name: &str, text: fn(f64) -> String| {
            found.metrics.get(name).map_or("–".to_owned(), |value| number(*value, &text(*value)))
        };
        let interval = |mode: &str| {
            let answers = found.answers.iter().find(|answers| answers.mode == mode);
            let interval = answers.and_then(|answers| answers.interval);
            interval.map_or("–".to_owned(), |[low, high]| format!("{} – {}", percent(low), percent(high)))
        };
        table.row(&[
            number(found.step as f64, &thousands(found.step)),
            format!("{:.2}", found.epoch),
            metric("eval_loss", |value| format!("{value:.4}")),
            metric("eval_perplexity", |value| format!("{value:.3}")),
            metric("eval_accuracy", percent),
            interval("score"),
            metric("eval_generated_accuracy", percent),
            interval("generate"),
            metric("eval_runtime", seconds),
        ]);
    }
    table.finish()
}

/// How much of its colour a cell with all rows of its label has: the text on it must stay readable.
const DARKEST: f64 = 45.0;

/// Counts by label and answer, each cell as dark as its share of the label's rows.
fn matrix(answers: &Answers) -> String {
    let mut html = "<div class=\"scroll\"><table class=\"matrix\"><thead><tr><th></th>".to_owned();
    for name in LABELS.iter().chain([&UNKNOWN]) {
        let _ = write!(html, "<th class=\"r\">{name}</th>");
    }
    html.push_str("<th class=\"r\">right</th></tr></thead><tbody>\n");
    for (label, (name, counts)) in LABELS.iter().zip(&answers.confusion).enumerate() {
        let all: u64 = counts.iter().sum();
        let _ = write!(html, "<tr><th>{name}</th>");
        for (answer, count) in counts.iter().enumerate() {
            let share = *count as f64 / all.max(1) as f64;
            let class = if answer == label { "hit" } else { "miss" };
            let _ = write!(
                html,
                "<td class=\"r {class}\" style=\"--share:{:.0}%\">{}<small>{}</small></td>",
                DARKEST * share,
                thousands(*count),
                percent(share)
            );
        }
        let right = counts[label] as f64 / all.max(1) as f64;
        let _ = writeln!(
            html,
            "<td class=\"r\">{}</td></tr>",
            if all == 0 { "–".to_owned() } else { percent(right) }
        );
    }
    let interval = answers
        .interval
        .map(|[low, high]| format!(", 95 % confidence {} to {}", percent(low), percent(high)));
    let accuracy = answers.correct as f64 / answers.counted.max(1) as f64;
    let _ = write!(
        html,
        "</tbody></table></div><p class=\"note under\">{} of {} rows right: {}{}</p>",
        thousands(answers.correct),
        thousands(answers.counted),
        percent(accuracy),
        interval.unwrap_or_default()
    );
    html
}
