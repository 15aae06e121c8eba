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
//! An op stores a result as bf16 if it can and everybody who reads it takes bf16 (`takes_bf16`); where somebody must have
//! bf16 (`needs_bf16`) and the value is stored as f32, it is cast. The residual stream and its gradient, norms'
//! statistics, log-sum-exps, adapters, thin products, loss, parameter gradients and moments stay f32. Where all parameters
//! are trained, the f32 masters are cast as well.
//!
//! Where products are made by f32 instructions ([`Products::F32`]), rounding what enters one saves no time, and what is not
//! kept for the backward pass takes no memory then. So there a projection reads its layer norm, which the backward pass
//! makes again, and its activation, if the backward pass does not read it, in f32.
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
use gptjc_graphs::plan::Isa;
use std::collections::{BTreeMap, BTreeSet};

/// Which operands the instructions of a target's base matmuls take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Products {
    /// Both bf16.
    Bf16,
    /// Any, widened to f32.
    F32,
}

impl Products {
    /// Those of the kernels of `isa`.
    pub fn of(isa: Isa) -> Self {
        match isa {
            Isa::Portable | Isa::Avx2 | Isa::Avx512 => Products::F32,
            Isa::Avx512Bf16 | Isa::Amx => Products::Bf16,
        }
    }
}

/// See the [module](self).
pub struct AssignPrecision {
    /// What base matmuls take.
    pub products: Products,
}

impl Pass for AssignPrecision {
    fn name(&self) -> &'static str {
        match self.products {
            Products::Bf16 => "assign_precision",
            Products::F32 => "assign_precision_f32_products",
        }
    }

    fn run(&self, graph: &mut Graph, remarks: &mut Vec<String>) -> Result<(), CompileError> {
        let failed = |error: GraphError| CompileError::Pass { pass: self.name(), reason: error.to_string() };
        let matcher = Matcher::new(graph);
        let mut rounder = Rounder::new(&matcher, self.products).map_err(failed)?;
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

/// Sets of a node's results whose type the op chooses, each as a whole: first and number.
fn choices(op: &Op) -> Vec<(usize, usize)> {
    match op {
        Op::LayerNorm(_) | Op::ProjectionGrad(_) | Op::Attention(_) => vec![(0, 1)],
        Op::Projection(op) => {
            let activations = op.gelu.count_ones() as usize;
            vec![(0, op.members), (op.members, activations)]
        }
        Op::AttentionGrad(op) => vec![(0, op.wanted.count_ones() as usize)],
        _ => Vec::new(),
    }
}

/// Makes the op store the results of choice `index` as bf16.
fn store_bf16(op: &mut Op, index: usize) {
    let dtype = match op {
        Op::LayerNorm(op) => &mut op.dtype,
        Op::Projection(op) if index == 1 => &mut op.activation,
        Op::Projection(op) => &mut op.dtype,
        Op::ProjectionGrad(op) => &mut op.dtype,
        Op::Attention(op) => &mut op.dtype,
        Op::AttentionGrad(op) => &mut op.dtype,
        _ => return,
    };
    *dtype = DType::Bf16;
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
    products: Products,
    /// Nodes from here on are of the backward pass.
    backward: Option<NodeId>,
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
    fn new(matcher: &'m Matcher<'g>, products: Products) -> Result<Self, GraphError> {
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
        let is_loss = |node: &Node| matches!(node.op, Op::VocabLoss(_) | Op::CrossEntropy(_));
        let backward = old.nodes().find_map(|(id, node)| is_loss(node).then_some(id));
        let (casts, stored) = (BTreeMap::new(), BTreeSet::new());
        Ok(Self { matcher, products, backward, new, values, casts, weights, stored })
    }

    fn copy_nodes(&mut self) -> Result<(), GraphError> {
        for (id, node) in self.matcher.graph.nodes() {
            self.new.set_module(&node.module);
            let mut operands: Vec<ValueId> =
                node.operands.iter().filter_map(|operand| self.values[operand.index()]).collect();
            for (index, operand) in operands.iter_mut().enumerate() {
                if needs_bf16(self.matcher, node, index) && !self.stays_f32(node, index) {
                    *operand = self.rounded(*operand)?;
                }
            }
            let mut op = rounded_inside(&node.op);
            for (index, (first, count)) in
                choices(&node.op).into_iter().enumerate().filter(|choice| choice.1.1 > 0)
            {
                let mut results = node.results[first..first + count].iter();
                if results.all(|&result| self.is_stored_as_bf16(result)) {
                    store_bf16(&mut op, index);
                    self.stored.insert(id);
                }
            }
            let copy = self.new.push(op, &operands)?;
            for (old, new) in node.results.iter().zip(self.new.node(copy).results.clone()) {
                self.values[old.index()] = Some(new);
            }
        }
        Ok(())
    }

    /// True if a base product reads operand `index` of `node` in f32.
    fn stays_f32(&self, node: &Node, index: usize) -> bool {
        index == 0 && matches!(node.op, Op::Projection(_)) && self.is_transient(node.operands[0])
    }

    /// True if the instructions take f32 and `value` is not kept for the backward pass: a layer norm, which is made again,
    /// or an activation that nobody there reads.
    fn is_transient(&self, value: ValueId) -> bool {
        let Some((_, definition)) = self.matcher.definition(value) else { return false };
        let read_backward =
            || self.matcher.readers(value).any(|(id, _)| self.backward.is_some_and(|loss| id > loss));
        self.products == Products::F32
            && match &definition.op {
                Op::LayerNorm(_) => true,
                Op::Projection(op) => definition.results[op.members..].contains(&value) && !read_backward(),
                _ => false,
            }
    }

    /// True if whoever reads `value` takes bf16, and it is not read in f32 for being transient.
    fn is_stored_as_bf16(&self, value: ValueId) -> bool {
        let stays = |node: &Node| node.operands.first() == Some(&value) && self.stays_f32(node, 0);
        everybody_takes_bf16(self.matcher, value) && !self.matcher.readers(value).any(|(_, node)| stays(node))
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
