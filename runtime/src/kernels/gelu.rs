//! GELU in its tanh form (`gelu_new`) and its gradient. Source: Hendrycks and Gimpel 2016.
//!
//! # Numerics
//! Portable: the tanh of the `libm` crate. Vectors: `math::gelu` and `math::gelu_derivative`, by the exponential.

use super::elementwise::{leading, start_from};
use super::rowwise::{RowKernel, elements, portions};
use super::simd::slices::{map, map_with};
use super::simd::{Simd, math};
use super::{Call, Kernel, KernelError, Portable};
use gptjc_graphs::dtype::DType::F32;

const ROOT_2_OVER_PI: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

/// `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
pub fn gelu_tanh(x: f32) -> f32 {
    0.5 * x * (1.0 + libm::tanhf(ROOT_2_OVER_PI * (x + CUBIC * x * x * x)))
}

/// The derivative of [`gelu_tanh`].
pub fn gelu_tanh_derivative(x: f32) -> f32 {
    let tanh = libm::tanhf(ROOT_2_OVER_PI * (x + CUBIC * x * x * x));
    let inner = ROOT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x);
    0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner
}

/// What the kernels of this file do to slices of equal length.
pub(crate) trait Gelu: Copy + Send + Sync + 'static {
    /// `y = gelu(y)`.
    fn gelu(self, y: &mut [f32]);
    /// `dx = dx gelu'(x)`.
    fn gelu_grad(self, dx: &mut [f32], x: &[f32]);
}

impl Gelu for Portable {
    fn gelu(self, y: &mut [f32]) {
        y.iter_mut().for_each(|y| *y = gelu_tanh(*y));
    }

    fn gelu_grad(self, dx: &mut [f32], x: &[f32]) {
        dx.iter_mut().zip(x).for_each(|(dx, x)| *dx *= gelu_tanh_derivative(*x));
    }
}

impl<S: Simd> Gelu for S {
    fn gelu(self, y: &mut [f32]) {
        self.call(
            #[inline(always)]
            || {
                map(
                    self,
                    y,
                    #[inline(always)]
                    |y| math::gelu(self, y),
                )
            },
        );
    }

    fn gelu_grad(self, dx: &mut [f32], x: &[f32]) {
        self.call(
            #[inline(always)]
            || {
                map_with(
                    self,
                    dx,
                    x,
                    #[inline(always)]
                    |dx, x| self.mul(dx, math::gelu_derivative(self, x)),
                )
            },
        );
    }
}

pub(super) fn bind_forward(call: &Call, arithmetic: impl Gelu) -> Result<Box<dyn Kernel>, KernelError> {
    let ([x], [y]) = call.views([F32], [F32])?;
    let width = y.row_elements();
    Ok(RowKernel::boxed(leading(&y), call.partition.rows, move |rows, _, _| {
        for range in portions(elements(&rows, width)) {
            // SAFETY: the promises of `run_tile`.
            unsafe { arithmetic.gelu(start_from(&x, &y, range)) }
        }
    }))
}

pub(super) fn bind_grad(call: &Call, arithmetic: impl Gelu) -> Result<Box<dyn Kernel>, KernelError> {
    let ([dy, x], [dx]) = call.views([F32, F32], [F32])?;
    let width = dx.row_elements();
    Ok(RowKernel::boxed(leading(&dx), call.partition.rows, move |rows, _, _| {
        for range in portions(elements(&rows, width)) {
            // SAFETY: the promises of `run_tile`; `dx` may lie over `dy`, never over `x`.
            unsafe { arithmetic.gelu_grad(start_from(&dy, &dx, range.clone()), x.read(range)) }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Batch, Case, U, few};
    use super::*;
    use gptjc_graphs::ops::gelu as ops;
    use proptest::prelude::*;

    /// Roundings of `1 + tanh(z)`, absolute: z has 7 (`|z tanh'(z)|` is at most 0.45), tanh 4, the sum 2.
    const TANH: f64 = 10.0 * U;

    fn operands(seed: u64, width: usize) -> Case {
        let mut batch = Batch::new(seed, 7);
        let dims = [batch.slots(), width.into()];
        let (dy, (ty, x)) = (batch.f32(&dims), batch.f32(&dims));
        // Up to 8: from where the curve bends to where it is flat.
        let x = x.floats().unwrap().iter().map(|x| 8.0 * x).collect();
        let used = ty.used(&batch.extents());
        let x = Batch::given(&dims, &used, x);
        Case::new(ops::GeluTanhGrad, batch.extents(), vec![dy, x])
    }

    proptest! {
        #![proptest_config(few())]

        #[test]
        fn the_activation_is_that_of_the_op(seed: u64, width in 1usize..35, rows in 1u32..9) {
            let mut case = operands(seed, width).tile(rows, 0).vector();
            case.op = ops::GeluTanh.into();
            case.operands.remove(0);
            case.check(|case, _| vec![case.floats(0).iter().map(|x| x.abs() * (TANH / 2.0 + U)).collect()]);
        }

        #[test]
        fn the_derivative_is_that_of_the_op(seed: u64, width in 1usize..35, rows in 1u32..9) {
            let bound = |(dy, x): (&f64, &f64)| {
                let slope = f64::from(ROOT_2_OVER_PI) * (1.0 + 3.0 * f64::from(CUBIC) * x * x);
                // Half of `1 + t`; then `x/2 slope (1 - t²)`, whose `t²` has twice the error of t, and 8 products.
                dy.abs() * (TANH / 2.0 + 0.5 * x.abs() * slope * (2.0 * TANH + 8.0 * U) + 4.0 * U)
            };
            operands(seed, width).tile(rows, 0).vector().check(|case, _| {
                vec![case.floats(0).iter().zip(case.floats(1)).map(bound).collect()]
            });
        }
    }
}
