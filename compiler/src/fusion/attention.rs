//! Fuses attention, forward and backward.
//!
//! Reason: scores and probabilities take `heads × window` numbers a slot, more than everything else together, and each
//! is used a few times. Fused, they live in a tile at a time; the backward pass makes the probabilities again from the
//! log of their sum of exponentials. Source: Dao et al. 2022, "FlashAttention".
//!
//! ```text
//! %qr = rotary %q, ...                    %kr = rotary %k, ...
//! %s  = segment_scores %qr, %kr, ...
//! %t  = scale %s
//! %p  = masked_softmax %t, ...
//! %o  = segment_mix %p, %v, ...                         =>  %o, %lse = attention %q, %k, %v, ...
//!
//! %dp = segment_scores %do, %v, ...
//! %dv = segment_mix_transposed %p, %do, ...
//! %dt = masked_softmax_grad %dp, %p, ...
//! %ds = scale %dt
//! %x  = segment_mix %ds, %kr, ...         %y = segment_mix_transposed %ds, %qr, ...
//! %dq = rotary %x, ... {inverse}          %dk = rotary %y, ... {inverse}
//!                                         =>  %dq, %dk, %dv = attention_grad %do, %q, %k, %v, %o, %lse, ...
//! ```
//!
//! Only the gradients that are there are made. Queries may be labelled rows.
//!
//! Requires: dead code removed. Preserves: types and names. Gives: no tensor of scores.
//! Numerics: exact in f64; the order of sums and where the maximum is subtracted change.
//! Does not: fuse attention over a cache, which is one row a sequence.

use super::matcher::Matcher;
use super::replace::{Candidate, FusedNode, Operand, replace};
use crate::CompileError;
use crate::pass_manager::Pass;
use gptjc_graphs::dtype::DType;
use gptjc_graphs::entities::{NodeId, ValueId};
use gptjc_graphs::graph::{Graph, Node};
use gptjc_graphs::ops::Op;
use gptjc_graphs::ops::attention::{Attention, AttentionGrad};

/// See the [module](self).
pub struct FuseAttention;

impl Pass for FuseAttention {
    fn name(&self) -> &'static str {
        "fuse_attention"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Vec<String>) -> Result<(), CompileError> {
        let matcher = Matcher::new(graph);
        let candidates = graph.nodes().filter_map(|(id, node)| Forward::find(&matcher, id, node));
        let candidates = candidates.map(|forward| forward.candidate(&matcher)).collect();
        let (new, count) = replace(self.name(), graph, candidates, remarks)?;
        if count > 0 {
            remarks.push(format!("{count} attentions fused"));
        }
        *graph = new;
        Ok(())
    }
}

/// The forward pattern, found.
struct Forward {
    absorbed: Vec<NodeId>,
    heads: usize,
    window: usize,
    scale: f64,
    q: ValueId,
    k: ValueId,
    v: ValueId,
    q_rotated: ValueId,
    k_rotated: ValueId,
    p: ValueId,
    o: ValueId,
    /// Position, sin, cos, of the keys.
    rotary: [ValueId; 3],
    /// Segment, segment table and, if queries are rows, the labelled slots.
    tables: Vec<ValueId>,
    module: String,
}

impl Forward {
    /// The pattern that ends in `mix`, if it is one.
    fn find(matcher: &Matcher<'_>, id: NodeId, mix: &Node) -> Option<Self> {
        let Op::SegmentMix(_) = mix.op else { return None };
        let (p, v) = (mix.operands[0], mix.operands[1]);
        let is = |wanted: bool| wanted.then_some(());
        let (softmax, softmax_node, ()) =
            matcher.defined_by(p, |op| is(matches!(op, Op::MaskedSoftmax(_))))?;
        let (scaled, scaled_node, scale) = matcher.defined_by(softmax_node.operands[0], scale_of)?;
        let (scores, scores_node, op) = matcher.defined_by(scaled_node.operands[0], |op| match op {
            Op::SegmentScores(op) => Some(op),
            _ => None,
        })?;
        let (q_rotated, k_rotated) = (scores_node.operands[0], scores_node.operands[1]);
        let (q_node, q, _) = rotated(matcher, q_rotated, op.heads)?;
        let (k_node, k, rotary) = rotated(matcher, k_rotated, op.heads)?;
        Some(Self {
            absorbed: vec![q_node, k_node, scores, scaled, softmax, id],
            heads: op.heads,
            window: op.window,
            scale,
            q,
            k,
            v,
            q_rotated,
            k_rotated,
            p,
            o: mix.results[0],
            rotary,
            tables: mix.operands[2..].to_vec(),
            module: mix.module.clone(),
        })
    }

