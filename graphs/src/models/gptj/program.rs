//! The entry points of training.
//!
//! - `setup`: tables that never change; run once.
//! - `micro_step`: forward and backward of a micro-batch; each window's loss and gradients are pushed into trees of
//!   partial sums.
//! - `apply`: the trees' totals, clipping by the global norm, AdamW.
//! - `forward`: the loss of each labelled row, without dropout.

use super::builder::{Batch, Builder, ModelError};
use super::names::Projection;
use crate::autodiff::{WindowTables, differentiate};
use crate::entities::ValueId;
use crate::graph::{Graph, Role};
use crate::hyper;
use crate::ops::elementwise::Fill;
use crate::ops::optimizer::{AdamW, ClipScale, SumSquares};
use crate::ops::rotary::RotaryTable;
use crate::ops::window::{TreeAccumulate, TreeFinish, WindowSum};
use crate::plan::{CompileOptions, TargetLayers, state};
use crate::shape::{Dim, TensorType};

/// The graphs of all entry points.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingProgram {
    /// Makes the tables.
    pub setup: Graph,
    /// Forward, backward, partial sums.
    pub micro_step: Graph,
    /// Clipping and AdamW.
    pub apply: Graph,
    /// Evaluation.
    pub forward: Graph,
}

impl TrainingProgram {
    /// The graphs, in the order in which a plan lists them.
    pub fn into_graphs(self) -> Vec<Graph> {
        vec![self.setup, self.micro_step, self.apply, self.forward]
    }
}

/// Builds the graphs for micro-batches of at most `micro_batch` windows.
///
/// # Errors
/// [`ModelError`] if an option is out of its range or a LoRA target does not exist.
pub fn training_program(options: &CompileOptions, micro_batch: usize) -> Result<TrainingProgram, ModelError> {
    check(options)?;
    let (micro_step, parameters) = micro_step(options, micro_batch)?;
    Ok(TrainingProgram {
        setup: setup(options)?,
        micro_step,
        apply: apply(options, &parameters)?,
        forward: forward(options, micro_batch)?,
    })
}

pub(super) fn out_of_range(
    option: &'static str,
    expected: impl Into<String>,
    found: impl ToString,
) -> ModelError {
    ModelError::Option { option, expected: expected.into(), found: found.to_string() }
}

pub(super) fn check(options: &CompileOptions) -> Result<(), ModelError> {
    let positions = options.model.n_positions;
    if !(1..=positions).contains(&options.max_seq_length) {
        let expected = format!("a window of 1 to n_positions = {positions} tokens");
        return Err(out_of_range("max_seq_length", expected, options.max_seq_length));
    }
    let Some(lora) = &options.lora else { return Ok(()) };
    let known = Projection::ALL.map(Projection::name);
    if lora.targets.is_empty() {
        return Err(ModelError::NoTarget { known: known.join(", ") });
    }
    if let Some(target) = lora.targets.iter().find(|target| !known.contains(&target.as_str())) {
        return Err(ModelError::UnknownTarget { target: target.clone(), known: known.join(", ") });
    }
    let last = options.model.n_layer.saturating_sub(1);
    for TargetLayers { target, layers } in &lora.only_in {
        if !lora.targets.contains(target) {
            return Err(ModelError::UnknownTarget { target: target.clone(), known: lora.targets.join(", ") });
        }
        if !layers.is_sorted_by(|a, b| a < b) || layers.last().is_none_or(|layer| *layer > last) {
            return Err(ModelError::TargetLayers { target: target.clone(), found: layers.clone(), last });
        }
    }
    if !(1..=options.model.n_embd).contains(&lora.rank) {
        let expected = format!("a rank from 1 to n_embd = {}", options.model.n_embd);
        return Err(out_of_range("lora_rank", expected, lora.rank));
    }
    if !(0.0..1.0).contains(&lora.dropout) {
        return Err(out_of_range("lora_dropout", "a share of at least 0 and below 1", lora.dropout));
    }
    if !lora.alpha.is_finite() {
        return Err(out_of_range("lora_alpha", "a finite number", lora.alpha));
    }
    Ok(())
}

pub(super) fn setup(options: &CompileOptions) -> Result<Graph, ModelError> {
    let mut builder = Builder::new("setup", options, 1, false);
    builder.rotary_tables()?;
    let op = RotaryTable {
        positions: options.model.n_positions as usize,
        rotary_dim: options.model.rotary_dim as usize,
    };
    let node = builder.graph.push(op, &[])?;
    let results = builder.graph.node(node).results.clone();
    builder.graph.output("rotary.sin", results[0]);
    builder.graph.output("rotary.cos", results[1]);
    Ok(builder.graph)
}

