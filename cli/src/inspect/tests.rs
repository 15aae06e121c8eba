//! Every form of a small plan.

use super::*;
use crate::flags::inspect::InspectJobFlags;
use gptjc_compiler::{compile, explain, target};
use gptjc_graphs::plan::{CompileOptions, LoraOptions, ModelConfig, Plan};
use gptjc_graphs::text::parse;
use serde_json::Value;
use std::collections::BTreeMap;

/// A plan of two blocks for a machine that is shipped, so that no number depends on this one.
fn plan() -> Plan {
    let model = ModelConfig {
        n_layer: 2,
        n_embd: 16,
        n_head: 2,
        rotary_dim: 4,
        n_inner: 32,
        vocab_size: 64,
        n_positions: 16,
        layer_norm_epsilon: 1e-5,
    };
    let targets = vec!["q_proj".to_owned(), "v_proj".to_owned()];
    let lora =
        LoraOptions { rank: 2, alpha: 4.0, dropout: 0.05, targets, use_rslora: false, only_in: Vec::new() };
    compile(&CompileOptions {
        model,
        lora: Some(lora),
        max_seq_length: 8,
        micro_batch: 2,
        per_device_train_batch_size: 2,
        step_windows: 4,
        memory_budget: 1 << 30,
        target: target::shipped("avx2-2c").unwrap().unwrap(),
        ..CompileOptions::default()
    })
    .unwrap()
}

fn view<'p>(plan: &'p Plan, show: Show, entry: Option<&'p str>) -> View<'p> {
    let report = explain::report(plan, entry, &job(&InspectJobFlags::default())).unwrap();
    View { plan, report, show, layer: None, entry }
}

#[test]
fn the_text() {
    let plan = plan();
    insta::assert_snapshot!("text_summary", text::render(&view(&plan, Show::Summary, None)).unwrap());
    let costs = text::render(&view(&plan, Show::Costs, Some("micro_step"))).unwrap();
    insta::assert_snapshot!("text_costs", costs);
    let passes = text::render(&view(&plan, Show::Passes, Some("micro_step"))).unwrap();
    insta::assert_snapshot!("text_passes", passes);
}

#[test]
fn all_of_the_text_is_its_parts() {
    let plan = plan();
    let all = text::render(&view(&plan, Show::All, None)).unwrap();
    for show in [Show::Graph, Show::Fused, Show::Plan, Show::Costs, Show::Passes] {
        let part = text::render(&view(&plan, show, None)).unwrap();
        let last = part.trim_end().lines().last().unwrap();
        assert!(!last.is_empty() && all.contains(last), "{show:?}: {last}");
    }
    let memory = text::render(&view(&plan, Show::Memory, None)).unwrap();
    assert!(memory.contains("\ntemporaries of micro_step: "), "{memory}");
}

#[test]
fn graphs_as_text_parse_back() {
    let plan = plan();
    for show in [Show::Graph, Show::Fused] {
        let text = text::render(&view(&plan, show, Some("micro_step"))).unwrap();
        let graph = parse(&text).unwrap();
        assert_eq!(graph.name, "micro_step");
        let steps = plan.entry("micro_step").unwrap().steps.len();
        assert_eq!(graph.node_count() == steps, show == Show::Fused, "{show:?}");
    }
}

#[test]
fn a_block_of_a_graph() {
    let plan = plan();
    let view = View { layer: Some(1), ..view(&plan, Show::Fused, None) };
    let text = text::render(&view).unwrap();
    let statements: Vec<&str> = text.lines().filter(|line| line.starts_with('%')).collect();
    assert!(!statements.is_empty());
    assert!(statements.iter().all(|line| line.contains("transformer.h.1")), "{text}");
}

/// Paths of all fields with the kinds of their values.
fn fields(value: &Value, path: &str, found: &mut BTreeMap<String, &'static str>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(name, value)| fields(value, &format!("{path}.{name}"), found))
        }
        Value::Array(items) => items.iter().for_each(|item| fields(item, &format!("{path}[]"), found)),
        Value::Null => {
            found.entry(path.to_owned()).or_insert("null");
        }
        Value::Bool(_) => drop(found.insert(path.to_owned(), "boolean")),
        Value::Number(_) => drop(found.insert(path.to_owned(), "number")),
        Value::String(_) => drop(found.insert(path.to_owned(), "string")),
    }
}

