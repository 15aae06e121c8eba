//! What each pass did to a graph, and what it refused to do.

use super::trace::Stage;
use crate::pass_manager::{MISSED, Size};
use serde::Serialize;

/// A pass over the graph of one entry point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassRow {
    /// Name of the pass.
    pub pass: &'static str,
    /// The graph before.
    pub before: Size,
    /// The graph after.
    pub after: Size,
    /// What it did.
    pub applied: Vec<String>,
    /// What it refused to do.
    pub missed: Vec<Missed>,
}

/// Something that a pass did not do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missed {
    /// What it is.
    pub what: String,
    /// Why it was not done.
    pub reason: String,
}

impl PassRow {
    /// True if the pass left the graph as it was.
    pub fn is_idle(&self) -> bool {
        self.before == self.after && self.applied.is_empty()
    }
}

/// The passes behind `stages`, in their order.
pub(super) fn of(stages: &[Stage]) -> Vec<PassRow> {
    stages
        .iter()
        .filter_map(|stage| stage.record.as_ref())
        .map(|record| {
            let (missed, applied): (Vec<&String>, Vec<&String>) =
                record.remarks.iter().partition(|remark| remark.starts_with(MISSED));
            PassRow {
                pass: record.pass,
                before: record.before,
                after: record.after,
                applied: applied.into_iter().cloned().collect(),
                missed: missed.into_iter().map(|remark| missed_of(remark)).collect(),
            }
        })
        .collect()
}

fn missed_of(remark: &str) -> Missed {
    let rest = remark.strip_prefix(MISSED).unwrap_or(remark);
    let (what, reason) = rest.split_once(": ").unwrap_or((rest, "no reason given"));
    Missed { what: what.to_owned(), reason: reason.to_owned() }
}
