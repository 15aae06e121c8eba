//! Ops that work element by element: sums, bias, scaling, casts, constants.
//!
//! Numerics: one rounding an element.

use super::check::{self, TypeError};
use super::window::WindowSum;
use super::{
    AttributeError, Attributes, AutodiffError, EvalError, Operation, Real, Tensor, VjpContext, no_attributes,
};
use crate::dtype::DType;
use crate::shape::{Extents, TensorType};

/// `add %a, %b`: the sum of two tensors of one type.
#[derive(Clone, Debug, PartialEq)]
pub struct Add;

impl Operation for Add {
    const NAME: &'static str = "add";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [a, b] = check::operands(operands)?;
        check::float(0, a, a.rank())?;
        check::same(1, b, a)?;
        Ok(vec![a.clone()])
    }

    /// For `y = a + b`: `da = dy`, `db = dy`.
    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        if let Some(dy) = rule.cotangent(0) {
            rule.contribute(0, dy);
            rule.contribute(1, dy);
        }
        Ok(())
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let sums = operands[0].floats()?.iter().zip(operands[1].floats()?).map(|(&a, &b)| a + b).collect();
        Ok(vec![Tensor::float(operands[0].dims.clone(), sums)])
    }

    fn flops(&self, _operands: &[&TensorType], results: &[&TensorType]) -> u64 {
        results[0].elements() as u64
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0), (0, 1)]
    }
}

/// `bias_add %x, %b`: adds `b[N]` to each row of `x[M, N]`.
#[derive(Clone, Debug, PartialEq)]
pub struct BiasAdd;

impl Operation for BiasAdd {
    const NAME: &'static str = "bias_add";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, b] = check::operands(operands)?;
        check::float(0, x, 2)?;
        check::f32_of(1, b, &x.dims[1..])?;
        Ok(vec![x.clone()])
    }

    /// For `y = x + b`: `dx = dy`, `db` = the sum of `dy` over tokens, per window.
    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        let Some(dy) = rule.cotangent(0) else { return Ok(()) };
        rule.contribute(0, dy);
        let table = rule.table(dy)?;
        let db = rule.push(WindowSum, &[dy, table])?;
        rule.contribute(1, db);
        Ok(())
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let (x, b) = (operands[0].floats()?, operands[1].floats()?);
        let sums = x.chunks_exact(b.len()).flat_map(|row| row.iter().zip(b).map(|(&x, &b)| x + b)).collect();
        Ok(vec![Tensor::float(operands[0].dims.clone(), sums)])
    }

    fn flops(&self, _operands: &[&TensorType], results: &[&TensorType]) -> u64 {
        results[0].elements() as u64
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0)]
    }
}

/// `scale %x {factor}`: multiplies by a constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// The constant.
    pub factor: f64,
}

impl Operation for Scale {
    const NAME: &'static str = "scale";

    fn from_attributes(attributes: &Attributes) -> Result<Self, AttributeError> {
        attributes.only(&["factor"])?;
        Ok(Self { factor: attributes.get_float("factor")? })
    }

    fn attributes(&self) -> Attributes {
        Attributes::new().float("factor", self.factor)
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = check::operands(operands)?;
        check::float(0, x, x.rank())?;
        Ok(vec![x.clone()])
    }

    /// For `y = c x`: `dx = c dy`.
    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        let Some(dy) = rule.cotangent(0) else { return Ok(()) };
        let dx = rule.push(self.clone(), &[dy])?;
        rule.contribute(0, dx);
        Ok(())
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let factor = F::from_f64(self.factor);
        let products = operands[0].floats()?.iter().map(|&x| x * factor).collect();
        Ok(vec![Tensor::float(operands[0].dims.clone(), products)])
    }

    fn flops(&self, _operands: &[&TensorType], results: &[&TensorType]) -> u64 {
        results[0].elements() as u64
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0)]
    }
}

/// `cast %x {dtype}`: the same numbers in another floating-point type, rounded to nearest even.
#[derive(Clone, Debug, PartialEq)]
pub struct Cast {
    /// Type of the result.
    pub dtype: DType,
}

impl Operation for Cast {
    const NAME: &'static str = "cast";

    fn from_attributes(attributes: &Attributes) -> Result<Self, AttributeError> {
        attributes.only(&["dtype"])?;
        Ok(Self { dtype: attributes.get_float_type("dtype")? })
    }

    fn attributes(&self) -> Attributes {
        Attributes::new().word("dtype", self.dtype.name())
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = check::operands(operands)?;
        check::float(0, x, x.rank())?;
        Ok(vec![x.with_dtype(self.dtype)])
    }

    /// Rounding is taken as the identity: `dx = dy`, in the operand's type.
    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        let Some(dy) = rule.cotangent(0) else { return Ok(()) };
        let dtype = rule.graph().ty(rule.operand(0)).dtype;
        let dx = rule.push(Cast { dtype }, &[dy])?;
        rule.contribute(0, dx);
        Ok(())
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        Ok(vec![operands[0].clone()]) // the interpreter rounds to the result's type
    }

    fn flops(&self, _operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        0
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[] // the element sizes differ
    }
}

/// `fill %like {value}`: a tensor of `like`'s type with every element `value`; `like` is not read.
#[derive(Clone, Debug, PartialEq)]
pub struct Fill {
    /// The element.
    pub value: f64,
}

impl Operation for Fill {
    const NAME: &'static str = "fill";

    fn from_attributes(attributes: &Attributes) -> Result<Self, AttributeError> {
        attributes.only(&["value"])?;
        Ok(Self { value: attributes.get_float("value")? })
    }

    fn attributes(&self) -> Attributes {
        Attributes::new().float("value", self.value)
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [like] = check::operands(operands)?;
        check::float(0, like, like.rank())?;
        Ok(vec![like.clone()])
    }

    /// A constant: nothing flows back.
    fn vjp(&self, _rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        Ok(())
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let dims = operands[0].dims.clone();
        let elements = dims.iter().product();
        Ok(vec![Tensor::float(dims, vec![F::from_f64(self.value); elements])])
    }

    fn flops(&self, _operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        0
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use crate::autodiff::check::check_vjp;

    const INPUTS: &str = "graph @f(%x: batch \"x\" f32[slots:4, 3], %b: parameter \"b\" f32[3], \
                          %t: batch \"window_table\" i32[windows:2, 2]) {";

    #[test]
    fn a_bias_matches_finite_differences() {
        check_vjp(&format!("{INPUTS} %y = bias_add %x, %b : f32[slots:4, 3] return \"y\" %y }}"));
    }

    #[test]
    fn a_value_used_twice_gets_both_gradients() {
        check_vjp(&format!(
            "{INPUTS} %y = scale %x {{factor = -2.5}} : f32[slots:4, 3] \
             %z = add %y, %x : f32[slots:4, 3] return \"z\" %z }}"
        ));
    }
}