#[test]
fn the_schema_of_the_json() {
    let plan = plan();
    let json: Value = serde_json::from_str(&json::render(&view(&plan, Show::All, None)).unwrap()).unwrap();
    let mut found = BTreeMap::new();
    fields(&json, "", &mut found);
    let lines: Vec<String> = found.iter().map(|(path, kind)| format!("{path}: {kind}")).collect();
    insta::assert_snapshot!("json_schema", lines.join("\n"));
    let documented = include_str!("../../../docs/inspect.md");
    for name in found.keys().filter_map(|path| path.trim_end_matches("[]").rsplit('.').next()) {
        assert!(documented.contains(&format!("`{name}`")), "docs/inspect.md does not name `{name}`");
    }
}

#[test]
fn the_json() {
    let plan = plan();
    insta::assert_snapshot!(
        "json_summary",
        json::render(&view(&plan, Show::Summary, Some("setup"))).unwrap()
    );
    let passes: Value =
        serde_json::from_str(&json::render(&view(&plan, Show::Passes, None)).unwrap()).unwrap();
    let entry = &passes["entries"][1];
    assert!(
        entry["passes"].is_array() && entry.get("steps").is_none() && passes.get("job").is_none(),
        "{entry}"
    );
    assert_eq!(entry["graphs_match"], true);
}

/// DOT without what is in quotes, which must end.
fn unquoted(dot: &str) -> String {
    let mut out = String::new();
    let mut chars = dot.chars();
    while let Some(c) = chars.next() {
        if c != '"' {
            out.push(c);
            continue;
        }
        loop {
            match chars.next() {
                Some('"') => break,
                Some('\\') => drop(chars.next()),
                Some(_) => {}
                None => panic!("a quote does not end"),
            }
        }
    }
    out
}

#[test]
fn dot_is_balanced_and_draws_every_node_and_edge() {
    let plan = plan();
    for show in [Show::Graph, Show::Fused] {
        let view = view(&plan, show, Some("micro_step"));
        let dot = dot::render(&view);
        let bare = unquoted(&dot);
        assert_eq!(bare.matches('{').count(), bare.matches('}').count());
        let entry = &view.report.entries[0];
        let graph = if show == Show::Graph { &entry.training_graph } else { &entry.fused_graph };
        for (index, node) in graph.nodes.iter().enumerate() {
            assert!(dot.contains(&format!("      n{index} [label=\"{}", node.op)), "{show:?}: n{index}");
        }
        let reads: usize = graph.nodes.iter().map(|node| node.operands.len()).sum();
        assert_eq!(bare.matches("->").count(), reads + graph.outputs.len());
    }
}

/// Panics if a tag is not closed, or closed that was not open.
fn check_tags(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        let is_void = tag.ends_with('/') || ["meta", "!DOCTYPE"].contains(&name);
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "before {:.60}", rest);
        } else if ["script", "style"].contains(&name) {
            rest = &rest[rest.find(&format!("</{name}>")).expect("it ends") + name.len() + 3..];
        } else if !is_void {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn the_page_is_well_formed_and_needs_nothing_from_outside() {
    let plan = plan();
    for entry in [None, Some("micro_step"), Some("apply"), Some("setup"), Some("forward")] {
        let page = html::render(&view(&plan, Show::All, entry));
        check_tags(&page);
        for outside in ["http:", "https:", " src=", "url(", "@import", "<link"] {
            assert!(!page.contains(outside), "{outside}");
        }
        let (markup, _script) = page.split_once("<script>").unwrap();
        assert!(!markup.contains("NaN") && !markup.contains("inf\""), "a number is none");
        for id in ["time", "memory", "roofline", "passes", "graphs", "steps", "job", "facts"] {
            assert!(page.contains(&format!("<section id=\"{id}\"")), "{id}");
        }
    }
}
