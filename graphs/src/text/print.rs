//! Prints graphs.

use super::lexer::{Quoted, is_word};
use crate::entities::NodeId;
use crate::graph::Graph;
use std::fmt;

/// Longest `return` that is printed on one line.
const LINE: usize = 110;

/// The text form of a graph; [`super::parse`] reads it back.
pub fn print(graph: &Graph) -> String {
    graph.to_string()
}

/// The text form of one node, without indentation: what errors and remarks show.
pub fn statement(graph: &Graph, node: NodeId) -> String {
    Statement(graph, node).to_string()
}

struct Statement<'g>(&'g Graph, NodeId);

impl fmt::Display for Statement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(graph, id) = *self;
        let node = graph.node(id);
        list(f, &node.results)?;
        write!(f, " = {}", node.op.name())?;
        if !node.operands.is_empty() {
            f.write_str(" ")?;
            list(f, &node.operands)?;
        }
        let attributes = node.op.attributes();
        if !attributes.is_empty() {
            write!(f, " {{{attributes}}}")?;
        }
        f.write_str(" : ")?;
        // A graph that the verifier shows may name values that it does not have.
        let ty = |&value| graph.get_value(value).map_or_else(|| "?".to_owned(), |value| value.ty.to_string());
        list(f, &node.results.iter().map(ty).collect::<Vec<String>>())?;
        if !node.module.is_empty() {
            write!(f, " @ {}", Quoted(&node.module))?;
        }
        Ok(())
    }
}

fn list(f: &mut fmt::Formatter<'_>, items: &[impl fmt::Display]) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        write!(f, "{separator}{item}")?;
    }
    Ok(())
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = self.name.starts_with(|c: char| is_word(c) && !c.is_ascii_digit());
        if is_plain && self.name.chars().all(is_word) {
            writeln!(f, "graph @{}(", self.name)?;
        } else {
            writeln!(f, "graph @{}(", Quoted(&self.name))?;
        }
        for input in self.inputs() {
            let (role, name, ty) = (input.role.name(), Quoted(&input.name), self.ty(input.value));
            writeln!(f, "  {}: {role} {name} {ty},", input.value)?;
        }
        f.write_str(") {\n")?;
        for (id, _) in self.nodes() {
            writeln!(f, "  {}", Statement(self, id))?;
        }
        let outputs: Vec<String> = self
            .outputs()
            .iter()
            .map(|output| format!("{} {}", Quoted(&output.name), output.value))
            .collect();
        let on_one_line = format!("  return {}", outputs.join(", "));
        if on_one_line.len() <= LINE {
            writeln!(f, "{}", on_one_line.trim_end())?;
        } else {
            writeln!(f, "  return\n    {}", outputs.join(",\n    "))?;
        }
        f.write_str("}\n")
    }
}
