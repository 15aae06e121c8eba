//! Graphs of one block, drawn: as it was built, and after the passes.

use super::layered::{Sizes, layout};
use crate::html::markup::{details, escape, px, section};
use gptjc_compiler::explain::{BlockKind, EntryReport, GraphNode, GraphView, Group, TypedValue};
use std::collections::BTreeMap;
use std::fmt::Write;

const SIZES: Sizes = Sizes { width: 168.0, height: 42.0, gap: 16.0, rank_gap: 26.0 };

/// Pictures that are wider than this together stand above each other.
const BESIDE: f64 = 1900.0;

/// The part of the model that is drawn: a block of the most common kind, or whatever there is.
fn typical(entry: &EntryReport) -> Option<Group> {
    let blocks = |kind: &&BlockKind| matches!(kind.groups.first(), Some(Group::Block(_)));
    let common = entry.blocks.iter().filter(blocks).max_by_key(|kind| kind.groups.len());
    common.or(entry.blocks.first()).and_then(|kind| kind.groups.first().copied())
}

pub(super) fn write(entry: &EntryReport, out: &mut String) {
    let Some(group) = typical(entry) else { return };
    let command = format!("gptjc inspect PLAN --entry {} --show graph", entry.name);
    let lead = format!(
        "What becomes of {group} of <code>{}</code> stands for the others like it. What comes from outside (weights, values of other \
         blocks and of the forward pass) is named when the pointer is on a node. The whole graphs: <code>{}</code> or \
         <code>fused</code>, as text or <code>--format dot</code>.",
        escape(&entry.name),
        escape(&command)
    );
    let mut body = String::new();
    for (title, graph, open) in [
        ("After the passes", &entry.fused_graph, true),
        ("As it was built, differentiated", &entry.training_graph, false),
    ] {
        let count = graph.nodes.iter().filter(|node| Group::of(&node.module) == group).count();
        let summary =
            format!("{title} <span class=\"muted\">{count} nodes of {} in all</span>", graph.nodes.len());
        let panels = panels(graph, group);
        body.push_str(&details(&summary, &panels, open));
    }
    section(out, "graphs", "Graphs", &lead, &body);
}

/// Pictures of `group`, forward and backward: side by side if there is room for both.
fn panels(graph: &GraphView, group: Group) -> String {
    let drawn: Vec<(&str, String, f64)> = halves(graph, group)
        .into_iter()
        .map(|(name, nodes)| {
            let (svg, width) = draw(graph, &nodes);
            (name, svg, width)
        })
        .collect();
    let all: f64 = drawn.iter().map(|(.., width)| width).sum();
    let columns = match all {
        wide if wide > BESIDE => "minmax(0, 1fr)".to_owned(),
        _ => drawn.iter().map(|(.., width)| format!("minmax(0, {}fr) ", px(width + 60.0))).collect(),
    };
    let mut html = format!("<div class=\"panels\" style=\"grid-template-columns: {}\">", columns.trim_end());
    for (name, svg, _) in drawn {
        let _ =
            write!(html, "<figure><figcaption>{name}</figcaption><div class=\"canvas\">{svg}</div></figure>");
    }
    html.push_str("</div>");
    html
}

/// The nodes of `group`, before and from the gradient of the loss on.
fn halves(graph: &GraphView, group: Group) -> Vec<(&'static str, Vec<usize>)> {
    let wanted = |index: &usize| Group::of(&graph.nodes[*index].module) == group;
    let turn = graph.backward_from.unwrap_or(graph.nodes.len());
    let halves = [("forward", 0..turn), ("backward", turn..graph.nodes.len())];
    halves
        .into_iter()
        .map(|(name, range)| (name, range.filter(wanted).collect::<Vec<usize>>()))
        .filter(|(_, nodes)| !nodes.is_empty())
        .collect()
}

/// The module inside its block.
fn part(module: &str) -> &str {
    let inside = module.split_once("transformer.h.").and_then(|(_, rest)| rest.split_once('.'));
    inside.map_or("", |(_, part)| part)
}

