//! A training program run by the reference interpreter in f64.

use crate::random_model::Tensors;
use gptjc_graphs::graph::Graph;
use gptjc_graphs::interp::{self, Data, Tensor};
use gptjc_graphs::models::gptj::{TrainingProgram, training_program};
use gptjc_graphs::plan::CompileOptions;
use gptjc_graphs::plan::state;
use gptjc_runtime::data::micro_batch::MicroBatch;
use gptjc_runtime::data::window::Window;
use std::collections::BTreeMap;

/// Named values of the interpreter.
pub type Values = BTreeMap<String, Tensor<f64>>;

/// Sums over the labelled tokens of some windows.
pub struct Sums {
    /// Negative log-likelihood.
    pub loss: f64,
    /// Gradient of each parameter.
    pub gradients: BTreeMap<String, Vec<f64>>,
    /// The last micro-step's outputs.
    pub outputs: Values,
}

/// Graphs and what they keep between runs.
pub struct Interpreted {
    /// The graphs; a test may add outputs to them.
    pub program: TrainingProgram,
    /// Compute in f32, not in f64.
    pub in_f32: bool,
    options: CompileOptions,
    constants: Values,
}

/// A tensor that keeps its f32 values.
fn widened(shape: &[usize], values: &[f32]) -> Tensor<f64> {
    Tensor::float(shape, values.iter().copied().map(f64::from).collect())
}

fn pairs(table: &[[i32; 2]]) -> Tensor<f64> {
    Tensor::int([table.len(), 2], table.as_flattened().to_vec())
}

impl Interpreted {
    /// The program of `options` on `tensors`, with micro-batches of `options.micro_batch` windows.
    pub fn new(options: &CompileOptions, tensors: &Tensors) -> Self {
        let program = training_program(options, options.micro_batch as usize).unwrap();
        let rotary = program.setup.inputs().iter().map(|input| {
            let dims: Vec<usize> = program.setup.ty(input.value).dims.iter().map(|dim| dim.bound).collect();
            (input.name.clone(), Tensor::zeros(dims))
        });
        let mut constants = interp::run(&program.setup, &rotary.collect()).unwrap();
        for (name, tensor) in tensors {
            constants.insert(name.clone(), widened(&tensor.shape, &tensor.values));
        }
        Self { program, in_f32: false, options: options.clone(), constants }
    }

    /// Adds `difference` to one element of a parameter.
    pub fn shift(&mut self, parameter: &str, element: usize, difference: f64) {
        let tensor = self.constants.get_mut(parameter).unwrap();
        let mut values = tensor.floats().unwrap().to_vec();
        values[element] += difference;
        *tensor = Tensor::float(tensor.dims.clone(), values);
    }

    /// Inputs of `micro_step` and `forward` for `windows`.
    fn inputs(&self, windows: &[&Window]) -> Values {
        let mut batch = MicroBatch::default();
        batch.pack(windows);
        let vector = |values: &[i32]| Tensor::int([values.len()], values.to_vec());
        let data = [
            ("tokens", vector(&batch.tokens)),
            ("position", vector(&batch.positions)),
            ("segment", vector(&batch.segment)),
            ("segment_table", pairs(&batch.segment_table)),
            ("window_table", pairs(&batch.window_table)),
            ("labelled", vector(&batch.labelled)),
            ("labels", vector(&batch.labels)),
            ("row_table", pairs(&batch.row_table)),
        ];
        let mut inputs = self.constants.clone();
        inputs.extend(data.map(|(name, tensor)| (name.to_owned(), tensor)));
        inputs
    }

    /// Forward and backward of `windows`, in micro-batches, with the dropout masks of `seed` and optimizer `step`.
    pub fn accumulate(&self, windows: &[&Window], seed: u64, step: u32) -> Sums {
        let graph = &self.program.micro_step;
        let micro_batch = self.options.micro_batch as usize;
        // A slot of the tree that was never written must not be read.
        let mut state: Values = graph
            .inputs()
            .iter()
            .filter(|input| input.name == "loss.sum" || input.name.starts_with("gradient."))
            .map(|input| {
                let dims: Vec<usize> = graph.ty(input.value).dims.iter().map(|dim| dim.bound).collect();
                let elements = dims.iter().product();
                (input.name.clone(), Tensor::float(dims, vec![f64::NAN; elements]))
            })
            .collect();
        for (index, chunk) in windows.chunks(micro_batch).enumerate() {
            let words = [seed as u32, (seed >> 32) as u32, step, (index * micro_batch) as u32];
            let mut inputs = self.inputs(chunk);
            inputs.insert("counter".to_owned(), Tensor::int([4], words.map(u32::cast_signed).to_vec()));
            inputs.append(&mut state);
            state =
                if self.in_f32 { run_in_f32(graph, &inputs) } else { interp::run(graph, &inputs).unwrap() };
        }
        let total = |stack: &Tensor<f64>| finished(stack, windows.len());
        let loss = total(&state["loss.sum"])[0];
        let prefix = state::gradient_stack("");
        let gradients = state
            .iter()
            .filter_map(|(name, stack)| Some((name.strip_prefix(&prefix)?.to_owned(), total(stack))))
            .collect();
        Sums { loss, gradients, outputs: state }
    }

    /// The loss of each window, from `forward`.
    pub fn evaluate(&self, windows: &[&Window]) -> Vec<f64> {
        let run = |chunk: &[&Window]| {
            let outputs = interp::run(&self.program.forward, &self.inputs(chunk)).unwrap();
            let mut rows = outputs["row_loss"].floats().unwrap().iter();
            chunk.iter().map(|window| rows.by_ref().take(window.labelled()).sum()).collect::<Vec<f64>>()
        };
        windows.chunks(self.options.micro_batch as usize).flat_map(run).collect()
    }
}

/// Runs `graph` in f32 on inputs that f32 holds.
fn run_in_f32(graph: &Graph, inputs: &Values) -> Values {
    let narrow = |tensor: &Tensor<f64>| Tensor {
        dims: tensor.dims.clone(),
        data: match &tensor.data {
            Data::Float(values) => Data::Float(values.iter().map(|&value| value as f32).collect()),
            Data::Int(values) => Data::Int(values.clone()),
        },
    };
    let inputs = inputs.iter().map(|(name, tensor)| (name.clone(), narrow(tensor))).collect();
    let widen = |tensor: Tensor<f32>| Tensor {
        dims: tensor.dims,
        data: match tensor.data {
            Data::Float(values) => Data::Float(values.into_iter().map(f64::from).collect()),
            Data::Int(values) => Data::Int(values),
        },
    };
    let outputs = interp::run(graph, &inputs).unwrap();
    outputs.into_iter().map(|(name, tensor)| (name, widen(tensor))).collect()
}

/// The sum over `windows` windows that the nodes of a tree hold.
fn finished(stack: &Tensor<f64>, windows: usize) -> Vec<f64> {
    let width: usize = stack.dims[1..].iter().product();
    let mut sum = vec![0.0; width];
    for level in (0..usize::BITS as usize).filter(|level| windows >> level & 1 == 1) {
        let node = &stack.floats().unwrap()[level * width..(level + 1) * width];
        sum.iter_mut().zip(node).for_each(|(sum, x)| *sum += x);
    }
    sum
}
