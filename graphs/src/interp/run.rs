//! Runs a graph node by node.

use super::{Data, Real, Tensor, round_to};
use crate::dtype::DType;
use crate::entities::{Entity, ValueId};
use crate::graph::Graph;
use crate::shape::{Extent, Extents, TensorType};
use std::collections::BTreeMap;

/// Data that a graph cannot be run on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// An input is not given.
    #[error("input `{0}` is not given")]
    MissingInput(String),
    /// An input of another dtype or shape.
    #[error("input `{name}`: expected {expected} filled as the other inputs say, found dimensions {found:?}")]
    Input {
        /// Name of the input.
        name: String,
        /// Its type.
        expected: TensorType,
        /// Dimensions given.
        found: Vec<usize>,
    },
    /// A tensor of the other kind.
    #[error("expected a tensor of {expected} numbers")]
    Kind {
        /// What was expected.
        expected: &'static str,
    },
    /// Another number of operands than an op takes.
    #[error("op `{op}` does not take {found} operands")]
    Operands {
        /// Name of the op.
        op: &'static str,
        /// Number given.
        found: usize,
    },
    /// An index outside of what it indexes.
    #[error("{what} {index} is outside of 0..{bound}")]
    Index {
        /// What the index is of.
        what: &'static str,
        /// The index.
        index: i64,
        /// First index that does not exist.
        bound: usize,
    },
}

/// Runs `graph` on `inputs` and returns its outputs by name.
///
/// The used part of each extent is read off the inputs' dimensions; all inputs must agree.
///
/// # Errors
/// [`EvalError`] if an input is missing or of another shape than the rest, or if the data are out of an op's domain.
pub fn run<F: Real>(
    graph: &Graph,
    inputs: &BTreeMap<String, Tensor<F>>,
) -> Result<BTreeMap<String, Tensor<F>>, EvalError> {
    let extents = extents_of(graph, inputs)?;
    let mut values: Vec<Option<Tensor<F>>> = vec![None; graph.value_count()];
    for input in graph.inputs() {
        let tensor = inputs.get(&input.name).ok_or_else(|| EvalError::MissingInput(input.name.clone()))?;
        let ty = graph.ty(input.value);
        let is_float = matches!(tensor.data, Data::Float(_));
        if tensor.dims != ty.used(&extents) || is_float != ty.dtype.is_float() {
            let (expected, found) = (ty.clone(), tensor.dims.clone());
            return Err(EvalError::Input { name: input.name.clone(), expected, found });
        }
        values[input.value.index()] = Some(rounded(tensor.clone(), ty.dtype));
    }
    for (_, node) in graph.nodes() {
        let operands: Vec<&Tensor<F>> =
            node.operands.iter().filter_map(|&value| values[value.index()].as_ref()).collect();
        let results = node.op.evaluate(&operands, &graph.result_types(node), &extents)?;
        for (&value, tensor) in node.results.iter().zip(results) {
            values[value.index()] = Some(rounded(tensor, graph.ty(value).dtype));
        }
    }
    let read = |value: ValueId| values[value.index()].clone();
    Ok(graph.outputs().iter().filter_map(|output| Some((output.name.clone(), read(output.value)?))).collect())
}

/// The used part of each extent, as the inputs' dimensions say.
fn extents_of<F: Real>(graph: &Graph, inputs: &BTreeMap<String, Tensor<F>>) -> Result<Extents, EvalError> {
    let mut extents = Extents::default();
    for input in graph.inputs() {
        let Some(tensor) = inputs.get(&input.name) else { continue };
        let ty = graph.ty(input.value);
        let wrong = || EvalError::Input {
            name: input.name.clone(),
            expected: ty.clone(),
            found: tensor.dims.clone(),
        };
        if tensor.dims.len() != ty.rank() {
            return Err(wrong());
        }
        for (dim, &used) in ty.dims.iter().zip(&tensor.dims) {
            if used > dim.bound {
                return Err(wrong());
            }
            match dim.extent {
                Extent::Fixed => {}
                Extent::Slots => extents.slots = used,
                Extent::Rows => extents.rows = used,
                Extent::Windows => extents.windows = used,
                Extent::Segments => extents.segments = used,
            }
        }
    }
    Ok(extents)
}

/// `tensor` as a value of this dtype is stored.
fn rounded<F: Real>(mut tensor: Tensor<F>, dtype: DType) -> Tensor<F> {
    if let (DType::Bf16, Data::Float(data)) = (dtype, &mut tensor.data) {
        for element in data {
            *element = round_to(*element, dtype);
        }
    }
    tensor
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Role;
    use crate::ops::elementwise::Add;
    use crate::shape::Dim;

    fn sum_graph(dtype: DType) -> Graph {
        let mut graph = Graph::new("sum");
        let ty = TensorType::new(dtype, [Dim::slots(4)]);
        let a = graph.input("a", Role::Batch, ty.clone()).unwrap();
        let b = graph.input("b", Role::Batch, ty).unwrap();
        let c = graph.push1(Add, &[a, b]).unwrap();
        graph.output("c", c);
        graph
    }

    #[test]
    fn a_graph_runs_on_the_used_part() {
        let inputs = [("a", vec![1.0, 2.0]), ("b", vec![10.0, 20.0])]
            .map(|(name, data)| (name.to_owned(), Tensor::<f64>::float([2], data)));
        let outputs = run(&sum_graph(DType::F32), &inputs.into()).unwrap();
        assert_eq!(outputs["c"], Tensor::float([2], vec![11.0, 22.0]));
    }

    #[test]
    fn bf16_values_are_rounded_to_even() {
        let inputs = [("a", vec![256.0]), ("b", vec![1.0])]
            .map(|(name, data)| (name.to_owned(), Tensor::<f32>::float([1], data)));
        let outputs = run(&sum_graph(DType::Bf16), &inputs.into()).unwrap();
        assert_eq!(outputs["c"], Tensor::float([1], vec![256.0]));
    }

    #[test]
    fn inputs_that_disagree_are_refused() {
        let inputs = [("a", vec![1.0]), ("b", vec![1.0, 2.0])]
            .map(|(name, data)| (name.to_owned(), Tensor::<f32>::float([data.len()], data)));
        let error = run(&sum_graph(DType::F32), &inputs.into()).unwrap_err();
        assert!(error.to_string().starts_with("input `a`: expected f32[slots:4]"), "{error}");
        assert_eq!(
            run(&sum_graph(DType::F32), &BTreeMap::<String, Tensor<f32>>::new()),
            Err(EvalError::MissingInput("a".to_owned()))
        );
    }
}
