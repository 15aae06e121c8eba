//! Fuses all projections of one value, with their adapters, biases and activation, into one grouped product.
//!
//! Reason: q, k, v and fc_in read the same layer norm, so that it is packed once; an adapter's second product is `r` more
//! terms of each sum; bias, gelu and residual sums happen while a result is in registers.
//!
//! ```text
//! %base = matmul %x, %w {nt}
//! %low  = matmul %xd, %a {nt}            %xd = %x, or dropout %x
//! %up   = matmul %low, %b {nt}
//! %s    = scale %up
//! %y    = add %base, %s                  =>  %low = adapter_down %x, %a, ...
//! %z    = bias_add %y, %bias                 %z, %g = projection %x, %w, ..., %bias, ..., %low, %b, ...
//! %g    = gelu_tanh %z
//! ```
//!
//! and, where a value has one projection only, the sums `add (add %y, %r), %t` that its result goes into.
//!
//! Association: an adapter is `(x · Aᵀ) · Bᵀ`. The other ways, `x · (Bᵀ Aᵀ)` and a merged weight `W + s B A`, cost more at
//! the sizes of fine-tuning, which the remark shows; a merged weight would also round the frozen one again, would have to
//! be made again each optimizer step, and cannot be had with dropout, where each adapter has an input of its own. The choice
//! must not depend on the micro-batch, since bits would.
//!
//! Requires: dead code removed, lm_head fused. Preserves: types and names.
//! Numerics: exact in f64; sums go on in one chain where partial results were added.

use super::matcher::Matcher;
use super::replace::{Candidate, FusedNode, Operand, replace};
use crate::CompileError;
use crate::pass_manager::Pass;
use gptjc_graphs::dtype::DType;
use gptjc_graphs::entities::{NodeId, ValueId};
use gptjc_graphs::graph::{Graph, Node};
use gptjc_graphs::layout::{ProjectionMember, ProjectionOperands};
use gptjc_graphs::ops::Op;
use gptjc_graphs::ops::adapter::AdapterDown;
use gptjc_graphs::ops::matmul::Form;
use gptjc_graphs::ops::projection::Projection;
use std::collections::{BTreeMap, BTreeSet};

/// See the [module](self).
pub struct FuseProjection;

impl Pass for FuseProjection {
    fn name(&self) -> &'static str {
        "fuse_projection"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Vec<String>) -> Result<(), CompileError> {
        let matcher = Matcher::new(graph);
        let mut groups: BTreeMap<ValueId, Vec<Member>> = BTreeMap::new();
        for (id, node) in graph.nodes() {
            if let Some(member) = Member::find(&matcher, id, node) {
                groups.entry(node.operands[0]).or_default().push(member);
            }
        }
        let associations = associations(graph, &groups);
        let mut taken = BTreeSet::new();
        let candidates =
            groups.into_iter().map(|(x, members)| candidate(&matcher, x, members, &mut taken)).collect();
        let (new, count) = replace(self.name(), graph, candidates, remarks)?;
        if count > 0 {
            remarks.push(format!("{count} groups of projections"));
            remarks.extend(associations);
        }
        *graph = new;
        Ok(())
    }
}

/// The adapter of a member.
struct Adapter {
    a: ValueId,
    b: ValueId,
    low_node: NodeId,
    low: ValueId,
    scale: f64,
    /// Share that is dropped, site, and what the mask is made from.
    dropout: Option<(f64, usize, Vec<ValueId>)>,
}

/// One projection.
struct Member {
    weight: ValueId,
    bias: Option<ValueId>,
    adapter: Option<Adapter>,
    y: ValueId,
    activated: Option<ValueId>,
    absorbed: Vec<NodeId>,
    module: String,
}

impl Member {
    /// The projection whose product is `matmul`, if it is one.
    fn find(matcher: &Matcher<'_>, id: NodeId, matmul: &Node) -> Option<Self> {
        match &matmul.op {
            Op::Matmul(op) if op.form == Form::Nt && matcher.is_base_weight(matmul.operands[1]) => {}
            _ => return None,
        }
        let mut member = Self {
            weight: matmul.operands[1],
            bias: None,
            adapter: None,
            y: matmul.results[0],
            activated: None,
            absorbed: vec![id],
            module: matmul.module.clone(),
        };
        member.find_adapter(matcher, matmul.operands[0]);
        if let Some((id, node)) = matcher.only_reader(member.y)
            && let Op::BiasAdd(_) = node.op
        {
            member.bias = Some(node.operands[1]);
            member.y = node.results[0];
            member.absorbed.push(id);
        }
        let gelu = matcher.reader(member.y, |node| matches!(node.op, Op::GeluTanh(_)).then_some(()));
        if let Some((id, node, ())) = gelu {
            member.activated = Some(node.results[0]);
            member.absorbed.push(id);
        }
        Some(member)
    }

