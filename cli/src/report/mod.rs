//! Runs as one HTML page: what they were, how they went, what they took.
//!
//! Does: lay out what [`gptjc_runtime::record::Collected`] read, of one run or of several side by side. What a run did not
//! leave is not shown, and the page says so.
//! Does not: read or write files.

mod cost;
mod curves;
mod evaluation;
mod facts;
mod summary;

use crate::html::{self, markup::escape};
use gptjc_runtime::record::{Collected, RunRecord, Session};
use std::fmt::Write;

/// A run with its name on the page.
pub(crate) struct Run {
    /// What the page calls it: the end of its directory's path.
    pub(crate) name: String,
    /// What it left.
    pub(crate) found: Collected,
}

impl Run {
    fn record(&self) -> Option<&RunRecord> {
        self.found.record.as_ref()
    }

    fn sessions(&self) -> &[Session] {
        self.record().map_or(&[], |record| &record.sessions)
    }

    /// Number of its colour among `runs`.
    fn colour(index: usize) -> usize {
        index % html::chart::COLOURS
    }
}

/// Makes a section of the page; none if the runs left nothing for it.
type Part = fn(&[Run]) -> Option<String>;

/// Names for directories, as short as they can be told apart by: the last part of each path, or all of it.
pub(crate) fn named(runs: Vec<Collected>) -> Vec<Run> {
    let last =
        |found: &Collected| found.directory.file_name().map(|name| name.to_string_lossy().into_owned());
    let whole = |found: &Collected| found.directory.display().to_string();
    let names: Vec<String> = runs.iter().map(|found| last(found).unwrap_or_else(|| whole(found))).collect();
    let unique = names.iter().enumerate().all(|(index, name)| !names[..index].contains(name));
    let name =
        |(found, name): (Collected, String)| Run { name: if unique { name } else { whole(&found) }, found };
    runs.into_iter().zip(names).map(name).collect()
}

/// The page about `runs`, of which there is at least one.
pub(crate) fn render(runs: &[Run]) -> String {
    let mut body = String::new();
    summary::write(runs, &mut body);
    let mut sections = Vec::new();
    let mut main = String::new();
    if runs.len() > 1 {
        sections.push(("runs", "Runs"));
        summary::compare(runs, &mut main);
    }
    let parts: [(&str, &str, Part); 5] = [
        ("curves", "Curves", curves::section),
        ("evaluation", "Evaluation", evaluation::section),
        ("time", "Time", cost::time),
        ("memory", "Memory", cost::memory),
        ("facts", "Run", facts::section),
    ];
    for (id, name, part) in parts {
        if let Some(section) = part(runs) {
            sections.push((id, name));
            main.push_str(&section);
        }
    }
    html::navigation(sections, &mut body);
    let _ = write!(body, "<main>\n{}{main}</main>\n", missing(runs));
    html::page(&title(runs), &body)
}

fn title(runs: &[Run]) -> String {
    match runs {
        [run] => format!("Training run {}", run.name),
        _ => format!("{} training runs", runs.len()),
    }
}

/// What the runs did not leave.
fn missing(runs: &[Run]) -> String {
    let mut items = String::new();
    for run in runs {
        for gap in &run.found.missing {
            let whose = if runs.len() > 1 { format!("{}: ", run.name) } else { String::new() };
            let _ = write!(items, "<p class=\"missed\">{}{}</p>", escape(&whose), escape(gap));
        }
    }
    if items.is_empty() {
        items
    } else {
        format!("<section id=\"missing\"><div class=\"card\">{items}</div></section>\n")
    }
}

/// Pieces side by side, a run each, with the runs' names if there are several; none if there is no piece.
fn side_by_side(runs: &[Run], piece: impl Fn(&Run) -> Option<String>) -> Option<String> {
    let cards: Vec<String> = runs
        .iter()
        .filter_map(|run| {
            let title =
                if runs.len() > 1 { format!("<h3>{}</h3>", escape(&run.name)) } else { String::new() };
            piece(run).map(|piece| format!("<div class=\"card\">{title}{piece}</div>"))
        })
        .collect();
    match cards.as_slice() {
        [] => None,
        [one] if runs.len() == 1 => Some(one.clone()),
        _ => Some(format!("<div class=\"columns\">{}</div>", cards.concat())),
    }
}

#[cfg(test)]
mod tests;
