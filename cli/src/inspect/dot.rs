//! A graph for Graphviz: one cluster a module, inside one a block; types on the edges.

use super::View;
use crate::flags::inspect::Show;
use gptjc_compiler::explain::{GraphNode, GraphView, Group};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

/// What a graph begins with: fonts, and boxes that stay readable at any size.
const STYLE: &str = "  rankdir=TB;\n  newrank=true;\n  fontname=\"Helvetica\";\n  node [fontname=\"Helvetica\", fontsize=10, shape=box, \
                     style=\"rounded,filled\", fillcolor=\"#eef3fb\", color=\"#7a8fb0\"];\n  edge \
                     [fontname=\"Helvetica\", fontsize=8, color=\"#808890\", fontcolor=\"#606870\"];\n";

/// The DOT text.
pub(crate) fn render(view: &View<'_>) -> String {
    let mut out = String::new();
    let wanted = view.graph_entry();
    let entry = view.report.entries.iter().find(|entry| Some(entry.name.as_str()) == wanted);
    if let Some(entry) = entry {
        let graph = if view.show == Show::Graph { &entry.training_graph } else { &entry.fused_graph };
        // Writing to a string does not fail.
        let _ = Dot { graph, view }.write(&entry.name, &mut out);
    }
    out
}

/// A string as DOT has it.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

struct Dot<'v> {
    graph: &'v GraphView,
    view: &'v View<'v>,
}

impl<'v> Dot<'v> {
    /// The nodes that are shown, with their index.
    fn nodes(&self) -> impl Iterator<Item = (usize, &'v GraphNode)> {
        let view = self.view;
        self.graph.nodes.iter().enumerate().filter(move |(_, node)| view.has_module(&node.module))
    }

    #[allow(clippy::type_complexity, reason = "nodes by module by block, as the clusters nest")]
    fn write(&self, name: &str, out: &mut String) -> fmt::Result {
        writeln!(out, "digraph {} {{\n{STYLE}", quoted(name))?;
        let mut blocks: BTreeMap<Group, BTreeMap<&str, Vec<(usize, &GraphNode)>>> = BTreeMap::new();
        for (index, node) in self.nodes() {
            let modules = blocks.entry(Group::of(&node.module)).or_default();
            modules.entry(&node.module).or_default().push((index, node));
        }
        for (block, (group, modules)) in blocks.iter().enumerate() {
            writeln!(out, "  subgraph cluster_{block} {{\n    label={};", quoted(&group.to_string()))?;
            writeln!(out, "    style=\"rounded,filled\"; fillcolor=\"#fafafa\"; color=\"#b8bec8\";")?;
            for (index, (module, nodes)) in modules.iter().enumerate() {
                write_module(&format!("{block}_{index}"), module, nodes, out)?;
            }
            out.push_str("  }\n");
        }
        self.write_edges(out)?;
        out.push_str("}\n");
        Ok(())
    }

    /// Edges, and the inputs, outputs and outer values at their ends.
    fn write_edges(&self, out: &mut String) -> fmt::Result {
        let shown: BTreeMap<&str, usize> = self
            .nodes()
            .flat_map(|(index, node)| node.results.iter().map(move |result| (result.value.as_str(), index)))
            .collect();
        let inputs: BTreeMap<&str, (&str, &str)> = self
            .graph
            .inputs
            .iter()
            .map(|input| (input.value.value.as_str(), (input.name.as_str(), input.role)))
            .collect();
        let mut ends = BTreeSet::new();
        for (index, node) in self.nodes() {
            for operand in &node.operands {
                let (value, ty) = (operand.value.as_str(), quoted(&operand.ty));
                if let Some(from) = shown.get(value) {
                    writeln!(out, "  n{from} -> n{index} [label={ty}];")?;
                    continue;
                }
                let end = quoted(value);
                if ends.insert(value) {
                    write_end(&end, value, inputs.get(value).copied(), out)?;
                }
                writeln!(out, "  {end} -> n{index} [label={ty}];")?;
            }
        }
        for output in &self.graph.outputs {
            if let Some(from) = shown.get(output.value.value.as_str()) {
                let end = quoted(&format!("output {}", output.name));
                let shape = "shape=ellipse, style=filled, fillcolor=\"#e2f2e4\", color=\"#6a9a70\"";
                writeln!(out, "  {end} [label={}, {shape}];", quoted(&output.name))?;
                writeln!(out, "  n{from} -> {end} [label={}];", quoted(&output.value.ty))?;
            }
        }
        Ok(())
    }
}

fn write_module(id: &str, module: &str, nodes: &[(usize, &GraphNode)], out: &mut String) -> fmt::Result {
    writeln!(out, "    subgraph cluster_{id} {{\n      label={};", quoted(module))?;
    writeln!(out, "      style=\"rounded,filled\"; fillcolor=\"#ffffff\"; color=\"#d4d9e0\"; fontsize=10;")?;
    for (index, node) in nodes {
        let label = match node.attributes.as_str() {
            "" => node.op.to_owned(),
            attributes => format!("{}\n{}", node.op, attributes.replace(", ", "\n")),
        };
        writeln!(out, "      n{index} [label={}];", quoted(&label))?;
    }
    out.push_str("    }\n");
    Ok(())
}

/// An input, or a value of a node that is not shown.
fn write_end(id: &str, value: &str, input: Option<(&str, &str)>, out: &mut String) -> fmt::Result {
    let fill = match input.map(|(_, role)| role) {
        Some("weight") => "#f3ead6",
        Some("parameter" | "state") => "#f6e0e0",
        Some(_) => "#e6e6f4",
        None => "#f0f0f0",
    };
    let label = input.map_or(value, |(name, _)| name);
    writeln!(out, "  {id} [label={}, shape=ellipse, style=filled, fillcolor=\"{fill}\"];", quoted(label))
}
