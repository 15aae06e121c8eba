//! Passes that filetests of kind `pass` can name.

use crate::AnyError;
use gptjc_graphs::edit::retain_nodes;
use gptjc_graphs::graph::Graph;

/// What a pass does to a graph.
pub(crate) type PassFn = Box<dyn Fn(&mut Graph) -> Result<(), AnyError>>;

/// The pass of this name.
pub(crate) fn pass_by_name(name: &str) -> Option<PassFn> {
    match name {
        "renumber" => Some(Box::new(renumber)),
        _ => None,
    }
}

/// Rebuilds a graph as it is: inputs come first and ids are in order.
fn renumber(graph: &mut Graph) -> Result<(), AnyError> {
    *graph = retain_nodes(graph, |_| true)?.graph;
    Ok(())
}
