//! Rounds to bf16 what enters a base matmul.
//!
//! Reason: frozen weights are bf16 in the checkpoint and stay so in memory, and on CPUs with bf16 instructions both
//! operands of a matmul must be bf16. Sums stay in f32.
//!
//! ```text
//! %w: weight f32[N, K]                       %w: weight bf16[N, K]
//! %y = matmul %x, %w               =>        %b = cast %x {dtype = bf16}
//!                                            %y = matmul %b, %w
//! ```
//!
//! and the table of an embedding becomes bf16. Where all parameters are trained, the f32 masters are cast as well.
//! Adapters, thin products, norms, softmax, loss, residual sums and moments stay f32.
//!
//! Requires: a verified graph; every other pass before it. Gives: the same graph with roundings; this is the only pass
//! that changes numbers. Cost: linear.

use crate::CompileError;
use crate::pass_manager::Pass;
use gptjc_graphs::dtype::DType;
use gptjc_graphs::entities::{Entity, ValueId};
use gptjc_graphs::graph::{Definition, Graph, GraphError, Node, Role};
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
        let narrowed = narrowed_weights(graph);
        let mut rounder = Rounder::new(graph, &narrowed).map_err(|error| self.failed(&error))?;
        rounder.copy_nodes().map_err(|error| self.failed(&error))?;
        let (rounded, casts) = rounder.finish();
        if !narrowed.is_empty() || casts > 0 {
            remarks.push(format!("{} weights in bf16, {casts} values rounded to bf16", narrowed.len()));
        }
        *graph = rounded;
        Ok(())
    }
}

impl AssignPrecision {
    fn failed(&self, error: &GraphError) -> CompileError {
        CompileError::Pass { pass: self.name(), reason: error.to_string() }
    }
}

/// The role of the input that defines `value`, if one does.
fn input_role(graph: &Graph, value: ValueId) -> Option<Role> {
    match graph.value(value).definition {
        Definition::Input(index) => Some(graph.inputs()[index].role),
        Definition::Result(..) => None,
    }
}

/// Frozen weights that are read by matmuls or embeddings only: these are kept in bf16.
fn narrowed_weights(graph: &Graph) -> BTreeSet<ValueId> {
    let mut narrowed: BTreeSet<ValueId> = graph
        .inputs()
        .iter()
        .filter(|input| input.role == Role::Weight && graph.ty(input.value).rank() == 2)
        .map(|input| input.value)
        .collect();
    for (_, node) in graph.nodes() {
        for (index, operand) in node.operands.iter().enumerate() {
            let takes_bf16 = matches!((&node.op, index), (Op::Matmul(_), 1) | (Op::Embedding(_), 0));
            if !takes_bf16 {
                narrowed.remove(operand);
            }
        }
    }
    narrowed
}

/// The graph with roundings, in the making.
struct Rounder<'g> {
    old: &'g Graph,
    new: Graph,
    /// New value of each old one, by index.
    values: Vec<Option<ValueId>>,
    /// The bf16 copy of a new value.
    casts: BTreeMap<ValueId, ValueId>,
    /// True if every parameter of the model is trained, so that base weights are parameters.
    trains_all: bool,
}

impl<'g> Rounder<'g> {
    fn new(old: &'g Graph, narrowed: &BTreeSet<ValueId>) -> Result<Self, GraphError> {
        let mut new = Graph::new(&old.name);
        let mut values = vec![None; old.value_count()];
        for input in old.inputs() {
            let ty = old.ty(input.value);
            let ty = if narrowed.contains(&input.value) { ty.with_dtype(DType::Bf16) } else { ty.clone() };
            values[input.value.index()] = Some(new.input(&input.name, input.role, ty)?);
        }
        let trains_all = !old.inputs().iter().any(|input| input.role == Role::Weight);
        Ok(Self { old, new, values, casts: BTreeMap::new(), trains_all })
    }

    /// True if `node` is a product with a weight of the model.
    fn is_base_matmul(&self, node: &Node) -> bool {
        let Op::Matmul(_) = node.op else { return false };
        match input_role(self.old, node.operands[1]) {
            Some(Role::Weight) => true,
            Some(Role::Parameter) => self.trains_all,
            Some(Role::State | Role::Batch | Role::Control) | None => false,
        }
    }

    fn copy_nodes(&mut self) -> Result<(), GraphError> {
        for (_, node) in self.old.nodes() {
            self.new.set_module(&node.module);
            let mut operands: Vec<ValueId> =
                node.operands.iter().filter_map(|operand| self.values[operand.index()]).collect();
            if self.is_base_matmul(node) {
                for operand in &mut operands {
                    *operand = self.rounded(*operand)?;
                }
            }
            let copy = self.new.push(node.op.clone(), &operands)?;
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

    fn finish(mut self) -> (Graph, usize) {
        for output in self.old.outputs() {
            if let Some(value) = self.values[output.value.index()] {
                self.new.output(&output.name, value);
            }
        }
        (self.new, self.casts.len())
    }
}