/// The forward pass: the negative log-likelihood of each labelled row.
fn model(builder: &mut Builder<'_>) -> Result<(Batch, ValueId), ModelError> {
    let batch = builder.batch()?;
    let rotary = builder.rotary_tables()?;
    let mut x = builder.embedding(batch.tokens)?;
    for layer in 0..builder.options.model.n_layer as usize {
        x = builder.block(layer, x, &batch, rotary)?;
    }
    let nll = builder.head(x, &batch)?;
    Ok((batch, nll))
}

fn micro_step(
    options: &CompileOptions,
    micro_batch: usize,
) -> Result<(Graph, Vec<(String, TensorType)>), ModelError> {
    let mut builder = Builder::new("micro_step", options, micro_batch, true);
    let (batch, nll) = model(&mut builder)?;
    let window_loss = builder.graph.push1(WindowSum, &[nll, batch.row_table])?;
    // The loss of an optimizer step is divided by its labelled tokens once, at the end: here every row counts 1.
    let seed = builder.graph.push1(Fill { value: 1.0 }, &[nll])?;
    let tables = WindowTables { slots: Some(batch.window_table), rows: Some(batch.row_table) };
    let cotangents = differentiate(&mut builder.graph, &[(nll, seed)], tables)?;
    builder.graph.set_module("loss");
    accumulate(&mut builder, state::LOSS_STACK, &[], window_loss)?;
    let mut parameters = Vec::new();
    for name in builder.parameters.clone() {
        let Some(value) = builder.graph.find_input(&name).map(|input| input.value) else { continue };
        let Some(&gradient) = cotangents.get(&value) else { continue };
        let ty = builder.graph.ty(value).clone();
        builder.graph.set_module(name.trim_end_matches(".weight"));
        accumulate(&mut builder, &state::gradient_stack(&name), &ty.dims, gradient)?;
        parameters.push((name, ty));
    }
    Ok((builder.graph, parameters))
}

/// Pushes each window's `sums` into the tree of partial sums called `state`.
fn accumulate(builder: &mut Builder<'_>, state: &str, dims: &[Dim], sums: ValueId) -> Result<(), ModelError> {
    let ty = stack_type(builder.options, dims);
    let stack = builder.graph.input(state, Role::State, ty)?;
    let counter = builder.counter()?;
    let updated = builder.graph.push1(TreeAccumulate, &[stack, sums, counter])?;
    builder.graph.output(state, updated);
    Ok(())
}

/// `dims` behind one dimension for the levels of the tree.
fn stack_type(options: &CompileOptions, dims: &[Dim]) -> TensorType {
    let mut stack = vec![Dim::fixed(options.tree_levels())];
    stack.extend_from_slice(dims);
    TensorType::f32(stack)
}

fn apply(options: &CompileOptions, parameters: &[(String, TensorType)]) -> Result<Graph, ModelError> {
    let mut graph = Graph::new("apply");
    let totals = graph.input("totals", Role::Control, TensorType::i32([Dim::fixed(2)]))?;
    let hyper = graph.input("hyper", Role::Control, TensorType::f32([Dim::fixed(hyper::LEN)]))?;
    graph.set_module("loss");
    let loss_stack = graph.input(state::LOSS_STACK, Role::State, stack_type(options, &[]))?;
    let loss = graph.push1(TreeFinish, &[loss_stack, totals])?;
    let mut gradients = Vec::new();
    let mut norm_operands = vec![totals, hyper];
    for (name, ty) in parameters {
        graph.set_module(name.trim_end_matches(".weight"));
        let stack = graph.input(&state::gradient_stack(name), Role::State, stack_type(options, &ty.dims))?;
        let gradient = graph.push1(TreeFinish, &[stack, totals])?;
        norm_operands.push(graph.push1(SumSquares, &[gradient])?);
        gradients.push(gradient);
    }
    graph.set_module("clip");
    let node = graph.push(ClipScale, &norm_operands)?;
    let [scale, norm] = [0, 1].map(|index| graph.node(node).results[index]);
    for ((name, ty), gradient) in parameters.iter().zip(gradients) {
        graph.set_module(name.trim_end_matches(".weight"));
        let parameter = graph.input(name, Role::Parameter, ty.clone())?;
        let (m, v) = (state::first_moment(name), state::second_moment(name));
        let first = graph.input(&m, Role::State, ty.clone())?;
        let second = graph.input(&v, Role::State, ty.clone())?;
        let node = graph.push(AdamW, &[parameter, gradient, first, second, scale, hyper])?;
        let results = graph.node(node).results.clone();
        for (output, value) in [name, &m, &v].into_iter().zip(results) {
            graph.output(output, value);
        }
    }
    graph.output("loss", loss);
    graph.output("grad_norm", norm);
    Ok(graph)
}

fn forward(options: &CompileOptions, micro_batch: usize) -> Result<Graph, ModelError> {
    let mut builder = Builder::new("forward", options, micro_batch, false);
    let (_, nll) = model(&mut builder)?;
    builder.graph.output("row_loss", nll);
    Ok(builder.graph)
}
