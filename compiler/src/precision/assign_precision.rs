//! Rounds to bf16 what enters a base matmul, and what reaches memory as an activation.
//!
//! Reason: frozen weights are bf16 in the checkpoint and stay so in memory; on CPUs with bf16 instructions both operands of
//! a matmul must be bf16; and activations in bf16 take half the memory. Sums stay in f32.
//!
//! ```text
//! %w: weight f32[N, K]                           %w: weight bf16[N, K]
//! %h, ... = layer_norm %x, ... {dtype = f32}     %h, ... = layer_norm %x, ... {dtype = bf16}
//! %y = projection %h, %w, ... {dtype = f32}  =>  %y = projection %h, %w, ... {dtype = bf16}
//! %z = projection %r, %w, ... {dtype = f32}      %b = cast %r {dtype = bf16}
//!                                                %z = projection %b, %w, ... {dtype = f32}
//! ```
//!
//! An op stores a result as bf16 if it can and everybody who reads it takes bf16 ([`takes_bf16`]); where somebody must have
//! bf16 ([`needs_bf16`]) and the value is stored as f32, it is cast. The residual stream and its gradient, norms'
//! statistics, log-sum-exps, adapters, thin products, loss, parameter gradients and moments stay f32. Where all parameters
//! are trained, the f32 masters are cast as well.
//!
//! Requires: a verified graph; every other pass that changes ops before it. Gives: the same graph with roundings; this is
//! the only pass that changes numbers. Cost: linear.

use crate::CompileError;
use crate::fusion::matcher::Matcher;
use crate::pass_manager::Pass;
use gptjc_graphs::dtype::DType;
use gptjc_graphs::entities::{Entity, NodeId, ValueId};
use gptjc_graphs::graph::{Graph, GraphError, Node, Role};
use gptjc_graphs::ops::Op;
use gptjc_graphs::ops::elementwise::Cast;
use std::collections::{BTreeMap, BTreeSet};

/// See the [module](self).
pub struct AssignPrecision;

impl Pass for AssignPrecision {
    fn name(&self) -> &'static str {
        "assign_precision"
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Vec<String>) -> Result<(), CompileError> {
        let failed = |error: GraphError| CompileError::Pass { pass: self.name(), reason: error.to_string() };
        let matcher = Matcher::new(graph);
        let mut rounder = Rounder::new(&matcher).map_err(failed)?;
        rounder.copy_nodes().map_err(failed)?;
        remarks.extend(rounder.remark());
        *graph = rounder.finish();
        Ok(())
    }
}

/// True if operand `index` of a node may be bf16.
fn takes_bf16(matcher: &Matcher<'_>, node: &Node, index: usize) -> bool {
    match &node.op {
        Op::Embedding(_) => index == 0,
        Op::AdapterDown(_) => index == 0,
        // Pairs (dy, b).
        Op::AdapterUpGrad(_) => index.is_multiple_of(2),
        // x, then triples (dy, low, dlow).
        Op::AdapterGrad(op) => index == 0 || (index <= 3 * op.members && index % 3 == 1),
        Op::Attention(_) => index < 3,
        // do, q, k, v, o.
        Op::AttentionGrad(_) => index < 5,
        Op::ProjectionGrad(op) if op.gelu && index + 1 + op.residuals == node.operands.len() => true,
        _ => needs_bf16(matcher, node, index),
    }
}

/// True if operand `index` of a node enters a base matmul.
fn needs_bf16(matcher: &Matcher<'_>, node: &Node, index: usize) -> bool {
    match &node.op {
        Op::Projection(op) => index <= op.members,
        Op::ProjectionGrad(op) => index < 2 * op.members,
        Op::VocabLoss(_) => index < 2,
        Op::Matmul(_) => matcher.is_base_weight(node.operands[1]),
        _ => false,
    }
}

/// The op with its result stored as bf16, and the results that this is about; none if the op has no choice.
fn narrowed(op: &Op) -> Option<(Op, std::ops::Range<usize>)> {
    let dtype = DType::Bf16;
    match op.clone() {
        Op::LayerNorm(mut op) => {
            op.dtype = dtype;
            Some((op.into(), 0..1))
        }
        Op::Projection(mut op) => {
            op.dtype = dtype;
            let results = op.members + op.gelu.count_ones() as usize;
            Some((op.into(), 0..results))
        }
        Op::ProjectionGrad(mut op) => {
            op.dtype = dtype;
            Some((op.into(), 0..1))
        }
        Op::Attention(mut op) => {
            op.dtype = dtype;
            Some((op.into(), 0..1))
        }
        Op::AttentionGrad(mut op) => {
            op.dtype = dtype;
            let results = op.wanted.count_ones() as usize;
            Some((op.into(), 0..results))
        }
        _ => None,
    }
}

