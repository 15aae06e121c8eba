//! Fuses the input gradients of all projections of one value into one accumulation, and the gradients of their adapters.
//!
//! Reason: the input gradient of q, k, v and fc_in is one sum over all their outputs: nothing is added up in memory, and
//! masks and the gradient of gelu are applied while the sum is in registers. dA and dB come from the thin products; no
//! gradient of a whole weight is ever made.
//!
//! ```text
//! %s  = scale %dy
//! %dl = matmul %s, %b {nn}                 =>  %dl = adapter_up_grad %dy, %b, ...
//! %da = window_matmul %dl, %xd, %table
//! %db = window_matmul %s, %low, %table     =>  %da, %db, ... = adapter_grad %x, %dy, %low, %dl, ..., %table, ...
//! %g  = matmul %dy, %w {nn}
//! %t  = matmul %dl, %a {nn}
//! %u  = dropout %t, ...
//! %dx = add %g, %u, and so on
//! %dz = gelu_tanh_grad %dx, %z             =>  %dz = projection_grad %dy, ..., %w, ..., %dl, %a, ..., %z, ...
//! ```
//!
//! Requires: projections fused ([`super::projection`]). Preserves: types and names.
//! Numerics: exact in f64; sums go on in one chain where partial results were added.

use super::matcher::Matcher;
use super::projection::common_module;
use super::replace::{Candidate, FusedNode, Operand, replace};
use crate::CompileError;
use crate::pass_manager::Pass;
use gptjc_graphs::dtype::DType;
use gptjc_graphs::entities::{NodeId, ValueId};
use gptjc_graphs::graph::{Graph, Node};
use gptjc_graphs::layout::{
    AdapterGradMember, AdapterGradOperands, Masks, ProjectionGradMember, ProjectionGradOperands,
    ProjectionMember,
};
use gptjc_graphs::ops::Op;
use gptjc_graphs::ops::adapter::{AdapterDown, AdapterGrad, AdapterUpGrad};
use gptjc_graphs::ops::matmul::Form;
use gptjc_graphs::ops::projection::ProjectionGrad;
use std::collections::{BTreeMap, BTreeSet};

/// See the [module](self).
pub struct FuseProjectionGrad;

impl Pass for FuseProjectionGrad {
    fn name(&self) -> &'static str {
        "fuse_projection_grad"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Vec<String>) -> Result<(), CompileError> {
        let matcher = Matcher::new(graph);
        let mut groups: Vec<Adapters<'_>> =
            graph.nodes().filter_map(|(_, node)| Adapters::find(&matcher, node)).collect();
        let mut candidates: Vec<Candidate> = Vec::new();
        for root in roots(&matcher) {
            let sum = Sum::below(&matcher, root);
            let group = groups.iter().position(|group| sum.belongs_to(group));
            let group = group.map(|index| groups.remove(index));
            candidates.push(candidate(&matcher, group, Some(sum)));
        }
        // What is below the lowest adapter has no input gradient.
        candidates.extend(groups.into_iter().map(|group| candidate(&matcher, Some(group), None)));
        let (new, count) = replace(self.name(), graph, candidates, remarks)?;
        if count > 0 {
            remarks.push(format!("{count} groups of gradients"));
        }
        *graph = new;
        Ok(())
    }
}

fn product(op: &Op, form: Form) -> bool {
    matches!(op, Op::Matmul(op) if op.form == form)
}

/// The gradient of one adapter, found.
struct Adapter {
    weight: ValueId,
    a: ValueId,
    b: ValueId,
    low: ValueId,
    dy: ValueId,
    dlow: ValueId,
    /// The scaling and the product that `dlow` is.
    of_dlow: [NodeId; 2],
    da: (NodeId, ValueId),
    db: (NodeId, ValueId),
    table: ValueId,
}

/// The gradients of the adapters on one value.
struct Adapters<'g> {
    op: &'g AdapterDown,
    x: ValueId,
    /// What masks are made from.
    masks: Option<Masks<Operand>>,
    scale: f64,
    members: Vec<Adapter>,
    module: String,
}

impl<'g> Adapters<'g> {
    /// The gradients that go with `down`, if it is a group of adapters and has them all.
    fn find(matcher: &Matcher<'g>, down: &'g Node) -> Option<Self> {
        let Op::AdapterDown(op) = &down.op else { return None };
        let mut scale = 1.0;
        let mut members = Vec::new();
        let parts = op.operands(&down.operands)?;
        for (a, &low) in parts.lower.into_iter().zip(&down.results) {
            let (_, projection, of_projection) = matcher.reader(low, |node| match &node.op {
                Op::Projection(op) => Some(op),
                _ => None,
            })?;
            let base = of_projection.operands(&projection.operands)?;
            let on = |member: &ProjectionMember<ValueId>| {
                member.adapter.filter(|adapter| adapter.0 == low).map(|(_, b)| (member.weight, b))
            };
            let (weight, b) = base.members.iter().find_map(on)?;
            scale = of_projection.scale;
            members.push(Adapter::find(matcher, weight, [a, b], low, scale)?);
        }
        Some(Self {
            op,
            x: parts.x,
            masks: parts.masks.map(|masks| Masks {
                window_table: masks.window_table.into(),
                counter: masks.counter.into(),
                labelled: masks.labelled.map(Operand::from),
            }),
            scale,
            members,
            module: down.module.clone(),
        })
    }