    /// What all operands end in.
    fn common(&self) -> impl Iterator<Item = Operand> + '_ {
        self.rotary.iter().chain(&self.tables).map(|&value| value.into())
    }

    fn candidate(self, matcher: &Matcher<'_>) -> Candidate {
        let backward = self.backward(matcher);
        let (heads, window, scale, dtype) = (self.heads, self.window, self.scale, DType::F32);
        let operands = [self.q, self.k, self.v].map(Operand::from).into_iter().chain(self.common()).collect();
        let forward = FusedNode {
            op: Attention { heads, window, scale, dtype }.into(),
            operands,
            absorbed: self.absorbed.clone(),
            results: vec![(0, self.o)],
            module: self.module.clone(),
        };
        let nodes = std::iter::once(forward).chain(backward).collect();
        Candidate { name: format!("attention of `{}`", self.module), nodes }
    }

    /// The gradient, if there is one.
    fn backward(&self, matcher: &Matcher<'_>) -> Option<FusedNode> {
        let mut found = Gradient::default();
        for (id, node) in matcher.readers(self.p) {
            match &node.op {
                // dv = pᵀ · do
                Op::SegmentMixTransposed(_) if node.operands[0] == self.p => {
                    found.absorbed.push(id);
                    found.output = Some(node.operands[1]);
                    found.wanted[2] = Some(node.results[0]);
                }
                Op::MaskedSoftmaxGrad(_) if node.operands[1] == self.p => {
                    self.of_scores(matcher, id, node, &mut found)?;
                }
                _ => {}
            }
        }
        let output = found.output?;
        let present: Vec<ValueId> = found.wanted.iter().flatten().copied().collect();
        let wanted = (0..3).filter(|&bit| found.wanted[bit].is_some()).map(|bit| 1 << bit).sum();
        let op = AttentionGrad {
            heads: self.heads,
            window: self.window,
            scale: self.scale,
            wanted,
            dtype: DType::F32,
        };
        let values = [output, self.q, self.k, self.v, self.o].map(Operand::from);
        let operands = values.into_iter().chain([Operand::Fused { node: 0, result: 1 }]).chain(self.common());
        Some(FusedNode {
            op: op.into(),
            operands: operands.collect(),
            absorbed: found.absorbed,
            results: present.into_iter().enumerate().collect(),
            module: self.module.clone(),
        })
    }

    /// Adds what follows from the gradient of the softmax: the gradients of queries and keys.
    fn of_scores(
        &self,
        matcher: &Matcher<'_>,
        id: NodeId,
        softmax_grad: &Node,
        found: &mut Gradient,
    ) -> Option<()> {
        let (dp, dp_node, ()) = matcher.defined_by(softmax_grad.operands[0], |op| match op {
            Op::SegmentScores(_) => Some(()),
            _ => None,
        })?;
        if dp_node.operands[1] != self.v {
            return None;
        }
        found.output = Some(dp_node.operands[0]);
        let (scaled, scaled_node) = matcher.only_reader(softmax_grad.results[0])?;
        if scale_of(&scaled_node.op)? != self.scale {
            return None;
        }
        found.absorbed.extend([dp, id, scaled]);
        for (id, node) in matcher.readers(scaled_node.results[0]) {
            let wanted = match &node.op {
                Op::SegmentMix(_) if node.operands[1] == self.k_rotated => 0,
                Op::SegmentMixTransposed(_) if node.operands[1] == self.q_rotated => 1,
                _ => return None,
            };
            let (back, back_node) = matcher.only_reader(node.results[0])?;
            match &back_node.op {
                Op::Rotary(rotary) if rotary.inverse && rotary.heads == self.heads => {}
                _ => return None,
            }
            found.absorbed.extend([id, back]);
            found.wanted[wanted] = Some(back_node.results[0]);
        }
        Some(())
    }
}

/// The gradient as far as it was found.
#[derive(Default)]
struct Gradient {
    absorbed: Vec<NodeId>,
    /// Cotangent of the output.
    output: Option<ValueId>,
    /// dq, dk, dv.
    wanted: [Option<ValueId>; 3],
}

fn scale_of(op: &Op) -> Option<f64> {
    match op {
        Op::Scale(scale) => Some(scale.factor),
        _ => None,
    }
}

/// The rotation that gives `value`: its node, what is rotated, and position, sin, cos. Positions of labelled rows are
/// gathered from those of the slots, which the fused op does by itself.
fn rotated(matcher: &Matcher<'_>, value: ValueId, heads: usize) -> Option<(NodeId, ValueId, [ValueId; 3])> {
    let (id, node, op) = matcher.defined_by(value, |op| match op {
        Op::Rotary(op) => Some(op),
        _ => None,
    })?;
    let right = op.heads == heads && !op.inverse;
    right.then(|| (id, node.operands[0], [node.operands[1], node.operands[2], node.operands[3]]))
}
