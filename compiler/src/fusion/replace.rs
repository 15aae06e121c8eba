//! Replaces groups of nodes by fused ones: the part of a fusion that all fusions share.

use super::matcher::Matcher;
use crate::CompileError;
use gptjc_graphs::entities::{Entity, NodeId, ValueId};
use gptjc_graphs::graph::{Definition, Graph, GraphError};
use gptjc_graphs::ops::Op;
use gptjc_graphs::text::statement;
use std::collections::{BTreeMap, BTreeSet};

/// An operand of a fused node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    /// A value of the old graph.
    Value(ValueId),
    /// A result of another fused node of the same candidate, by its index there.
    Fused {
        /// Index of the node in the candidate.
        node: usize,
        /// Index of its result.
        result: usize,
    },
}

impl From<ValueId> for Operand {
    fn from(value: ValueId) -> Self {
        Operand::Value(value)
    }
}

/// A node that stands for others.
#[derive(Clone, Debug)]
pub(crate) struct FusedNode {
    pub(crate) op: Op,
    pub(crate) operands: Vec<Operand>,
    /// Nodes of the old graph that it stands for.
    pub(crate) absorbed: Vec<NodeId>,
    /// Pairs (result of the fused node, value of the old graph that it stands for).
    pub(crate) results: Vec<(usize, ValueId)>,
    pub(crate) module: String,
}

/// Fused nodes that are made together or not at all.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// What it is, for remarks.
    pub(crate) name: String,
    pub(crate) nodes: Vec<FusedNode>,
}

impl Candidate {
    fn absorbed(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().flat_map(|node| node.absorbed.iter().copied())
    }

    /// Why the candidate must not be made, if so: a value would be lost that somebody else reads.
    fn refusal(&self, matcher: &Matcher<'_>) -> Option<String> {
        let absorbed: BTreeSet<NodeId> = self.absorbed().collect();
        let kept: BTreeSet<ValueId> =
            self.nodes.iter().flat_map(|node| node.results.iter().map(|&(_, value)| value)).collect();
        for &id in &absorbed {
            for &value in &matcher.graph.node(id).results {
                if kept.contains(&value) {
                    continue;
                }
                let lost = || format!("`{}`", statement(matcher.graph, id));
                if matcher.is_output(value) {
                    return Some(format!("{} is an output", lost()));
                }
                if let Some((reader, _)) =
                    matcher.readers(value).find(|(reader, _)| !absorbed.contains(reader))
                {
                    let reader = statement(matcher.graph, reader);
                    return Some(format!("{} is read elsewhere, by `{reader}`", lost()));
                }
            }
        }
        None
    }
}

/// The graph with the candidates replaced, and how many were. A candidate that must not be made is left as it was, with a
/// remark that says why; so is one that would absorb a node of an earlier candidate.
///
/// # Errors
/// [`CompileError::Pass`] if a fused node does not type-check, or needs itself.
pub(crate) fn replace(
    pass: &'static str,
    graph: &Graph,
    candidates: Vec<Candidate>,
    remarks: &mut Vec<String>,
) -> Result<(Graph, usize), CompileError> {
    let matcher = Matcher::new(graph);
    let mut taken: BTreeSet<NodeId> = BTreeSet::new();
    let mut accepted = Vec::new();
    for candidate in candidates {
        if candidate.absorbed().any(|id| taken.contains(&id)) {
            remarks.push(format!("missed {}: another fusion absorbs a part of it", candidate.name));
        } else if let Some(reason) = candidate.refusal(&matcher) {
            remarks.push(format!("missed {}: {reason}", candidate.name));
        } else {
            taken.extend(candidate.absorbed());
            accepted.push(candidate);
        }
    }
    let count = accepted.len();
    if count == 0 {
        return Ok((graph.clone(), 0));
    }
    let new = Rebuild::new(graph, accepted)
        .and_then(Rebuild::run)
        .map_err(|reason| CompileError::Pass { pass, reason })?;
    Ok((new, count))
}

/// A new graph in the making.
struct Rebuild<'g> {
    old: &'g Graph,
    new: Graph,
    candidates: Vec<Candidate>,
    /// New value of each old one, by index.
    values: Vec<Option<ValueId>>,
    /// Results of the fused nodes made so far, by (candidate, node).
    fused: BTreeMap<(usize, usize), Vec<ValueId>>,
    /// Fused nodes in the making: one that is needed by itself is an error.
    under_way: BTreeSet<(usize, usize)>,
    /// The fused node that stands for an old value.
    standing_for: BTreeMap<ValueId, (usize, usize)>,
    absorbed: BTreeSet<NodeId>,
    /// Fused nodes by the last node that they absorb.
    last_absorbed: BTreeMap<NodeId, Vec<(usize, usize)>>,
    emitted: BTreeSet<NodeId>,
}

