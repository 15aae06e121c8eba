//! Proves gradient rules by finite differences, for tests.
//!
//! A graph in text form is differentiated for cotangents of its outputs that are inputs themselves, run in f64 on random
//! data that fill the bounds only in part, and each element of each gradient is compared with a central difference. A
//! gradient per window is compared window by window: the difference counts only what reaches that window's outputs.
//!
//! bf16 in the graph is checked as if it were f32, because gradient rules take rounding as the identity; the gradient
//! with the types as they are written must still type-check.
//!
//! Does not: check the interpreter. The meaning of an op has its own tests.

mod data;

use super::{WindowTables, differentiate};
use crate::entities::ValueId;
use crate::graph::{Graph, Role};
use crate::interp::{Tensor, run};
use crate::shape::{Dim, Extent, TensorType};
use data::Layout;
use std::collections::BTreeMap;

/// Step of a difference, relative to the element or to 1.
const STEP: f64 = 1e-6;

/// Accepted difference, relative to the largest element of the gradient. The error of a central difference is the sum
/// of about `STEP²` (truncation) and `f64::EPSILON / STEP` (rounding of the outputs), times a few.
const TOLERANCE: f64 = 1e-6;

/// Accepted difference where the gradient is zero: rounding of outputs of the order of 1 to 10.
const NOISE: f64 = 1e-8;

/// Tensors by name.
type Tensors = BTreeMap<String, Tensor<f64>>;

/// Differentiates the graph and compares the gradient of each floating-point input with finite differences.
///
/// The tables of windows are the inputs `window_table` and `row_table`, if the graph has them. Integer inputs are filled
/// by their conventional names: window_table, row_table, segment, segment_table, labelled, labels, tokens, position,
/// counter, totals.
///
/// # Panics
/// If a gradient is wrong, with the input, the index, what was expected and what was found; if the text does not
/// parse; if a rule fails; if nothing says what an integer input may hold.
pub(crate) fn check_vjp(text: &str) {
    if let Err(reason) = check(text) {
        panic!("{reason}\nin: {text}");
    }
}

/// Random data for the inputs of a graph, by the same conventions.
///
/// # Errors
/// The reason if nothing says what an integer input may hold.
pub(crate) fn random_data(graph: &Graph) -> Result<BTreeMap<String, Tensor<f64>>, String> {
    data::random_inputs(graph, &Layout::of(graph))
}

fn check(text: &str) -> Result<(), String> {
    let as_written = crate::text::parse(text).map_err(|error| error.to_string())?;
    with_gradient(&as_written, |_, _, gradient| Some(gradient))?;
    let forward = crate::text::parse(&text.replace("bf16", "f32")).map_err(|error| error.to_string())?;
    let gradient = with_gradient(&forward, |_, _, gradient| Some(gradient))?;
    compare(&forward, &gradient)
}

/// Name of the input that holds the cotangent of output `name`.
fn seed_name(name: &str) -> String {
    format!("cotangent.{name}")
}

/// Name of the output that holds the gradient of input `name`.
fn gradient_name(name: &str) -> String {
    format!("gradient.{name}")
}

/// `forward` with an output for the gradient of each floating-point input that has one. `adjust` may replace a gradient
/// or drop it, to see that [`compare`] finds out.
fn with_gradient(
    forward: &Graph,
    mut adjust: impl FnMut(&mut Graph, &str, ValueId) -> Option<ValueId>,
) -> Result<Graph, String> {
    let table = |name| forward.find_input(name).map(|input| input.value);
    let tables = WindowTables { slots: table("window_table"), rows: table("row_table") };
    let windows = tables.slots.or(tables.rows).map(|table| forward.ty(table).dims[0]);
    let mut graph = forward.clone();
    let mut seeds = Vec::new();
    for output in forward.outputs() {
        let ty = forward.ty(output.value);
        if ty.dtype.is_float() {
            let ty = cotangent_type(ty, windows);
            let seed =
                graph.input(&seed_name(&output.name), Role::Batch, ty).map_err(|error| error.to_string())?;
            seeds.push((output.value, seed));
        }
    }
    let cotangents = differentiate(&mut graph, &seeds, tables).map_err(|error| error.to_string())?;
    for input in forward.inputs().iter().filter(|input| forward.ty(input.value).dtype.is_float()) {
        let gradient = cotangents.get(&input.value).and_then(|&value| adjust(&mut graph, &input.name, value));
        if let Some(gradient) = gradient {
            graph.output(&gradient_name(&input.name), gradient);
        }
    }
    Ok(graph)
}

/// Type of the cotangent of a value: its own if it has tokens, else one for each window, if there are windows.
fn cotangent_type(ty: &TensorType, windows: Option<Dim>) -> TensorType {
    match windows {
        Some(windows) if !has_tokens(ty) => TensorType::f32([&[windows], ty.dims.as_slice()].concat()),
        _ => TensorType::f32(ty.dims.clone()),
    }
}

fn has_tokens(ty: &TensorType) -> bool {
    ty.dims.iter().any(|dim| matches!(dim.extent, Extent::Slots | Extent::Rows))
}

