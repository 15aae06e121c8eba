//! A plan as JSON: the fields of [`Report`](gptjc_compiler::explain::Report), those of the part that is shown.
//!
//! `docs/inspect.md` is the schema.

use super::View;
use crate::error::CliError;
use crate::flags::inspect::Show;
use serde_json::{Map, Value};

/// Which parts have a field of the report. What is not listed is in every part.
const FIELDS: &[(&str, &[Show])] = &[
    ("memory", &[Show::Summary, Show::Memory, Show::Plan]),
    ("prediction", &[Show::Summary, Show::Costs]),
    ("job", &[Show::Summary, Show::Costs]),
    ("planner", &[Show::Summary, Show::Memory]),
    ("remarks", &[Show::Passes]),
];

/// Which parts have a field of an entry point.
const ENTRY_FIELDS: &[(&str, &[Show])] = &[
    ("kernels", &[Show::Costs]),
    ("groups", &[Show::Costs]),
    ("blocks", &[Show::Plan]),
    ("steps", &[Show::Plan]),
    ("arena", &[Show::Memory]),
    ("loads", &[Show::Memory, Show::Plan]),
    ("passes", &[Show::Passes]),
    ("graphs_match", &[Show::Graph, Show::Fused, Show::Passes]),
    ("training_graph", &[Show::Graph]),
    ("fused_graph", &[Show::Fused]),
];

/// Removes the fields that `show` does not have.
fn keep(fields: &mut Map<String, Value>, table: &[(&str, &[Show])], show: Show) {
    for (name, parts) in table {
        if !parts.iter().any(|&part| show.has(part)) {
            fields.remove(*name);
        }
    }
}

/// The JSON text.
pub(crate) fn render(view: &View<'_>) -> Result<String, CliError> {
    let failed = |source: serde_json::Error| CliError::Json(source.into());
    let mut value = serde_json::to_value(&view.report).map_err(failed)?;
    if let Some(fields) = value.as_object_mut() {
        keep(fields, FIELDS, view.show);
        if let Some(Value::Array(entries)) = fields.get_mut("entries") {
            for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
                keep(entry, ENTRY_FIELDS, view.show);
            }
        }
    }
    serde_json::to_string_pretty(&value).map_err(failed)
}
