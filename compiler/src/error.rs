//! What can go wrong between options and plan.

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
        "the memory budget of {budget} bytes cannot be met: with micro-batches of {micro_batch} window(s) of \
         {max_seq_length} tokens, weights take {weights} bytes, parameters and state {persistent}, temporaries {arena}: \
         {needed} in all; raise --memory-budget to at least that, or shorten --max-seq-length"
    )]
    Budget {
        /// Bytes allowed.
        budget: u64,
        /// Windows of the smallest micro-batch tried.
        micro_batch: u64,
        /// Tokens of a window.
        max_seq_length: u64,
        /// Bytes of the frozen weights.
        weights: u64,
        /// Bytes kept between runs.
        persistent: u64,
        /// Bytes of the arena.
        arena: u64,
        /// Sum of the three.
        needed: u64,
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