/// Compares the gradients that `gradient` computes with finite differences of `forward`.
fn compare(forward: &Graph, gradient: &Graph) -> Result<(), String> {
    let layout = Layout::of(forward);
    let inputs = data::random_inputs(gradient, &layout)?;
    let found = run(gradient, &inputs).map_err(|error| error.to_string())?;
    let mut nothing_depends = true;
    for input in forward.inputs() {
        let ty = forward.ty(input.value);
        if !ty.dtype.is_float() {
            continue;
        }
        let expected = differences(forward, &layout, &inputs, &input.name)?;
        nothing_depends &= expected.iter().flatten().all(|&element| element == 0.0);
        let name = gradient_name(&input.name);
        let per_window = match gradient.find_output(&name) {
            None => false,
            Some(value) if gradient.ty(value).dims == ty.dims => false,
            Some(value) if is_per_window(gradient.ty(value), ty) => true,
            Some(value) => {
                return Err(format!(
                    "input `{}` of type {ty}: its gradient is {}",
                    input.name,
                    gradient.ty(value)
                ));
            }
        };
        let expected = if per_window { expected } else { vec![sum_over_windows(&expected)] };
        let dims = &inputs[&input.name].dims;
        let found = match found.get(&name) {
            Some(tensor) => tensor.floats().map_err(|error| error.to_string())?.to_vec(),
            None => vec![0.0; dims.iter().product()],
        };
        compare_elements(dims, &expected, &found)
            .map_err(|reason| format!("gradient of input `{}`{reason}", input.name))?;
    }
    if nothing_depends {
        Err("no output depends on any input: this proves nothing".to_owned())
    } else {
        Ok(())
    }
}

/// True for the type of `of`'s gradient per window.
fn is_per_window(gradient: &TensorType, of: &TensorType) -> bool {
    gradient
        .dims
        .split_first()
        .is_some_and(|(first, rest)| first.extent == Extent::Windows && rest == of.dims)
}

fn sum_over_windows(expected: &[Vec<f64>]) -> Vec<f64> {
    (0..expected[0].len()).map(|element| expected.iter().map(|window| window[element]).sum()).collect()
}

/// Compares a gradient, window behind window, with what is expected of each window.
fn compare_elements(dims: &[usize], expected: &[Vec<f64>], found: &[f64]) -> Result<(), String> {
    let elements: usize = dims.iter().product();
    if found.len() != expected.len() * elements {
        return Err(format!(": expected {} elements, found {}", expected.len() * elements, found.len()));
    }
    let largest = expected.iter().flatten().fold(0.0, |largest: f64, element| largest.max(element.abs()));
    let tolerance = TOLERANCE * largest + NOISE;
    for (window, expected) in expected.iter().enumerate() {
        for (element, &expected) in expected.iter().enumerate() {
            let found = found[window * elements + element];
            let difference = (found - expected).abs();
            if difference.is_nan() || difference > tolerance {
                let index = unravel(element, dims);
                return Err(format!(
                    " at {index:?} of window {window}: expected {expected} by finite differences, found {found} \
                     (tolerance {tolerance:e})"
                ));
            }
        }
    }
    Ok(())
}

/// The index of element `element` of a tensor of these dimensions.
fn unravel(element: usize, dims: &[usize]) -> Vec<usize> {
    let mut rest = element;
    let mut index: Vec<usize> = dims
        .iter()
        .rev()
        .map(|&dim| {
            let position = rest % dim;
            rest /= dim;
            position
        })
        .collect();
    index.reverse();
    index
}

/// For each window and each element of input `name`: the derivative of the outputs of that window, weighted by their
/// cotangents.
fn differences(
    forward: &Graph,
    layout: &Layout,
    inputs: &Tensors,
    name: &str,
) -> Result<Vec<Vec<f64>>, String> {
    let tensor = &inputs[name];
    let elements = tensor.floats().map_err(|error| error.to_string())?.to_vec();
    let mut derivatives = vec![vec![0.0; elements.len()]; layout.windows.len()];
    for (element, &x) in elements.iter().enumerate() {
        let step = STEP * x.abs().max(1.0);
        let (above, below) = (x + step, x - step);
        let at = |x: f64| {
            let mut moved = elements.clone();
            moved[element] = x;
            let mut inputs = inputs.clone();
            inputs.insert(name.to_owned(), Tensor::float(tensor.dims.clone(), moved));
            run(forward, &inputs).map_err(|error| error.to_string())
        };
        let (outputs_above, outputs_below) = (at(above)?, at(below)?);
        for output in forward.outputs() {
            let Some(seed) = inputs.get(&seed_name(&output.name)) else { continue };
            let difference = Difference {
                ty: forward.ty(output.value),
                above: outputs_above[&output.name].floats().map_err(|error| error.to_string())?,
                below: outputs_below[&output.name].floats().map_err(|error| error.to_string())?,
                seed: seed.floats().map_err(|error| error.to_string())?,
            };
            for (window, change) in difference.weighted(layout).into_iter().enumerate() {
                derivatives[window][element] += change / (above - below);
            }
        }
    }
    Ok(derivatives)
}

/// An output at both ends of a step, and its cotangent.
struct Difference<'a> {
    ty: &'a TensorType,
    above: &'a [f64],
    below: &'a [f64],
    seed: &'a [f64],
}

impl Difference<'_> {
    /// For each window, the change of its elements weighted by their cotangents.
    fn weighted(&self, layout: &Layout) -> Vec<f64> {
        let mut changes = vec![0.0; layout.windows.len()];
        let change = |element: usize| self.above[element] - self.below[element];
        let elements = self.above.len();
        let rows = self.ty.dims.first().map_or(1, |&dim| layout.extents().of(dim));
        for (index, &seed) in self.seed.iter().enumerate() {
            let window = if has_tokens(self.ty) {
                layout.window_of(self.ty.dims[0].extent, index / (elements / rows))
            } else {
                index / elements // a cotangent per window, or of the only one
            };
            changes[window] += seed * change(index % elements);
        }
        changes
    }
}

#[cfg(test)]
mod tests;
