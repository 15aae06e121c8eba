//! A graph with its nodes in another order.

use gptjc_graphs::entities::{Entity, NodeId, ValueId};
use gptjc_graphs::graph::{Graph, GraphError};

/// Copies `graph` with its nodes in `order`, which has every node once, behind those that it reads from.
///
/// # Errors
/// [`GraphError`] if a node does not type-check, as it does when an operand comes too late.
pub(crate) fn reorder(graph: &Graph, order: &[NodeId]) -> Result<Graph, GraphError> {
    let mut new = Graph::new(&graph.name);
    let mut values: Vec<Option<ValueId>> = vec![None; graph.value_count()];
    for input in graph.inputs() {
        let value = new.input(&input.name, input.role, graph.ty(input.value).clone())?;
        values[input.value.index()] = Some(value);
    }
    for &id in order {
        let node = graph.node(id);
        new.set_module(&node.module);
        let operands: Vec<ValueId> =
            node.operands.iter().filter_map(|operand| values[operand.index()]).collect();
        let copy = new.push(node.op.clone(), &operands)?;
        for (old, &value) in node.results.iter().zip(&new.node(copy).results) {
            values[old.index()] = Some(value);
        }
    }
    for output in graph.outputs() {
        if let Some(value) = values[output.value.index()] {
            new.output(&output.name, value);
        }
    }
    Ok(new)
}
