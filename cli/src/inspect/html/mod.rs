//! A plan as one HTML page: nothing outside of it is needed, and it can be read without JavaScript.
//!
//! Colours and fonts are in `style.css`, what moves in `page.js`; both are put into the page.

mod graph;
mod header;
mod job;
mod layered;
mod markup;
mod memory;
mod passes;
mod roofline;
mod steps;
mod streams;
mod time;

use super::View;
use gptjc_compiler::explain::EntryReport;
use markup::escape;
use std::fmt::Write;

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
    page(&header::title(view), &body)
}

fn navigation(entry: &EntryReport, out: &mut String) {
    out.push_str("<nav><div>");
    let streams = (!entry.loads.is_empty()).then_some(("streams", "Weights"));
    let sections = [("time", "Time"), ("memory", "Memory")].into_iter().chain(streams).chain([
        ("roofline", "Roofline"),
        ("passes", "Passes"),
        ("graphs", "Graphs"),
        ("steps", "Steps"),
        ("job", "Whole job"),
        ("facts", "Options"),
    ]);
    for (id, name) in sections {
        let _ = write!(out, "<a href=\"#{id}\">{name}</a>");
    }
    out.push_str("<button id=\"theme\" type=\"button\" hidden>light / dark</button></div></nav>\n");
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{}</title>\n<style>\n{}</style></head>\n<body>\n{body}\
         <div id=\"tip\" hidden></div>\n<script>\n{}</script>\n</body></html>\n",
        escape(title),
        include_str!("style.css"),
        include_str!("page.js")
    )
}
