//! Passes that filetests of kind `pass` can name: the compiler's, by the names of its pipeline, and the rebuilding of a
//! graph that they rest on.

use crate::AnyError;
use gptjc_compiler::{pass_manager, pipeline};
use gptjc_graphs::edit::retain_nodes;
use gptjc_graphs::graph::Graph;

/// Rewrites a graph and returns its remarks.
pub(crate) type PassFn = Box<dyn Fn(&mut Graph) -> Result<Vec<String>, AnyError>>;

/// The pass of this name.
pub(crate) fn pass_by_name(name: &str) -> Option<PassFn> {
    if name == "renumber" {
        return Some(Box::new(renumber));
    }
    let pass = [pipeline::pass_by_name(name)?];
    Some(Box::new(move |graph| Ok(pass_manager::run(&pass, graph)?)))
}

/// Rebuilds a graph as it is: inputs come first and ids are in order.
fn renumber(graph: &mut Graph) -> Result<Vec<String>, AnyError> {
    *graph = retain_nodes(graph, |_| true)?.graph;
    Ok(Vec::new())
}