    /// Takes in the adapter's sum, if the product goes into one.
    fn find_adapter(&mut self, matcher: &Matcher<'_>, x: ValueId) -> Option<()> {
        let (sum, sum_node) = matcher.only_reader(self.y)?;
        let Op::Add(_) = sum_node.op else { return None };
        let branch = *sum_node.operands.iter().find(|&&operand| operand != self.y)?;
        let (scaled, scaled_node, scale) = matcher.defined_by(branch, |op| match op {
            Op::Scale(scale) => Some(scale.factor),
            _ => None,
        })?;
        let product = |value: ValueId| {
            matcher.defined_by(value, |op| match op {
                Op::Matmul(op) if op.form == Form::Nt => Some(()),
                _ => None,
            })
        };
        let (up, up_node, ()) = product(scaled_node.operands[0])?;
        let (low_node, low, ()) = product(up_node.operands[0])?;
        let (a, b) = (low.operands[1], up_node.operands[1]);
        if !matcher.is_adapter(a) || !matcher.is_adapter(b) {
            return None;
        }
        let dropout = match matcher.definition(low.operands[0]) {
            _ if low.operands[0] == x => None,
            Some((_, Node { op: Op::Dropout(op), operands, .. })) if operands[0] == x => {
                Some((op.p, op.site, operands[1..].to_vec()))
            }
            _ => return None,
        };
        self.adapter = Some(Adapter { a, b, low_node, low: low.results[0], scale, dropout });
        self.y = sum_node.results[0];
        self.absorbed.extend([up, scaled, sum]);
        Some(())
    }

    /// The sums that the result goes into, and what is added in each; not those that another projection has taken.
    fn take_residuals(&mut self, matcher: &Matcher<'_>, taken: &mut BTreeSet<NodeId>) -> Vec<ValueId> {
        let mut residuals = Vec::new();
        while self.activated.is_none()
            && let Some((id, node)) = matcher.only_reader(self.y)
            && let Op::Add(_) = node.op
            && taken.insert(id)
            && let Some(&other) = node.operands.iter().find(|&&operand| operand != self.y)
        {
            residuals.push(other);
            self.absorbed.push(id);
            self.y = node.results[0];
        }
        residuals
    }
}

/// The fused nodes for the projections of `x`.
fn candidate(
    matcher: &Matcher<'_>,
    x: ValueId,
    mut members: Vec<Member>,
    taken: &mut BTreeSet<NodeId>,
) -> Candidate {
    let residuals = match &mut members[..] {
        [member] => member.take_residuals(matcher, taken),
        _ => Vec::new(),
    };
    let module = common_module(members.iter().map(|member| member.module.as_str()));
    let mut nodes: Vec<FusedNode> = adapter_down(x, &members, &module).into_iter().collect();
    nodes.push(projection(x, &members, &residuals, &module));
    Candidate { name: format!("projections `{module}`"), nodes }
}

fn adapted(members: &[Member]) -> impl Iterator<Item = &Adapter> {
    members.iter().filter_map(|member| member.adapter.as_ref())
}

fn adapter_down(x: ValueId, members: &[Member], module: &str) -> Option<FusedNode> {
    let adapters: Vec<&Adapter> = adapted(members).collect();
    let first = adapters.first()?;
    let mut operands = vec![x];
    operands.extend(adapters.iter().map(|adapter| adapter.a));
    operands.extend(first.dropout.iter().flat_map(|(_, _, mask)| mask));
    let op = AdapterDown {
        members: adapters.len(),
        p: first.dropout.as_ref().map_or(0.0, |(p, ..)| *p),
        sites: adapters
            .iter()
            .map(|adapter| adapter.dropout.as_ref().map_or(0, |(_, site, _)| *site))
            .collect(),
    };
    Some(FusedNode {
        op: op.into(),
        operands: operands.into_iter().map(Operand::from).collect(),
        absorbed: adapters.iter().map(|adapter| adapter.low_node).collect(),
        results: adapters.iter().map(|adapter| adapter.low).enumerate().collect(),
        module: module.to_owned(),
    })
}