    fn up_grad(&self) -> FusedNode {
        let operands = self.members.iter().flat_map(|member| [member.dy, member.b]);
        FusedNode {
            op: AdapterUpGrad { members: self.members.len(), scale: self.scale }.into(),
            operands: operands.map(Operand::from).collect(),
            absorbed: self.members.iter().flat_map(|member| member.of_dlow).collect(),
            results: self.members.iter().map(|member| member.dlow).enumerate().collect(),
            module: self.module.clone(),
        }
    }

    fn grad(&self) -> Option<FusedNode> {
        let member = |(result, member): (usize, &Adapter)| AdapterGradMember {
            dy: member.dy.into(),
            low: member.low.into(),
            dlow: Operand::Fused { node: 0, result },
        };
        let parts = AdapterGradOperands {
            x: Operand::from(self.x),
            members: self.members.iter().enumerate().map(member).collect(),
            table: self.members.first()?.table.into(),
            masks: self.masks.clone(),
        };
        let results = self.members.iter().flat_map(|member| [member.da.1, member.db.1]);
        let op = AdapterGrad {
            members: self.members.len(),
            scale: self.scale,
            p: self.op.p,
            sites: self.op.sites.clone(),
        };
        Some(FusedNode {
            op: op.into(),
            operands: parts.join(),
            absorbed: self.members.iter().flat_map(|member| [member.da.0, member.db.0]).collect(),
            results: results.enumerate().collect(),
            module: self.module.clone(),
        })
    }
}

impl Adapter {
    fn find(
        matcher: &Matcher<'_>,
        weight: ValueId,
        [a, b]: [ValueId; 2],
        low: ValueId,
        scale: f64,
    ) -> Option<Self> {
        let (dlow_node, dlow, ()) =
            matcher.reader(b, |node| (product(&node.op, Form::Nn) && node.operands[1] == b).then_some(()))?;
        let (scaled_node, scaled, factor) = matcher.defined_by(dlow.operands[0], |op| match op {
            Op::Scale(scale) => Some(scale.factor),
            _ => None,
        })?;
        if factor != scale {
            return None;
        }
        let window_matmul = |value: ValueId, operand: usize| {
            matcher.reader(value, |node| {
                (matches!(node.op, Op::WindowMatmul(_)) && node.operands[operand] == value).then_some(())
            })
        };
        let (da_node, da, ()) = window_matmul(dlow.results[0], 0)?;
        let (db_node, db, ()) = window_matmul(low, 1)?;
        Some(Self {
            weight,
            a,
            b,
            low,
            dy: scaled.operands[0],
            dlow: dlow.results[0],
            of_dlow: [scaled_node, dlow_node],
            da: (da_node, da.results[0]),
            db: (db_node, db.results[0]),
            table: db.operands[2],
        })
    }
}

/// The sums that input gradients of base products go into, each once, in order.
fn roots(matcher: &Matcher<'_>) -> BTreeSet<ValueId> {
    let mut roots = BTreeSet::new();
    for (_, node) in matcher.graph.nodes() {
        if product(&node.op, Form::Nn) && matcher.is_base_weight(node.operands[1]) {
            let mut value = node.results[0];
            while let Some((_, reader)) = matcher.only_reader(value)
                && let Op::Add(_) = reader.op
            {
                value = reader.results[0];
            }
            roots.insert(value);
        }
    }
    roots
}

/// A sum of input gradients, taken apart.
struct Sum {
    root: ValueId,
    /// Sums inside.
    sums: Vec<NodeId>,
    /// Products with base weights: node, dy, weight.
    bases: Vec<(NodeId, ValueId, ValueId)>,
    /// Adapters' parts by the adapter's A: nodes, and the value that they are.
    adapters: BTreeMap<ValueId, (Vec<NodeId>, ValueId)>,
    /// Anything else.
    residuals: Vec<ValueId>,
    module: String,
}

