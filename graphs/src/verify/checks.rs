//! The proofs, in the order of the data.

use super::{Invariant, Place, VerifyError};
use crate::entities::{Entity, NodeId, ValueId};
use crate::graph::{Definition, Graph, Node, Output};
use crate::shape::{Extent, TensorType};
use crate::text::statement;
use std::collections::{HashMap, HashSet};

/// Which values are defined so far.
pub(super) struct Defined(Vec<bool>);

impl Defined {
    pub(super) fn new(graph: &Graph) -> Self {
        Self(vec![false; graph.value_count()])
    }

    fn contains(&self, value: ValueId) -> bool {
        self.0.get(value.index()).is_some_and(|&defined| defined)
    }

    /// Notes that `definition` defines `value`, and proves that it does so alone and that the value says so.
    fn define(
        &mut self,
        graph: &Graph,
        value: ValueId,
        definition: Definition,
        place: &Place,
    ) -> Result<(), VerifyError> {
        let error = |expected: &str, found: String| {
            Err(error(graph, Invariant::Definitions, place.clone(), Some(value), expected, found))
        };
        let Some(known) = graph.get_value(value) else {
            return error("a value of this graph", format!("one of {} values", graph.value_count()));
        };
        if std::mem::replace(&mut self.0[value.index()], true) {
            return error("a value with one definition", "a second one".to_owned());
        }
        if known.definition != definition {
            return error(&format!("the value to be {definition:?}"), format!("{:?}", known.definition));
        }
        Ok(())
    }
}

fn error(
    graph: &Graph,
    invariant: Invariant,
    place: Place,
    value: Option<ValueId>,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> VerifyError {
    let (graph, expected, found) = (graph.name.clone(), expected.into(), found.into());
    VerifyError { graph, invariant, place, value, expected, found }
}

/// Definitions and names of the inputs.
pub(super) fn inputs(graph: &Graph, defined: &mut Defined) -> Result<(), VerifyError> {
    let mut names = HashSet::new();
    for (index, input) in graph.inputs().iter().enumerate() {
        let place = Place::Input(input.name.clone());
        if !names.insert(&input.name) {
            let (expected, found) = ("an input with a name of its own", "a second input of this name");
            return Err(error(graph, Invariant::Names, place, Some(input.value), expected, found));
        }
        defined.define(graph, input.value, Definition::Input(index), &place)?;
    }
    Ok(())
}

/// Order, types and definitions of the nodes.
pub(super) fn nodes(graph: &Graph, defined: &mut Defined) -> Result<(), VerifyError> {
    for (id, node) in graph.nodes() {
        for &operand in &node.operands {
            if !defined.contains(operand) {
                let found = match graph.get_value(operand) {
                    Some(_) => "a value that is defined later or not at all",
                    None => "a value that is not of this graph",
                };
                let (place, expected) =
                    (at(graph, id), "an operand that an input or an earlier node defines");
                return Err(error(graph, Invariant::Order, place, Some(operand), expected, found));
            }
        }
        for (index, &result) in node.results.iter().enumerate() {
            defined.define(graph, result, Definition::Result(id, index), &at(graph, id))?;
        }
        types(graph, id, node)?;
    }
    Ok(())
}

fn at(graph: &Graph, node: NodeId) -> Place {
    Place::Node(statement(graph, node))
}

fn types(graph: &Graph, id: NodeId, node: &Node) -> Result<(), VerifyError> {
    let inferred = node.op.infer(&graph.operand_types(node)).map_err(|refusal| {
        let expected = format!("operands that `{}` takes", node.op.name());
        error(graph, Invariant::Types, at(graph, id), None, expected, format!("an error: {refusal}"))
    })?;
    let found = graph.result_types(node);
    if inferred.len() != found.len() {
        let (expected, found) = (format!("{} results", inferred.len()), found.len().to_string());
        return Err(error(graph, Invariant::Types, at(graph, id), None, expected, found));
    }
    for (&value, (inferred, found)) in node.results.iter().zip(inferred.iter().zip(found)) {
        if inferred != found {
            let (expected, found) = (inferred.to_string(), found.to_string());
            return Err(error(graph, Invariant::Types, at(graph, id), Some(value), expected, found));
        }
    }
    Ok(())
}

/// No value that nothing defines.
pub(super) fn all_defined(graph: &Graph, defined: &Defined) -> Result<(), VerifyError> {
    let orphan = (0..graph.value_count()).map(ValueId::new).find(|&value| !defined.contains(value));
    match orphan {
        None => Ok(()),
        Some(value) => {
            let (expected, found) = ("an input or a node that defines it", "none");
            Err(error(graph, Invariant::Definitions, Place::Graph, Some(value), expected, found))
        }
    }
}

/// One bound an extent.
pub(super) fn bounds(graph: &Graph) -> Result<(), VerifyError> {
    let mut first: HashMap<Extent, (ValueId, usize)> = HashMap::new();
    for value in (0..graph.value_count()).map(ValueId::new) {
        for dim in graph.ty(value).dims.iter().filter(|dim| dim.extent != Extent::Fixed) {
            let &mut (earlier, bound) = first.entry(dim.extent).or_insert((value, dim.bound));
            if bound != dim.bound {
                let expected = format!("{}:{bound}, as {earlier} has it", dim.extent.name());
                let place = match graph.value(value).definition {
                    Definition::Input(index) => Place::Input(graph.inputs()[index].name.clone()),
                    Definition::Result(node, _) => at(graph, node),
                };
                return Err(error(graph, Invariant::Bounds, place, Some(value), expected, dim.to_string()));
            }
        }
    }
    Ok(())
}

/// Names and updates.
pub(super) fn outputs(graph: &Graph, defined: &Defined) -> Result<(), VerifyError> {
    let mut names = HashSet::new();
    for output in graph.outputs() {
        let fail = |invariant, expected: &str, found: &str| {
            Err(error(
                graph,
                invariant,
                Place::Output(output.name.clone()),
                Some(output.value),
                expected,
                found,
            ))
        };
        if !names.insert(&output.name) {
            return fail(
                Invariant::Names,
                "an output with a name of its own",
                "a second output of this name",
            );
        }
        if !defined.contains(output.value) {
            return fail(Invariant::Order, "a value of this graph", "one that nothing defines");
        }
        if let Err((expected, found)) = update(graph, output) {
            return fail(Invariant::Updates, &expected, &found);
        }
    }
    Ok(())
}

/// An output can be the new content of the input whose name it bears; if not, what was expected and found.
fn update(graph: &Graph, output: &Output) -> Result<(), (String, String)> {
    let Some(input) = graph.find_input(&output.name) else { return Ok(()) };
    if !input.role.is_updated() {
        let expected = "a name that is no input's, or that of a parameter or a state";
        return Err((expected.to_owned(), format!("that of a {} input", input.role.name())));
    }
    let (expected, found): (&TensorType, &TensorType) = (graph.ty(input.value), graph.ty(output.value));
    if expected != found {
        return Err((format!("{expected}, the type of the input of this name"), found.to_string()));
    }
    match graph.value(output.value).definition {
        Definition::Result(..) => Ok(()),
        Definition::Input(index) => {
            let found = format!("the input `{}`", graph.inputs()[index].name);
            Err(("the result of a node as the input's new content".to_owned(), found))
        }
    }
}
