//! Layer normalisation over the last dimension, and its gradients.
//!
//! Letters: M tokens, D width. `x̂ = (x - mean) · rstd`, `y = x̂ · weight + bias`.
//!
//! Numerics: mean and biased variance by two passes over a row, each one chain of additions in ascending order;
//! statistics, parameters and gradients are f32; `y` is rounded once, to its dtype. `x` and `dy` may be bf16. A gradient of a parameter is summed inside its window in ascending
//! order.

use super::check::{self, TypeError};
use super::window::ranges;
use super::{
    AttributeError, Attributes, AutodiffError, EvalError, Operation, Real, Tensor, VjpContext, no_attributes,
};
use crate::autodiff::ONLY_IN_GRADIENTS;
use crate::dtype::DType;
use crate::shape::{Extent, Extents, TensorType};

/// `layer_norm %x[M, D], %weight f32[D], %bias f32[D] {epsilon, dtype} -> y [M, D], mean f32[M], rstd f32[M]`.
///
/// `y` is of `dtype`, f32 if the text says none. `mean` and `rstd` are for the gradient; they have none themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNorm {
    /// Added to the variance before the root.
    pub epsilon: f64,
    /// Type of `y`.
    pub dtype: DType,
}

impl LayerNorm {
    /// The norm with a result in f32.
    pub const fn new(epsilon: f64) -> Self {
        Self { epsilon, dtype: DType::F32 }
    }
}

impl Operation for LayerNorm {
    const NAME: &'static str = "layer_norm";

    fn from_attributes(attributes: &Attributes) -> Result<Self, AttributeError> {
        attributes.only(&["epsilon", "dtype"])?;
        let dtype = if attributes.has("dtype") { attributes.get_float_type("dtype")? } else { DType::F32 };
        Ok(Self { epsilon: attributes.get_float("epsilon")?, dtype })
    }

    fn attributes(&self) -> Attributes {
        Attributes::new().float("epsilon", self.epsilon).word("dtype", self.dtype.name())
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, weight, bias] = check::operands(operands)?;
        check::float(0, x, 2)?;
        check::f32_of(1, weight, &x.dims[1..])?;
        check::f32_of(2, bias, &x.dims[1..])?;
        if !(self.epsilon >= 0.0 && self.epsilon.is_finite()) {
            return Err(check::attribute(
                "epsilon",
                self.epsilon,
                "it must be a finite number of at least 0",
            ));
        }
        let statistic = TensorType::f32(&x.dims[..1]);
        Ok(vec![x.with_dtype(self.dtype), statistic.clone(), statistic])
    }

    /// `dx`: see [`LayerNormGrad`]; `dweight` and `dbias`: see [`LayerNormParamGrad`].
    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        if rule.cotangent(1).is_some() || rule.cotangent(2).is_some() {
            return rule
                .no_rule("its mean and rstd are for the gradient only, but something else reads them");
        }
        let Some(dy) = rule.cotangent(0) else { return Ok(()) };
        let (x, weight, mean, rstd) = (rule.operand(0), rule.operand(1), rule.result(1), rule.result(2));
        let table = rule.table(x)?;
        let dx = rule.push(LayerNormGrad, &[dy, x, weight, mean, rstd])?;
        rule.contribute(0, dx);
        let parameters = rule.push_all(LayerNormParamGrad, &[dy, x, mean, rstd, table])?;
        rule.contribute(1, parameters[0]);
        rule.contribute(2, parameters[1]);
        Ok(())
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let (x, weight, bias) = (operands[0].floats()?, operands[1].floats()?, operands[2].floats()?);
        let (rows, width) = (operands[0].dims[0], operands[0].dims[1]);
        let count = F::from_f64(width as f64);
        let mut y = Vec::with_capacity(x.len());
        let (mut means, mut rstds) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for row in 0..rows {
            let x = &x[row * width..(row + 1) * width];
            let mean = x.iter().copied().sum::<F>() / count;
            let variance = x.iter().map(|&x| (x - mean) * (x - mean)).sum::<F>() / count;
            let rstd = F::one() / (variance + F::from_f64(self.epsilon)).sqrt();
            y.extend((0..width).map(|d| (x[d] - mean) * rstd * weight[d] + bias[d]));
            means.push(mean);
            rstds.push(rstd);
        }
        Ok(vec![Tensor::float([rows, width], y), Tensor::float([rows], means), Tensor::float([rows], rstds)])
    }

    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        const AN_ELEMENT: u64 = 1 + 3 + 4; // the mean's sum, the variance's, y
        const A_ROW: u64 = 5; // two divisions by D, epsilon, root, reciprocal
        let rows = operands[0].dims[0].bound as u64;
        AN_ELEMENT * operands[0].elements() as u64 + A_ROW * rows
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[] // the gradient reads x again
    }
}