impl Sum {
    fn below(matcher: &Matcher<'_>, root: ValueId) -> Self {
        let mut sum = Self {
            root,
            sums: Vec::new(),
            bases: Vec::new(),
            adapters: BTreeMap::new(),
            residuals: Vec::new(),
            module: String::new(),
        };
        sum.take(matcher, root);
        sum.bases.sort_by_key(|&(_, _, weight)| weight);
        let modules = sum.bases.iter().map(|&(node, ..)| matcher.graph.node(node).module.as_str());
        sum.module = common_module(modules);
        sum
    }

    fn take(&mut self, matcher: &Matcher<'_>, value: ValueId) {
        let Some((id, node)) = matcher.definition(value) else { return self.residuals.push(value) };
        let inside = value == self.root || matcher.only_reader(value).is_some();
        match &node.op {
            Op::Add(_) if inside => {
                self.sums.push(id);
                self.take(matcher, node.operands[0]);
                self.take(matcher, node.operands[1]);
            }
            op if inside && product(op, Form::Nn) && matcher.is_base_weight(node.operands[1]) => {
                self.bases.push((id, node.operands[0], node.operands[1]));
            }
            op if inside && product(op, Form::Nn) && matcher.is_adapter(node.operands[1]) => {
                self.adapters.insert(node.operands[1], (vec![id], value));
            }
            Op::Dropout(_) if inside => match matcher.definition(node.operands[0]) {
                Some((product_id, inner))
                    if product(&inner.op, Form::Nn)
                        && matcher.is_adapter(inner.operands[1])
                        && matcher.only_reader(node.operands[0]).is_some() =>
                {
                    self.adapters.insert(inner.operands[1], (vec![product_id, id], value));
                }
                _ => self.residuals.push(value),
            },
            _ => self.residuals.push(value),
        }
    }

    /// True if the sum has the input gradient of these adapters.
    fn belongs_to(&self, group: &Adapters<'_>) -> bool {
        group.members.iter().all(|member| self.adapters.contains_key(&member.a))
    }

    /// The adapter on the base weight, if the sum has its part.
    fn adapter_on<'a>(
        &self,
        group: Option<&'a Adapters<'_>>,
        weight: ValueId,
    ) -> Option<(usize, &'a Adapter)> {
        group?.members.iter().enumerate().find(|(_, member)| member.weight == weight)
    }

    fn node(mut self, matcher: &Matcher<'_>, group: Option<&Adapters<'_>>) -> FusedNode {
        let (mut members, mut sites) = (Vec::new(), Vec::new());
        let mut absorbed = std::mem::take(&mut self.sums);
        for &(node, dy, weight) in &self.bases {
            absorbed.push(node);
            let on = self.adapter_on(group, weight);
            if let Some((member, adapter)) = on {
                sites.extend(group.map(|group| group.op.sites[member]));
                absorbed.extend(self.adapters.remove(&adapter.a).into_iter().flat_map(|(nodes, _)| nodes));
            }
            let adapter =
                on.map(|(result, adapter)| (Operand::Fused { node: 0, result }, Operand::from(adapter.a)));
            members.push(ProjectionGradMember { dy: dy.into(), weight: weight.into(), adapter });
        }
        // A part whose adapter is of another group stays as it is.
        self.residuals.extend(self.adapters.values().map(|&(_, value)| value));
        let gelu = matcher.only_reader(self.root).filter(|(_, node)| {
            matches!(node.op, Op::GeluTanhGrad(_))
                && node.operands[0] == self.root
                && self.residuals.is_empty()
        });
        let mut result = self.root;
        if let Some((id, node)) = gelu {
            absorbed.push(id);
            result = node.results[0];
        }
        let group = group.filter(|_| members.iter().any(|member| member.adapter.is_some()));
        let parts = ProjectionGradOperands {
            members,
            masks: group.and_then(|group| group.masks.clone()),
            u: gelu.map(|(_, node)| node.operands[1].into()),
            residuals: self.residuals.iter().map(|&value| Operand::from(value)).collect(),
        };
        let op = ProjectionGrad {
            members: self.bases.len(),
            adapted: parts.adapted(),
            gelu: gelu.is_some(),
            residuals: self.residuals.len(),
            p: group.map_or(0.0, |group| group.op.p),
            sites,
            dtype: DType::F32,
        };
        let operands = parts.join();
        FusedNode { op: op.into(), operands, absorbed, results: vec![(0, result)], module: self.module }
    }
}

fn candidate(matcher: &Matcher<'_>, group: Option<Adapters<'_>>, sum: Option<Sum>) -> Candidate {
    let mut nodes = Vec::new();
    let mut name = String::new();
    if let Some(group) = &group {
        nodes.push(group.up_grad());
        nodes.extend(group.grad());
        name.clone_from(&group.module);
    }
    if let Some(sum) = sum {
        name.clone_from(&sum.module);
        nodes.push(sum.node(matcher, group.as_ref()));
    }
    Candidate { name: format!("gradients of `{name}`"), nodes }
}