impl<'g> Rebuild<'g> {
    fn new(old: &'g Graph, candidates: Vec<Candidate>) -> Result<Self, String> {
        let mut new = Graph::new(&old.name);
        let mut values = vec![None; old.value_count()];
        for input in old.inputs() {
            let value = new.input(&input.name, input.role, old.ty(input.value).clone());
            values[input.value.index()] = Some(value.map_err(text)?);
        }
        let mut standing_for = BTreeMap::new();
        let mut last_absorbed: BTreeMap<NodeId, Vec<(usize, usize)>> = BTreeMap::new();
        for (c, candidate) in candidates.iter().enumerate() {
            for (n, node) in candidate.nodes.iter().enumerate() {
                standing_for.extend(node.results.iter().map(|&(_, value)| (value, (c, n))));
                if let Some(&last) = node.absorbed.iter().max() {
                    last_absorbed.entry(last).or_default().push((c, n));
                }
            }
        }
        let absorbed = candidates.iter().flat_map(Candidate::absorbed).collect();
        Ok(Self {
            old,
            new,
            candidates,
            values,
            fused: BTreeMap::new(),
            under_way: BTreeSet::new(),
            standing_for,
            absorbed,
            last_absorbed,
            emitted: BTreeSet::new(),
        })
    }

    fn run(mut self) -> Result<Graph, String> {
        let ids: Vec<NodeId> = self.old.nodes().map(|(id, _)| id).collect();
        for id in ids {
            if self.absorbed.contains(&id) {
                for fused in self.last_absorbed.get(&id).cloned().unwrap_or_default() {
                    self.emit_fused(fused)?;
                }
            } else {
                self.emit_old(id)?;
            }
        }
        for output in self.old.outputs() {
            let value = self.value(output.value)?;
            self.new.output(&output.name, value);
        }
        Ok(self.new)
    }

    /// The new value for an old one; what defines it is emitted if it is not there yet.
    fn value(&mut self, old: ValueId) -> Result<ValueId, String> {
        if let Some(value) = self.values[old.index()] {
            return Ok(value);
        }
        if let Some(&fused) = self.standing_for.get(&old) {
            self.emit_fused(fused)?;
        } else if let Definition::Result(node, _) = self.old.value(old).definition {
            if self.absorbed.contains(&node) {
                return Err(format!("`{}` was absorbed and is needed", statement(self.old, node)));
            }
            self.emit_old(node)?;
        }
        self.values[old.index()].ok_or_else(|| format!("{old} has no definition"))
    }

    fn emit_old(&mut self, id: NodeId) -> Result<(), String> {
        if !self.emitted.insert(id) {
            return Ok(());
        }
        let node = self.old.node(id);
        let operands: Vec<ValueId> =
            node.operands.iter().map(|&value| self.value(value)).collect::<Result<_, _>>()?;
        self.new.set_module(&node.module);
        let copy = self.new.push(node.op.clone(), &operands).map_err(text)?;
        for (&old, new) in node.results.iter().zip(self.new.node(copy).results.clone()) {
            self.values[old.index()] = Some(new);
        }
        Ok(())
    }

    fn emit_fused(&mut self, at: (usize, usize)) -> Result<(), String> {
        if self.fused.contains_key(&at) {
            return Ok(());
        }
        let name = self.candidates[at.0].name.clone();
        if !self.under_way.insert(at) {
            return Err(format!("{name} needs its own result"));
        }
        let node = self.candidates[at.0].nodes[at.1].clone();
        let mut operands = Vec::with_capacity(node.operands.len());
        for operand in node.operands {
            operands.push(match operand {
                Operand::Value(value) => self.value(value)?,
                Operand::Fused { node, result } => {
                    self.emit_fused((at.0, node))?;
                    self.fused[&(at.0, node)][result]
                }
            });
        }
        self.new.set_module(&node.module);
        let id = self.new.push(node.op, &operands).map_err(text)?;
        let results = self.new.node(id).results.clone();
        for (result, old) in node.results {
            self.values[old.index()] = Some(results[result]);
        }
        self.fused.insert(at, results);
        Ok(())
    }
}

fn text(error: GraphError) -> String {
    error.to_string()
}