/// `layer_norm_grad %dy[M, D], %x[M, D], %weight f32[D], %mean f32[M], %rstd f32[M][, %residual f32[M, D]]
/// -> dx f32[M, D]`.
///
/// With `g = dy · weight`: `dx = rstd · (g - Σg/D - x̂ · Σ(g x̂)/D)`, sums over the row; plus `residual` if it is given.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNormGrad;

impl Operation for LayerNormGrad {
    const NAME: &'static str = "layer_norm_grad";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [dy, x, weight, mean, rstd] = check::operands(&operands[..operands.len().min(5)])?;
        check_saved(dy, x, [(3, mean), (4, rstd)])?;
        check::f32_of(2, weight, &dy.dims[1..])?;
        match operands[5..] {
            [] => {}
            [residual] => check::f32_of(5, residual, &dy.dims)?,
            _ => return Err(TypeError::Count { expected: 6, found: operands.len() }),
        }
        Ok(vec![dy.with_dtype(DType::F32)])
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(ONLY_IN_GRADIENTS)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let (dy, x, weight) = (operands[0].floats()?, operands[1].floats()?, operands[2].floats()?);
        let (mean, rstd) = (operands[3].floats()?, operands[4].floats()?);
        let residual = operands.get(5).map(|residual| residual.floats()).transpose()?;
        let (rows, width) = (operands[0].dims[0], operands[0].dims[1]);
        let count = F::from_f64(width as f64);
        let mut dx = Vec::with_capacity(dy.len());
        for row in 0..rows {
            let (first, rstd) = (row * width, rstd[row]);
            let g = |d: usize| dy[first + d] * weight[d];
            let normalised = |d: usize| (x[first + d] - mean[row]) * rstd;
            let mean_g = (0..width).map(g).sum::<F>() / count;
            let mean_gx = (0..width).map(|d| g(d) * normalised(d)).sum::<F>() / count;
            dx.extend((0..width).map(|d| {
                let dx = rstd * (g(d) - mean_g - normalised(d) * mean_gx);
                residual.map_or(dx, |residual| dx + residual[first + d])
            }));
        }
        Ok(vec![Tensor::float([rows, width], dx)])
    }

    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        const AN_ELEMENT: u64 = 1 + 2 + 1 + 2 + 4; // g, x̂, the two sums, dx
        const A_ROW: u64 = 2; // divisions by D
        let rows = operands[0].dims[0].bound as u64;
        let residual = u64::from(operands.len() > 5);
        (AN_ELEMENT + residual) * operands[0].elements() as u64 + A_ROW * rows
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[] // every element of a row depends on all of it; the residual may not be there
    }
}

/// `layer_norm_param_grad %dy[M, D], %x[M, D], %mean f32[M], %rstd f32[M], %table
/// -> dweight f32[windows, D], dbias f32[windows, D]`: for each window, `Σ dy · x̂` and `Σ dy` over its tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNormParamGrad;

