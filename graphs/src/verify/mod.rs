//! What must hold of every graph, proved from scratch after each pass in tests and debug builds.
//!
//! 1. *Definitions.* Each value is defined once, by the input or the node that it names as its definition; there is no
//!    value that nothing defines.
//! 2. *Order.* A node reads values that an input or an earlier node defines.
//! 3. *Types.* A node's results have the types that its op infers from the operands' types.
//! 4. *Names.* No two inputs have one name, and no two outputs.
//! 5. *Updates.* An output that bears the name of an input is that input's new content: the input is a parameter or a
//!    state, the types are equal, and the output is the result of a node. The last keeps inputs apart: an output that
//!    is an input unchanged has no work to do, and one that is another input would make two tensors one.
//! 6. *Bounds.* An extent has one bound throughout a graph: there is one number of slots in a micro-batch, so there is
//!    one most.
//!
//! Modules are labels for people; nothing is asked of them. The graph's own bookkeeping is not trusted: nothing here
//! uses that [`Graph::push`](crate::graph::Graph::push) would have refused.

mod checks;

use crate::entities::ValueId;
use crate::graph::Graph;
use std::fmt;

/// Which of the invariants is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    /// Each value is defined once, by what it says defines it.
    Definitions,
    /// Values are defined before they are read.
    Order,
    /// Types are those that ops infer.
    Types,
    /// Names are unique.
    Names,
    /// Outputs named as an input can replace it.
    Updates,
    /// An extent has one bound.
    Bounds,
}

/// Where in a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// No place of its own.
    Graph,
    /// The input of this name.
    Input(String),
    /// The node with this statement.
    Node(String),
    /// The output of this name.
    Output(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Graph => Ok(()),
            Place::Input(name) => write!(f, ", input `{name}`"),
            Place::Node(statement) => write!(f, ", at `{statement}`"),
            Place::Output(name) => write!(f, ", output `{name}`"),
        }
    }
}

/// A graph that breaks an invariant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("in graph `{graph}`{place}{of_value}: expected {expected}, found {found}", of_value = self.of_value())]
pub struct VerifyError {
    /// Name of the graph.
    pub graph: String,
    /// What is broken.
    pub invariant: Invariant,
    /// Where.
    pub place: Place,
    /// The value at fault, if it is one.
    pub value: Option<ValueId>,
    /// What must be.
    pub expected: String,
    /// What is.
    pub found: String,
}

impl VerifyError {
    fn of_value(&self) -> String {
        self.value.map(|value| format!(", value {value}")).unwrap_or_default()
    }
}

/// Proves the invariants of this module for `graph`.
///
/// # Errors
/// [`VerifyError`] for the first violation, in the order inputs, nodes, values, outputs.
pub fn verify(graph: &Graph) -> Result<(), VerifyError> {
    let mut defined = checks::Defined::new(graph);
    checks::inputs(graph, &mut defined)?;
    checks::nodes(graph, &mut defined)?;
    checks::all_defined(graph, &defined)?;
    checks::bounds(graph)?;
    checks::outputs(graph, &defined)
}

#[cfg(test)]
mod tests;
