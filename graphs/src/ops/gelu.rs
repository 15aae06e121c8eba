//! The activation of GPT-J, `gelu_new`: the tanh approximation of the Gaussian error linear unit.
//!
//! `y = x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`
//!
//! Numerics: element by element, each operation rounded in f32; a bf16 result is rounded once.

use super::check::{self, TypeError};
use super::{AutodiffError, EvalError, Operation, Real, Tensor, VjpContext, no_attributes};
use crate::autodiff::ONLY_IN_GRADIENTS;
use crate::shape::{Extents, TensorType};

/// Factor of the cubic term.
const CUBIC: f64 = 0.044_715;

/// √(2/π).
const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;

/// `gelu_tanh %x`: the activation of each element.
#[derive(Clone, Debug, PartialEq)]
pub struct GeluTanh;

impl Operation for GeluTanh {
    const NAME: &'static str = "gelu_tanh";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = check::operands(operands)?;
        check::float(0, x, x.rank())?;
        Ok(vec![x.clone()])
    }

    /// `dx = dy · gelu'(x)`, from `x`: see [`GeluTanhGrad`].
    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        let Some(dy) = rule.cotangent(0) else { return Ok(()) };
        let dx = rule.push(GeluTanhGrad, &[dy, rule.operand(0)])?;
        rule.contribute(0, dx);
        Ok(())
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let y = operands[0].floats()?.iter().map(|&x| activation(x)).collect();
        Ok(vec![Tensor::float(operands[0].dims.clone(), y)])
    }

    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        ACTIVATION_FLOPS * operands[0].elements() as u64
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0)]
    }
}

/// `gelu_tanh_grad %dy, %x -> dx`: with `t = tanh(√(2/π) (x + 0.044715 x³))`,
/// `dx = dy · ((1 + t)/2 + x/2 · (1 - t²) · √(2/π) (1 + 3 · 0.044715 x²))`.
#[derive(Clone, Debug, PartialEq)]
pub struct GeluTanhGrad;

impl Operation for GeluTanhGrad {
    const NAME: &'static str = "gelu_tanh_grad";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [dy, x] = check::operands(operands)?;
        check::float(0, dy, dy.rank())?;
        check::float(1, x, dy.rank())?;
        check::same(1, x, &dy.with_dtype(x.dtype))?;
        Ok(vec![dy.clone()])
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
        let dx = dy.iter().zip(x).map(|(&dy, &x)| dy * derivative(x)).collect();
        Ok(vec![Tensor::float(operands[0].dims.clone(), dx)])
    }

    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        GRADIENT_FLOPS * operands[0].elements() as u64
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0)] // not over x: it may be bf16
    }
}

/// The argument of the tanh.
fn inner<F: Real>(x: F) -> F {
    F::from_f64(SQRT_2_OVER_PI) * (x + F::from_f64(CUBIC) * (x * x * x))
}

/// The activation.
pub(super) fn activation<F: Real>(x: F) -> F {
    F::from_f64(0.5) * x * (F::one() + inner(x).tanh())
}

/// Floating-point operations of an activation: its argument of the tanh, the tanh, 1 +, half x, their product.
pub(super) const ACTIVATION_FLOPS: u64 = (2 + 3) + 4;

/// Floating-point operations of a gradient: the tanh with its argument, the slope, (1 + t)/2: 2, x/2: 1, 1 - t²: 2, two
/// products, their sum, times dy.
pub(super) const GRADIENT_FLOPS: u64 = 6 + 4 + 9;

/// The derivative of the activation.
pub(super) fn derivative<F: Real>(x: F) -> F {
    let half = F::from_f64(0.5);
    let tanh = inner(x).tanh();
    let slope = F::from_f64(SQRT_2_OVER_PI) * (F::one() + F::from_f64(3.0 * CUBIC) * (x * x));
    half * (F::one() + tanh) + half * x * (F::one() - tanh * tanh) * slope
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::check::check_vjp;
    use crate::dtype::DType;
    use crate::shape::Dim;

    #[test]
    fn values_are_those_of_the_formula() {
        let x = Tensor::float([4], vec![0.0_f64, 1.0, -1.0, 10.0]);
        let y = GeluTanh.evaluate(&[&x], &[], &Extents::default()).unwrap();
        // 0.5 (1 + tanh(0.7978845608 * 1.044715)), computed apart.
        for (found, expected) in
            y[0].floats().unwrap().iter().zip([0.0, 0.841_191_990_6, -0.158_808_009_4, 10.0])
        {
            assert!((found - expected).abs() < 1e-9, "expected {expected}, found {found}");
        }
    }

    #[test]
    fn operands_of_other_shapes_are_refused() {
        let dy = TensorType::f32([Dim::slots(4), 3.into()]);
        assert_eq!(GeluTanhGrad.infer(&[&dy, &dy.with_dtype(DType::Bf16)]), Ok(vec![dy.clone()]));
        let x = TensorType::f32([Dim::slots(4), 2.into()]);
        let error = GeluTanhGrad.infer(&[&dy, &x]).unwrap_err().to_string();
        assert_eq!(error, "operand 1: expected f32[slots:4, 3], found f32[slots:4, 2]");
        let error = GeluTanh.infer(&[&TensorType::i32([Dim::slots(4)])]).unwrap_err().to_string();
        assert_eq!(error, "operand 0: expected a floating-point tensor of rank 1, found i32[slots:4]");
    }

    #[test]
    fn the_activation_matches_finite_differences() {
        check_vjp(
            "graph @f(%x: batch \"x\" f32[slots:5, 4]) { \
             %s = scale %x {factor = 3.0} : f32[slots:5, 4] \
             %y = gelu_tanh %s : f32[slots:5, 4] return \"y\" %y }",
        );
    }
}