impl Operation for LayerNormParamGrad {
    const NAME: &'static str = "layer_norm_param_grad";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [dy, x, mean, rstd, table] = check::operands(operands)?;
        check_saved(dy, x, [(2, mean), (3, rstd)])?;
        let windows = check::range_table(4, table, Extent::Windows)?;
        let gradient = TensorType::f32([windows, dy.dims[1]]);
        Ok(vec![gradient.clone(), gradient])
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(ONLY_IN_GRADIENTS)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let (dy, x) = (operands[0].floats()?, operands[1].floats()?);
        let (mean, rstd) = (operands[2].floats()?, operands[3].floats()?);
        let (rows, width, windows) = (operands[0].dims[0], operands[0].dims[1], operands[4].dims[0]);
        let mut dweight = vec![F::zero(); windows * width];
        let mut dbias = vec![F::zero(); windows * width];
        for (window, range) in ranges(operands[4], rows)?.into_iter().enumerate() {
            for row in range {
                for d in 0..width {
                    let (of_row, of_window) = (row * width + d, window * width + d);
                    let normalised = (x[of_row] - mean[row]) * rstd[row];
                    dweight[of_window] = dweight[of_window] + dy[of_row] * normalised;
                    dbias[of_window] = dbias[of_window] + dy[of_row];
                }
            }
        }
        Ok(vec![Tensor::float([windows, width], dweight), Tensor::float([windows, width], dbias)])
    }

    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        const AN_ELEMENT: u64 = 2 + 2 + 1; // x̂, dweight, dbias
        AN_ELEMENT * operands[0].elements() as u64
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// Checks `dy`, `x` and the saved statistics of a gradient op.
fn check_saved(
    dy: &TensorType,
    x: &TensorType,
    statistics: [(usize, &TensorType); 2],
) -> Result<(), TypeError> {
    check::float(0, dy, 2)?;
    check::float(1, x, 2)?;
    check::same(1, x, &dy.with_dtype(x.dtype))?;
    statistics.into_iter().try_for_each(|(operand, ty)| check::f32_of(operand, ty, &dy.dims[..1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::check::check_vjp;
    use crate::autodiff::{WindowTables, differentiate};
    use crate::graph::{Graph, Role};
    use crate::shape::Dim;

    const EPSILON: LayerNorm = LayerNorm::new(1e-5);

    #[test]
    fn a_row_is_normalised() {
        // Mean 2, biased variance 1; epsilon 3 makes rstd 1/2.
        let x = Tensor::float([2, 2], vec![1.0_f64, 3.0, 7.0, 7.0]);
        let (weight, bias) = (Tensor::float([2], vec![10.0, 20.0]), Tensor::float([2], vec![0.5, -0.5]));
        let op = LayerNorm::new(3.0);
        let results = op.evaluate(&[&x, &weight, &bias], &[], &Extents::default()).unwrap();
        assert_eq!(results[0], Tensor::float([2, 2], vec![-4.5, 9.5, 0.5, -0.5]));
        assert_eq!(results[1], Tensor::float([2], vec![2.0, 7.0]));
        assert_eq!(results[2], Tensor::float([2], vec![0.5, 1.0 / 3.0_f64.sqrt()]));
    }

    #[test]
    fn parameters_of_another_width_are_refused() {
        let (x, weight) = (TensorType::f32([Dim::slots(4), 3.into()]), TensorType::f32([Dim::fixed(3)]));
        let bias = TensorType::f32([Dim::fixed(2)]);
        let error = EPSILON.infer(&[&x, &weight, &bias]).unwrap_err().to_string();
        assert_eq!(error, "operand 2: expected f32[3], found f32[2]");
        let error = LayerNorm::new(-1.0).infer(&[&x, &weight, &weight]).unwrap_err().to_string();
        assert_eq!(error, "attribute `epsilon` = -1: it must be a finite number of at least 0");
        let mean = TensorType::f32([Dim::slots(5)]);
        let error = LayerNormGrad.infer(&[&x, &x, &weight, &mean, &mean]).unwrap_err().to_string();
        assert_eq!(error, "operand 3: expected f32[slots:4], found f32[slots:5]");
    }

    #[test]
    fn the_gradient_of_a_statistic_is_refused() {
        let mut graph = Graph::new("g");
        let x = graph.input("x", Role::Batch, TensorType::f32([Dim::slots(4), 3.into()])).unwrap();
        let w = graph.input("w", Role::Weight, TensorType::f32([Dim::fixed(3)])).unwrap();
        let node = graph.push(EPSILON, &[x, w, w]).unwrap();
        let mean = graph.node(node).results[1];
        let error =
            differentiate(&mut graph, &[(mean, mean)], WindowTables::default()).unwrap_err().to_string();
        assert!(error.starts_with("op `layer_norm` has no gradient rule: its mean and rstd"), "{error}");
    }

    #[test]
    fn the_norm_matches_finite_differences() {
        check_vjp(
            "graph @f(%x: batch \"x\" f32[slots:5, 4], %w: parameter \"w\" f32[4], %b: parameter \"b\" f32[4], \
             %t: batch \"window_table\" i32[windows:2, 2]) { \
             %y, %mean, %rstd = layer_norm %x, %w, %b {epsilon = 1e-5} \
             : f32[slots:5, 4], f32[slots:5], f32[slots:5] return \"y\" %y }",
        );
    }
}
