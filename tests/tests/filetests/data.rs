//! Tensors in comments: `; in x 2x3: 1 2 3 4 5 6`. A tensor without dimensions is a number: `; in s : 7`.

use crate::AnyError;
use gptjc_graphs::graph::Graph;
use gptjc_graphs::interp::{Data, Tensor};
use std::collections::BTreeMap;

/// Tensors by name.
pub(crate) type Tensors = BTreeMap<String, Tensor<f64>>;

/// The tensors of `lines`, each integers or not as the graph's input is.
pub(crate) fn tensors<'s>(lines: impl Iterator<Item = &'s str>, graph: &Graph) -> Result<Tensors, AnyError> {
    let mut tensors = Tensors::new();
    for line in lines {
        let (name, tensor) = tensor(line, graph).map_err(|error| format!("`; in {line}`: {error}"))?;
        if tensors.insert(name.to_owned(), tensor).is_some() {
            return Err(format!("`; in {line}`: `{name}` is given twice").into());
        }
    }
    Ok(tensors)
}

fn tensor<'s>(line: &'s str, graph: &Graph) -> Result<(&'s str, Tensor<f64>), AnyError> {
    let (head, numbers) = line.split_once(':').ok_or("expected `name dimensions: numbers`")?;
    let (name, dims) = head.split_once(' ').ok_or("expected dimensions (`2x3`) behind the name")?;
    let dims =
        dims.split('x').filter(|dim| !dim.is_empty()).map(str::parse).collect::<Result<Vec<usize>, _>>()?;
    let input = graph.find_input(name).ok_or("the graph has no such input")?;
    let numbers = numbers.split_whitespace();
    let (tensor, count) = if graph.ty(input.value).dtype.is_float() {
        let numbers = numbers.map(str::parse).collect::<Result<Vec<f64>, _>>()?;
        let count = numbers.len();
        (Tensor { dims, data: Data::Float(numbers) }, count)
    } else {
        let numbers = numbers.map(str::parse).collect::<Result<Vec<i32>, _>>()?;
        let count = numbers.len();
        (Tensor { dims, data: Data::Int(numbers) }, count)
    };
    let expected: usize = tensor.dims.iter().product();
    if count == expected {
        Ok((name, tensor))
    } else {
        Err(format!("expected {expected} numbers, found {count}").into())
    }
}

/// The outputs, in the graph's order, as lines `out name dimensions: numbers`.
pub(crate) fn listing(graph: &Graph, outputs: &Tensors) -> String {
    let mut text = String::new();
    for (name, tensor) in graph.outputs().iter().filter_map(|output| outputs.get_key_value(&output.name)) {
        let dims: Vec<String> = tensor.dims.iter().map(ToString::to_string).collect();
        let numbers: Vec<String> = match &tensor.data {
            Data::Float(numbers) => numbers.iter().map(|&number| decimal(number)).collect(),
            Data::Int(numbers) => numbers.iter().map(ToString::to_string).collect(),
        };
        text += format!("out {name} {}: {}", dims.join("x"), numbers.join(" ")).trim_end();
        text += "\n";
    }
    text
}

/// Nine digits: more than a reader checks by hand, fewer than mathematical libraries differ in.
fn decimal(number: f64) -> String {
    let rounded = format!("{number:.8e}").parse().unwrap_or(number);
    if rounded == 0.0 { "0".to_owned() } else { format!("{rounded}") }
}

#[test]
fn nine_digits_are_shown() {
    assert_eq!([1.0 / 3.0, 2.0, -0.0, -1.5e-7].map(decimal), ["0.333333333", "2", "0", "-0.00000015"]);
}
