//! What can go wrong between options and plan.

use crate::MemoryNeed;
use gptjc_graphs::models::gptj::ModelError;
use gptjc_graphs::plan::verify::PlanError;
use gptjc_graphs::verify::VerifyError;

/// Options that cannot be compiled, or a pass that broke a graph.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The graphs cannot be built.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A pass left a graph that is not valid: an error of the compiler.
    #[error("after pass `{pass}`: {source}; this is an error in gptjc, please report it")]
    Verify {
        /// The pass.
        pass: &'static str,
        /// What does not hold.
        source: Box<VerifyError>,
    },
    /// A pass could not rewrite a graph: an error of the compiler.
    #[error("pass `{pass}`: {reason}; this is an error in gptjc, please report it")]
    Pass {
        /// The pass.
        pass: &'static str,
        /// Why.
        reason: String,
    },
    /// A graph that cannot be lowered: an error of the compiler.
    #[error("lowering graph `{graph}`: {reason}; this is an error in gptjc, please report it")]
    Lower {
        /// The graph.
        graph: String,
        /// Why.
        reason: String,
    },
    /// The plan that was made does not hold: an error of the compiler.
    #[error("the plan contradicts itself: {0}; this is an error in gptjc, please report it")]
    Plan(#[from] PlanError),
    /// The memory budget cannot be met.
    #[error(
        "the memory budget of {budget} bytes cannot be met: the least that works is {needed} bytes, with {}; {need}; \
         raise --memory-budget to at least that{}",
        shape_of(*.windows, *.tokens, *.blocks),
        if *.decodes { "" } else { ", or shorten --max-seq-length" }
    )]
    Budget {
        /// Bytes allowed.
        budget: u64,
        /// Windows of the micro-batch, or sequences, that need the least.
        windows: u64,
        /// Tokens of a window.
        tokens: u64,
        /// Blocks that are recomputed.
        blocks: usize,
        /// What they need.
        need: MemoryNeed,
        /// Sum of it.
        needed: u64,
        /// True if the plan was to decode.
        decodes: bool,
    },
    /// An option outside of its range.
    #[error("{option}: expected {expected}, found {found}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What it should have been.
        expected: String,
        /// What it was.
        found: String,
    },
}

fn shape_of(windows: u64, tokens: u64, blocks: usize) -> String {
    let recomputed = if blocks > 0 { format!(", {blocks} block(s) recomputed") } else { String::new() };
    format!("micro-batches of {windows} window(s) of {tokens} tokens{recomputed}")
}
