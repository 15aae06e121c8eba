//! A plan as one HTML page.

mod graph;
mod header;
mod job;
mod layered;
mod memory;
mod passes;
mod roofline;
mod steps;
mod streams;
mod time;

use super::View;
use crate::html;
use gptjc_compiler::explain::EntryReport;

/// The page.
pub(crate) fn render(view: &View<'_>) -> String {
    let wanted = view.graph_entry();
    let main = view.report.entries.iter().find(|entry| Some(entry.name.as_str()) == wanted);
    let mut body = String::new();
    header::write(view, &mut body);
    if let Some(entry) = main {
        navigation(entry, &mut body);
        body.push_str("<main>\n");
        time::write(view, entry, &mut body);
        memory::write(view, entry, &mut body);
        streams::write(view, entry, &mut body);
        roofline::write(view, entry, &mut body);
        passes::write(view, &mut body);
        graph::write(entry, &mut body);
        steps::write(entry, &mut body);
        job::write(view, &mut body);
        header::write_facts(view, &mut body);
        body.push_str("</main>\n");
    }
    html::page(&header::title(view), &body)
}

fn navigation(entry: &EntryReport, out: &mut String) {
    let streams = (!entry.loads.is_empty()).then_some(("streams", "Weights"));
    let sections = [("time", "Time"), ("memory", "Memory")].into_iter().chain(streams).chain([
        ("roofline", "Roofline"),
        ("passes", "Passes"),
        ("graphs", "Graphs"),
        ("steps", "Steps"),
        ("job", "Whole job"),
        ("facts", "Options"),
    ]);
    html::navigation(sections, out);
}
