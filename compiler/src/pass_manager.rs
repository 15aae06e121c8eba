//! Runs passes in order, verifies the graph after each, and keeps what they say.

use crate::CompileError;
use gptjc_graphs::graph::Graph;
use gptjc_graphs::verify::verify;

/// A rewrite of a graph.
pub trait Pass {
    /// Name, as in remarks and filetests.
    fn name(&self) -> &'static str;

    /// Rewrites `graph`. What it did or refused to do, and why, goes to `remarks`.
    ///
    /// # Errors
    /// [`CompileError::Pass`] if the rewrite is impossible, which is an error of the compiler.
    fn run(&self, graph: &mut Graph, remarks: &mut Vec<String>) -> Result<(), CompileError>;
}

/// Size of a graph, as remarks give it before and after a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    nodes: usize,
    flops: u64,
    bytes: u64,
}

impl Size {
    fn of(graph: &Graph) -> Self {
        Self { nodes: graph.node_count(), flops: graph.flops(), bytes: graph.result_bytes() }
    }
}

/// Runs `passes` over `graph`, verifying it before the first and after each, and returns one remark for each pass that
/// changed its size, besides the passes' own.
///
/// # Errors
/// [`CompileError::Verify`] with the pass that broke the graph, or the passes' own errors.
pub fn run(passes: &[Box<dyn Pass>], graph: &mut Graph) -> Result<Vec<String>, CompileError> {
    let mut remarks = Vec::new();
    check("construction", graph)?;
    for pass in passes {
        let before = Size::of(graph);
        let mut own = Vec::new();
        pass.run(graph, &mut own)?;
        check(pass.name(), graph)?;
        let after = Size::of(graph);
        if after != before {
            remarks.push(format!(
                "{}: {}: {} -> {} nodes, {} -> {} flops, {} -> {} bytes of results",
                graph.name,
                pass.name(),
                before.nodes,
                after.nodes,
                before.flops,
                after.flops,
                before.bytes,
                after.bytes
            ));
        }
        remarks.extend(own.into_iter().map(|remark| format!("{}: {}: {remark}", graph.name, pass.name())));
    }
    Ok(remarks)
}

fn check(pass: &'static str, graph: &Graph) -> Result<(), CompileError> {
    verify(graph).map_err(|source| CompileError::Verify { pass, source: Box::new(source) })
}