fn projection(x: ValueId, members: &[Member], residuals: &[ValueId], module: &str) -> FusedNode {
    let mut lows = (0..).map(|result| Operand::Fused { node: 0, result });
    let parts = ProjectionOperands {
        x: Operand::from(x),
        members: members
            .iter()
            .map(|member| ProjectionMember {
                weight: member.weight.into(),
                bias: member.bias.map(Operand::from),
                adapter: member.adapter.as_ref().and_then(|adapter| Some((lows.next()?, adapter.b.into()))),
            })
            .collect(),
        residuals: residuals.iter().map(|&value| value.into()).collect(),
    };
    let activations = members.iter().enumerate().filter(|(_, member)| member.activated.is_some());
    let op = Projection {
        members: members.len(),
        biased: parts.biased(),
        adapted: parts.adapted(),
        gelu: activations.map(|(index, _)| 1 << index).sum(),
        residuals: residuals.len(),
        scale: adapted(members).next().map_or(1.0, |adapter| adapter.scale),
        dtype: DType::F32,
        activation: DType::F32,
    };
    let operands = parts.join();
    let activated = members.iter().filter_map(|member| member.activated);
    FusedNode {
        op: op.into(),
        operands,
        absorbed: members.iter().flat_map(|member| member.absorbed.iter().copied()).collect(),
        results: members.iter().map(|member| member.y).chain(activated).enumerate().collect(),
        module: module.to_owned(),
    }
}

/// What modules have in common, and their last parts: `h.3.q_proj+k_proj` for `h.3.attn.q_proj` and `h.3.attn.k_proj`.
pub(super) fn common_module<'m>(modules: impl Iterator<Item = &'m str>) -> String {
    let modules: Vec<Vec<&str>> = modules.map(|module| module.split('.').collect()).collect();
    let Some((first, others)) = modules.split_first() else { return String::new() };
    if others.is_empty() {
        return first.join(".");
    }
    let shared = |index: &usize| others.iter().all(|other| other.get(*index) == first.get(*index));
    let prefix: Vec<&str> = (0..first.len()).take_while(shared).map(|index| first[index]).collect();
    let names: Vec<&str> = modules.iter().filter_map(|module| module.last().copied()).collect();
    [prefix.join("."), names.join("+")].join(".")
}

/// One remark for each kind of adapter: the FLOPs of its associations.
fn associations(graph: &Graph, groups: &BTreeMap<ValueId, Vec<Member>>) -> Vec<String> {
    let mut kinds: BTreeMap<[usize; 4], usize> = BTreeMap::new();
    for (&x, members) in groups {
        let [m, k] = [0, 1].map(|index| graph.ty(x).dims[index].bound);
        for adapter in adapted(members) {
            let (n, r) = (graph.ty(adapter.b).dims[0].bound, graph.ty(adapter.b).dims[1].bound);
            *kinds.entry([m, n, k, r]).or_default() += 1;
        }
    }
    let remark = |([m, n, k, r], count): ([usize; 4], usize)| {
        let gflop = |flops: usize| flops as f64 / 1e9;
        let (low_rank, product) = (2 * m * r * (k + n), 2 * n * k * r);
        format!(
            "{count} adapters of rank {r} on [{n}, {k}] over {m} tokens: (x A) B takes {:.3} GFLOP, x (A B) {:.3}, a \
             merged weight {:.3} and {:.1} MB a step: (x A) B is taken, which also rounds no frozen weight again",
            gflop(low_rank),
            gflop(product + 2 * m * n * k),
            gflop(product + n * k),
            (4 * n * k) as f64 / 1e6
        )
    };
    kinds.into_iter().map(remark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_named_by_what_they_share() {
        let name = |modules: &[&str]| common_module(modules.iter().copied());
        assert_eq!(name(&["h.3.attn.q_proj", "h.3.attn.k_proj", "h.3.mlp.fc_in"]), "h.3.q_proj+k_proj+fc_in");
        assert_eq!(name(&["h.3.attn.out_proj"]), "h.3.attn.out_proj");
    }
}
