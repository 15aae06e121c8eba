//! Matrix products: a projection, its input gradient, and its weight gradient per window.
//!
//! Letters: M tokens, K inputs, N outputs. A weight lies as in the checkpoint, `[N, K]`.
//!
//! Numerics: each output is one chain of additions in ascending order of the summed index; it depends neither on M nor
//! on the row's place. Operands may be bf16; sums and results are f32.

use super::check::{self, TypeError};
use super::{
    AttributeError, Attributes, AutodiffError, EvalError, Operation, Real, Tensor, VjpContext, no_attributes,
};
use crate::autodiff::ONLY_IN_GRADIENTS;
use crate::shape::{Dim, Extent, Extents, TensorType};

/// How the second operand of a [`Matmul`] lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `a[M, K] · b[N, K]ᵀ`: a projection.
    Nt,
    /// `a[M, N] · b[N, K]`: a projection's input gradient.
    Nn,
}

/// `matmul %a, %b {form = nt|nn}`: the product of two matrices, in f32.
#[derive(Clone, Debug, PartialEq)]
pub struct Matmul {
    /// How `b` lies.
    pub form: Form,
}

impl Matmul {
    /// `a[M, K] · b[N, K]ᵀ -> [M, N]`.
    pub const fn nt() -> Self {
        Self { form: Form::Nt }
    }

    /// `a[M, N] · b[N, K] -> [M, K]`.
    pub const fn nn() -> Self {
        Self { form: Form::Nn }
    }
}

impl Operation for Matmul {
    const NAME: &'static str = "matmul";

    fn from_attributes(attributes: &Attributes) -> Result<Self, AttributeError> {
        const EXPECTED: &str = "nt or nn";
        attributes.only(&["form"])?;
        match attributes.get_word("form", EXPECTED)? {
            "nt" => Ok(Self::nt()),
            "nn" => Ok(Self::nn()),
            other => {
                let found = crate::attributes::AttributeValue::Word(other.to_owned());
                Err(AttributeError::Invalid { name: "form", expected: EXPECTED, found })
            }
        }
    }

    fn attributes(&self) -> Attributes {
        Attributes::new().word(
            "form",
            match self.form {
                Form::Nt => "nt",
                Form::Nn => "nn",
            },
        )
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [a, b] = check::operands(operands)?;
        check::float(0, a, 2)?;
        check::float(1, b, 2)?;
        let (summed, kept) = match self.form {
            Form::Nt => (b.dims[1], b.dims[0]),
            Form::Nn => (b.dims[0], b.dims[1]),
        };
        if summed != a.dims[1] || b.dims.iter().any(|dim| dim.extent != Extent::Fixed) {
            let expected = match self.form {
                Form::Nt => format!("a matrix [N, {}]", a.dims[1]),
                Form::Nn => format!("a matrix [{}, K]", a.dims[1]),
            };
            return Err(check::mismatch(1, expected, b));
        }
        Ok(vec![TensorType::f32([a.dims[0], kept])])
    }

    /// For `y = a · bᵀ`: `da = dy · b`, `db = dyᵀ · a`. For `y = a · b`: `da = dy · bᵀ`, `db = aᵀ · dy`.
    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        let Some(dy) = rule.cotangent(0) else { return Ok(()) };
        let (a, b) = (rule.operand(0), rule.operand(1));
        let table = rule.table(a)?;
        let (back, left, right) = match self.form {
            Form::Nt => (Matmul::nn(), dy, a),
            Form::Nn => (Matmul::nt(), a, dy),
        };
        let da = rule.push(back, &[dy, b])?;
        rule.contribute(0, da);
        let db = rule.push(WindowMatmul, &[left, right, table])?;
        rule.contribute(1, db);
        Ok(())
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let (a, b) = (operands[0].floats()?, operands[1].floats()?);
        let (rows, summed) = (operands[0].dims[0], operands[0].dims[1]);
        let (columns, row_stride, column_stride) = match self.form {
            Form::Nt => (operands[1].dims[0], 1, summed),
            Form::Nn => (operands[1].dims[1], operands[1].dims[1], 1),
        };
        let mut y = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            for column in 0..columns {
                let mut sum = F::zero();
                for s in 0..summed {
                    sum = sum + a[row * summed + s] * b[s * row_stride + column * column_stride];
                }
                y.push(sum);
            }
        }
        Ok(vec![Tensor::float([rows, columns], y)])
    }

    fn flops(&self, operands: &[&TensorType], results: &[&TensorType]) -> u64 {
        2 * results[0].elements() as u64 * operands[0].dims[1].bound as u64
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// `window_matmul %y, %x, %table`: for each window, `yᵀ · x` over the window's tokens: the gradient of a weight
/// `[N, K]` from `y[M, N]` and `x[M, K]`, as `[windows, N, K]`.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowMatmul;

impl Operation for WindowMatmul {
    const NAME: &'static str = "window_matmul";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [y, x, table] = check::operands(operands)?;
        check::float(0, y, 2)?;
        check::float(1, x, 2)?;
        if x.dims[0] != y.dims[0] {
            return Err(check::mismatch(1, format!("a matrix [{}, K]", y.dims[0]), x));
        }
        let windows: Dim = check::range_table(2, table, Extent::Windows)?;
        Ok(vec![TensorType::f32([windows, y.dims[1], x.dims[1]])])
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
        let (y, x, table) = (operands[0].floats()?, operands[1].floats()?, operands[2].ints()?);
        let (n_out, n_in, windows) = (operands[0].dims[1], operands[1].dims[1], operands[2].dims[0]);
        let mut gradient = vec![F::zero(); windows * n_out * n_in];
        for (window, range) in table.chunks_exact(2).enumerate() {
            for token in range[0] as usize..(range[0] + range[1]) as usize {
                for n in 0..n_out {
                    for k in 0..n_in {
                        let element = &mut gradient[(window * n_out + n) * n_in + k];
                        *element = *element + y[token * n_out + n] * x[token * n_in + k];
                    }
                }
            }
        }
        Ok(vec![Tensor::float([windows, n_out, n_in], gradient)])
    }

    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        2 * operands[0].elements() as u64 * operands[1].dims[1].bound as u64
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use crate::autodiff::check::check_vjp;

    #[test]
    fn a_projection_matches_finite_differences() {
        check_vjp(
            "graph @f(%a: batch \"a\" f32[slots:5, 3], %b: parameter \"b\" f32[4, 3], \
             %t: batch \"window_table\" i32[windows:2, 2]) { \
             %y = matmul %a, %b {form = nt} : f32[slots:5, 4] return \"y\" %y }",
        );
    }

    #[test]
    fn a_product_with_the_weight_as_it_lies_matches_finite_differences() {
        check_vjp(
            "graph @f(%a: batch \"a\" f32[slots:5, 4], %b: parameter \"b\" f32[4, 3], \
             %t: batch \"window_table\" i32[windows:2, 2]) { \
             %y = matmul %a, %b {form = nn} : f32[slots:5, 3] return \"y\" %y }",
        );
    }
}
