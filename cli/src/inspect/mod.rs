//! How a plan is shown: one module a form.
//!
//! Does: lay out what [`gptjc_compiler::explain`] says, as text, DOT, JSON or one HTML page.
//! Does not: compute anything that is shown; read or write files.

pub(crate) mod dot;
pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod text;

use crate::flags::inspect::{EPOCHS, InspectJobFlags, LABELLED_SHARE, Show, WINDOWS};
use gptjc_compiler::explain::{Group, Job, Report};
use gptjc_graphs::plan::Plan;

/// What is to be shown of which plan.
pub(crate) struct View<'p> {
    /// The plan.
    pub(crate) plan: &'p Plan,
    /// Everything that can be said about it, or about one of its entry points.
    pub(crate) report: Report,
    /// The part to show.
    pub(crate) show: Show,
    /// The block to which graphs are limited.
    pub(crate) layer: Option<u32>,
    /// The entry point that was asked for.
    pub(crate) entry: Option<&'p str>,
}

impl<'p> View<'p> {
    /// Entry points whose graphs are shown: the one asked for, or the one that trains, or the last.
    pub(crate) fn graph_entry(&self) -> Option<&'p str> {
        let names = || self.plan.entries.iter().map(|entry| entry.name.as_str());
        self.entry.or_else(|| names().find(|&name| name == "micro_step")).or_else(|| names().next_back())
    }

    /// True if a node of `module` is shown.
    pub(crate) fn has_module(&self, module: &str) -> bool {
        self.layer.is_none_or(|layer| Group::of(module) == Group::Block(layer))
    }
}

/// The job with these flags.
pub(crate) fn job(flags: &InspectJobFlags) -> Job {
    Job {
        windows: flags.windows.unwrap_or(WINDOWS),
        epochs: flags.epochs.unwrap_or(EPOCHS),
        labelled_share: flags.labelled_share.unwrap_or(LABELLED_SHARE),
    }
}

#[cfg(test)]
mod tests;