/// The statement of a node, with the names of inputs.
fn tip(node: &GraphNode, inputs: &BTreeMap<&str, &str>) -> String {
    let line = |value: &TypedValue| {
        let name = inputs.get(value.value.as_str()).map(|name| format!(" {name}")).unwrap_or_default();
        format!("{}{name}: {}", value.value, value.ty)
    };
    let mut text = node.op.to_owned();
    if !node.attributes.is_empty() {
        let _ = write!(text, " {{{}}}", node.attributes);
    }
    for (label, values) in [("reads", &node.operands), ("gives", &node.results)] {
        for value in values {
            let _ = write!(text, "\n{label} {}", line(value));
        }
    }
    text
}

/// At most `most` characters of `text`.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// What a kind of op is coloured like.
fn class(op: &str) -> &'static str {
    let has = |parts: &[&str]| parts.iter().any(|part| op.contains(part));
    match () {
        () if has(&["matmul", "projection", "adapter", "vocab"]) => "n-product",
        () if has(&["attention", "segment", "softmax", "rotary"]) => "n-attention",
        () if has(&["layer_norm", "gelu"]) => "n-norm",
        () if has(&["dropout", "tree", "window"]) => "n-sum",
        () => "n-other",
    }
}

/// The picture and its width.
fn draw(graph: &GraphView, nodes: &[usize]) -> (String, f64) {
    let inputs: BTreeMap<&str, &str> =
        graph.inputs.iter().map(|input| (input.value.value.as_str(), input.name.as_str())).collect();
    let mut writer: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, &index) in nodes.iter().enumerate() {
        writer.extend(graph.nodes[index].results.iter().map(|result| (result.value.as_str(), place)));
    }
    let mut edges = Vec::new();
    for (place, &index) in nodes.iter().enumerate() {
        edges.extend(
            graph.nodes[index]
                .operands
                .iter()
                .filter_map(|operand| writer.get(operand.value.as_str()).map(|&from| (from, place))),
        );
    }
    edges.sort_unstable();
    edges.dedup();
    let drawn = layout(nodes.len(), &edges, SIZES);
    let (width, height) = (drawn.size.0 + 8.0, drawn.size.1 + 8.0);
    let mut svg = format!(
        "<svg viewBox=\"-4 -4 {} {}\" width=\"{}\" height=\"{}\" class=\"graph\" role=\"img\">",
        px(width),
        px(height),
        px(width),
        px(height)
    );
    for points in &drawn.edges {
        let _ = write!(svg, "<path d=\"{}\"/>", curve(points));
    }
    for (&index, &at) in nodes.iter().zip(&drawn.nodes) {
        node(&graph.nodes[index], at, &inputs, &mut svg);
    }
    svg.push_str("</svg>");
    (svg, width)
}

/// A line that leaves and enters nodes vertically.
fn curve(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    let mut last: Option<(f64, f64)> = None;
    for &(x, y) in points {
        match last {
            None => {
                let _ = write!(path, "M{} {}", px(x), px(y));
            }
            Some((from_x, _)) if from_x == x => {
                let _ = write!(path, "V{}", px(y));
            }
            Some((from_x, from_y)) => {
                let middle = px((from_y + y) / 2.0);
                let _ = write!(path, "C{} {middle} {} {middle} {} {}", px(from_x), px(x), px(x), px(y));
            }
        }
        last = Some((x, y));
    }
    path
}

fn node(node: &GraphNode, (x, y): (f64, f64), inputs: &BTreeMap<&str, &str>, svg: &mut String) {
    let under = match (part(&node.module), node.results.first()) {
        ("", Some(result)) => result.ty.clone(),
        (part, Some(result)) => format!("{} {}", part.rsplit('.').next().unwrap_or(part), result.ty),
        (part, None) => part.to_owned(),
    };
    let _ = write!(
        svg,
        "<g class=\"{}\" transform=\"translate({} {})\"><rect width=\"{}\" height=\"{}\" rx=\"6\"/><text x=\"9\" \
         y=\"17\">{}</text><text class=\"under\" x=\"9\" y=\"32\">{}</text><title>{}</title></g>",
        class(node.op),
        px(x),
        px(y),
        SIZES.width,
        SIZES.height,
        escape(&cut(node.op, 24)),
        escape(&cut(&under, 30)),
        escape(&tip(node, inputs))
    );
}
