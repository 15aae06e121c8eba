//! Runs passes in order, verifies the graph after each, and keeps what they say.

use crate::CompileError;
use gptjc_graphs::graph::Graph;
use gptjc_graphs::verify::verify;
use serde::Serialize;

/// How the remark of a pass begins that says what it refused to do: `missed <what>: <reason>`.
pub const MISSED: &str = "missed ";

/// A rewrite of a graph.
pub trait Pass {
    /// Name, as in remarks and filetests.
    fn name(&self) -> &'static str;

    /// Rewrites `graph`. What it did goes to `remarks`, and what it refused to do, and why, after [`MISSED`].
    ///
    /// # Errors
    /// [`CompileError::Pass`] if the rewrite is impossible, which is an error of the compiler.
    fn run(&self, graph: &mut Graph, remarks: &mut Vec<String>) -> Result<(), CompileError>;
}

/// Size of a graph, as remarks give it before and after a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Nodes.
    pub nodes: usize,
    /// Floating-point operations at the bounds.
    pub flops: u64,
    /// Bytes of all results at the bounds.
    pub bytes: u64,
}

impl Size {
    /// The size of `graph`.
    pub fn of(graph: &Graph) -> Self {
        Self { nodes: graph.node_count(), flops: graph.flops(), bytes: graph.result_bytes() }
    }
}

/// What a pass did to a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassRecord {
    /// Name of the pass.
    pub pass: &'static str,
    /// The graph before.
    pub before: Size,
    /// The graph after.
    pub after: Size,
    /// What the pass itself had to say.
    pub remarks: Vec<String>,
}

impl PassRecord {
    /// One line if the pass changed the graph's size, and one for each of its own remarks.
    fn lines(&self, graph: &str) -> impl Iterator<Item = String> {
        let Self { pass, before, after, remarks } = self;
        let size = (before != after).then(|| {
            format!(
                "{graph}: {pass}: {} -> {} nodes, {} -> {} flops, {} -> {} bytes of results",
                before.nodes, after.nodes, before.flops, after.flops, before.bytes, after.bytes
            )
        });
        size.into_iter().chain(remarks.iter().map(move |remark| format!("{graph}: {pass}: {remark}")))
    }
}

/// Runs `passes` over `graph`, verifying it before the first and after each, and returns one remark for each pass that
/// changed its size, besides the passes' own.
///
/// # Errors
/// [`CompileError::Verify`] with the pass that broke the graph, or the passes' own errors.
pub fn run(passes: &[Box<dyn Pass>], graph: &mut Graph) -> Result<Vec<String>, CompileError> {
    let mut remarks = Vec::new();
    run_each(passes, graph, |record, graph| remarks.extend(record.lines(&graph.name)))?;
    Ok(remarks)
}

/// The same, giving `after_each` what each pass did and the graph after it.
///
/// # Errors
/// Those of [`run`].
pub fn run_each(
    passes: &[Box<dyn Pass>],
    graph: &mut Graph,
    mut after_each: impl FnMut(&PassRecord, &Graph),
) -> Result<(), CompileError> {
    check("construction", graph)?;
    let mut before = Size::of(graph);
    for pass in passes {
        let mut remarks = Vec::new();
        pass.run(graph, &mut remarks)?;
        check(pass.name(), graph)?;
        let after = Size::of(graph);
        after_each(&PassRecord { pass: pass.name(), before, after, remarks }, graph);
        before = after;
    }
    Ok(())
}

fn check(pass: &'static str, graph: &Graph) -> Result<(), CompileError> {
    verify(graph).map_err(|source| CompileError::Verify { pass, source: Box::new(source) })
}