/// The op whose inner operands of a base matmul are rounded to bf16.
fn rounded_inside(op: &Op) -> Op {
    match op.clone() {
        Op::VocabLoss(mut op) => {
            op.dtype = DType::Bf16;
            op.into()
        }
        op => op,
    }
}

/// The graph with roundings, in the making.
struct Rounder<'m, 'g> {
    matcher: &'m Matcher<'g>,
    new: Graph,
    /// New value of each old one, by index.
    values: Vec<Option<ValueId>>,
    /// The bf16 copy of a new value.
    casts: BTreeMap<ValueId, ValueId>,
    weights: usize,
    /// Nodes that store their results as bf16.
    stored: BTreeSet<NodeId>,
}

impl<'m, 'g> Rounder<'m, 'g> {
    fn new(matcher: &'m Matcher<'g>) -> Result<Self, GraphError> {
        let old = matcher.graph;
        let mut new = Graph::new(&old.name);
        let mut values = vec![None; old.value_count()];
        let mut weights = 0;
        for input in old.inputs() {
            let is_narrow = input.role == Role::Weight
                && old.ty(input.value).rank() == 2
                && everybody_takes_bf16(matcher, input.value);
            let ty = old.ty(input.value);
            let ty = if is_narrow { ty.with_dtype(DType::Bf16) } else { ty.clone() };
            weights += usize::from(is_narrow);
            values[input.value.index()] = Some(new.input(&input.name, input.role, ty)?);
        }
        Ok(Self { matcher, new, values, casts: BTreeMap::new(), weights, stored: BTreeSet::new() })
    }

    fn copy_nodes(&mut self) -> Result<(), GraphError> {
        for (id, node) in self.matcher.graph.nodes() {
            self.new.set_module(&node.module);
            let mut operands: Vec<ValueId> =
                node.operands.iter().filter_map(|operand| self.values[operand.index()]).collect();
            for (index, operand) in operands.iter_mut().enumerate() {
                if needs_bf16(self.matcher, node, index) {
                    *operand = self.rounded(*operand)?;
                }
            }
            let op = match narrowed(&node.op) {
                Some((op, results))
                    if results
                        .clone()
                        .all(|result| everybody_takes_bf16(self.matcher, node.results[result])) =>
                {
                    self.stored.insert(id);
                    op
                }
                _ => rounded_inside(&node.op),
            };
            let copy = self.new.push(op, &operands)?;
            for (old, new) in node.results.iter().zip(self.new.node(copy).results.clone()) {
                self.values[old.index()] = Some(new);
            }
        }
        Ok(())
    }

    /// `value` in bf16; one cast serves all readers.
    fn rounded(&mut self, value: ValueId) -> Result<ValueId, GraphError> {
        if self.new.ty(value).dtype == DType::Bf16 {
            return Ok(value);
        }
        if let Some(&cast) = self.casts.get(&value) {
            return Ok(cast);
        }
        let cast = self.new.push1(Cast { dtype: DType::Bf16 }, &[value])?;
        self.casts.insert(value, cast);
        Ok(cast)
    }

    fn remark(&self) -> Option<String> {
        let (weights, casts, stored) = (self.weights, self.casts.len(), self.stored.len());
        (weights + casts + stored > 0).then(|| {
            format!("{weights} weights in bf16, {casts} values rounded to bf16, {stored} nodes store bf16")
        })
    }

    fn finish(mut self) -> Graph {
        for output in self.matcher.graph.outputs() {
            if let Some(value) = self.values[output.value.index()] {
                self.new.output(&output.name, value);
            }
        }
        self.new
    }
}

/// True if whoever reads `value` takes bf16; not if it is an output.
fn everybody_takes_bf16(matcher: &Matcher<'_>, value: ValueId) -> bool {
    let takes = |node: &Node| {
        let mut operands = node.operands.iter().enumerate();
        operands.all(|(index, &operand)| operand != value || takes_bf16(matcher, node, index))
    };
    !matcher.is_output(value) && matcher.readers(value).all(|(_, node)| takes(node))
}
