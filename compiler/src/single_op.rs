//! Plans of one op: what a kernel is measured with, cut into tiles as in a whole plan.

use crate::CompileError;
use crate::lower::lower;
use gptjc_graphs::dtype::DType;
use gptjc_graphs::graph::{Graph, GraphError, Role};
use gptjc_graphs::models::gptj::ModelError;
use gptjc_graphs::ops::Op;
use gptjc_graphs::ops::projection::{Projection, ProjectionGrad};
use gptjc_graphs::plan::{
    CompileOptions, LoraOptions, ModelConfig, Packing, Plan, Precision, Step, Target, verify,
};
use gptjc_graphs::shape::{Dim, TensorType};
use std::collections::BTreeSet;

/// Which product of a weight `[N, K]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProductForm {
    /// `x · wᵀ`, of the forward pass: `[M, K]` to `[M, N]`.
    Forward,
    /// `dy · w`, the gradient of the input: `[M, N]` to `[M, K]`.
    Backward,
}

impl ProductForm {
    /// Name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            ProductForm::Forward => "nt",
            ProductForm::Backward => "nn",
        }
    }
}

/// A product with a frozen weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Tokens.
    pub m: usize,
    /// Outputs of the weight.
    pub n: usize,
    /// Inputs of the weight.
    pub k: usize,
    /// Which product.
    pub form: ProductForm,
    /// Type of weight, operand and result.
    pub precision: Precision,
}

/// The products of a GPT-J-6B for `tokens` tokens at a time, in both forms, by name.
pub fn gptj_products(tokens: usize, precision: Precision) -> Vec<(String, Product)> {
    // Outputs and inputs of: q, k, v or out; q, k and v together; fc_in; fc_out; lm_head.
    let shapes = [
        ("attention projection", 4096, 4096),
        ("q, k, v together", 12288, 4096),
        ("fc_in", 16384, 4096),
        ("fc_out", 4096, 16384),
        ("lm_head", 50400, 4096),
    ];
    let forms = [ProductForm::Forward, ProductForm::Backward];
    let products = shapes.into_iter().flat_map(|(name, n, k)| forms.map(|form| (name, n, k, form)));
    let product = |(name, n, k, form): (&str, usize, usize, ProductForm)| {
        (name.to_owned(), Product { m: tokens, n, k, form, precision })
    };
    products.map(product).collect()
}

/// A plan that does nothing but `product`.
///
/// # Errors
/// [`CompileError`] if a size is 0 or the plan does not hold.
pub fn product_plan(product: Product, target: &Target) -> Result<Plan, CompileError> {
    let Product { m, n, k, form, precision } = product;
    let dtype = match precision {
        Precision::Bf16 => DType::Bf16,
        Precision::F32 => DType::F32,
    };
    let weight = TensorType::new(dtype, [n.into(), k.into()]);
    let (op, inputs) = match form {
        ProductForm::Forward => {
            let op = Projection {
                members: 1,
                biased: 0,
                adapted: 0,
                gelu: 0,
                residuals: 0,
                scale: 1.0,
                dtype,
                activation: dtype,
            };
            (Op::from(op), k)
        }
        ProductForm::Backward => {
            let op = ProjectionGrad {
                members: 1,
                adapted: 0,
                gelu: false,
                residuals: 0,
                p: 0.0,
                sites: Vec::new(),
                dtype,
            };
            (Op::from(op), n)
        }
    };
    let x = TensorType::new(dtype, [Dim::slots(m), inputs.into()]);
    op_plan(op, &[x, weight], target)
}

/// A plan that does nothing but `op` on operands of these types.
///
/// # Errors
/// [`CompileError`] if the op does not take them or the plan does not hold.
pub fn op_plan(op: Op, operands: &[TensorType], target: &Target) -> Result<Plan, CompileError> {
    let refused = |source: GraphError| CompileError::Model(ModelError::from(source));
    let mut graph = Graph::new("step");
    let mut values = Vec::with_capacity(operands.len());
    for (index, ty) in operands.iter().enumerate() {
        let name = format!("operand.{index}");
        values.push(graph.input(&name, Role::Batch, ty.clone()).map_err(refused)?);
    }
    let node = graph.push(op, &values).map_err(refused)?;
    for (index, value) in graph.node(node).results.clone().into_iter().enumerate() {
        graph.output(&format!("result.{index}"), value);
    }
    let plan = lower(&[graph], &options(target))?;
    verify::verify(&plan)?;
    Ok(plan)
}

/// The steps of training in `plan`, without those that compute what another does on operands of the same types.
pub fn distinct_steps(plan: &Plan) -> Vec<&Step> {
    let entries = plan.entries.iter().filter(|entry| ["micro_step", "apply"].contains(&entry.name.as_str()));
    let mut seen = BTreeSet::new();
    entries.flat_map(|entry| &entry.steps).filter(|step| seen.insert(signature(plan, step))).collect()
}

/// Kernel and operands of a step, as text.
fn signature(plan: &Plan, step: &Step) -> String {
    let buffers = step.operands.iter().filter_map(|&id| plan.buffers.get(id as usize));
    let types: Vec<_> = buffers.map(|buffer| (buffer.dtype, &buffer.dims)).collect();
    format!("{} {types:?}", step.kernel)
}

/// Options of which only the target matters.
fn options(target: &Target) -> CompileOptions {
    CompileOptions {
        model: ModelConfig::default(),
        lora: None::<LoraOptions>,
        precision: Precision::Bf16.into(),
        packing: Packing::Concat.into(),
        max_seq_length: 1,
        micro_batch: 1,
        per_device_train_batch_size: 1,
        memory_budget: 0,
        target: target.clone(),
        step_windows: 1,
        decode_sequences: 0,
        decode_slots: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_one_step_with_its_work() {
        for form in [ProductForm::Forward, ProductForm::Backward] {
            for precision in [Precision::Bf16, Precision::F32] {
                let product = Product { m: 5, n: 7, k: 11, form, precision };
                let plan = product_plan(product, &Target::default().with_guesses()).unwrap();
                let [entry] = plan.entries.as_slice() else { panic!("{plan:?}") };
                let [step] = entry.steps.as_slice() else { panic!("{entry:?}") };
                assert!(step.flops >= 2 * 5 * 7 * 11, "{step:?}");
                let result = plan.buffers[step.results[0] as usize].ty().unwrap();
                let columns = if form == ProductForm::Forward { 7 } else { 11 };
                assert_eq!(result.dims, [Dim::slots(5), columns.into()]);
            }
        }
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        let (x, w) = (TensorType::f32([Dim::slots(2), 3.into()]), TensorType::f32([4.into(), 5.into()]));
        let op = gptjc_graphs::ops::matmul::Matmul::nt();
        assert!(op_plan(op.into(), &[x, w], &Target::default().with_guesses()).is_err());
    }

    #[test]
    fn every_shape_is_there_in_both_forms() {
        let products = gptj_products(64, Precision::Bf16);
        assert_eq!(products.len(), 10);
        assert!(products.iter().all(|(_, product)| product.m == 64));
    }
}
