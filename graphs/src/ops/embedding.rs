//! Token embedding: a row of a table for each token, and the gradient of the table.
//!
//! Letters: V vocabulary, D width.
//!
//! Numerics: looking up is exact. The gradient adds the rows of equal tokens in ascending order of their slots.

use super::check::{self, TypeError};
use super::window::ranges;
use super::{
    AttributeError, Attributes, AutodiffError, EvalError, Operation, Real, Tensor, VjpContext, no_attributes,
};
use crate::autodiff::ONLY_IN_GRADIENTS;
use crate::interp::index_below;
use crate::shape::{Dim, Extent, Extents, TensorType};

/// `embedding %table f32|bf16[V, D], %tokens i32[M] -> f32[M, D]`: row `tokens[m]` of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding;

impl Operation for Embedding {
    const NAME: &'static str = "embedding";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [table, tokens] = check::operands(operands)?;
        check::float(0, table, 2)?;
        if table.dims.iter().any(|dim| dim.extent != Extent::Fixed) {
            return Err(check::mismatch(0, "a table [V, D] of fixed dimensions", table));
        }
        let dim = index_dim(1, tokens)?;
        Ok(vec![TensorType::f32([dim, table.dims[1]])])
    }

    /// For `y[m] = table[tokens[m]]`: `dtable[v]` = the sum of `dy[m]` over the tokens `v`, per window.
    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        let Some(dy) = rule.cotangent(0) else { return Ok(()) };
        let (table, tokens) = (rule.operand(0), rule.operand(1));
        let windows = rule.table(tokens)?;
        let vocab_size = rule.graph().ty(table).dims[0].bound;
        let dtable = rule.push(EmbeddingGrad { vocab_size }, &[dy, tokens, windows])?;
        rule.contribute(0, dtable);
        Ok(())
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let (table, tokens) = (operands[0].floats()?, operands[1].ints()?);
        let (vocab_size, width) = (operands[0].dims[0], operands[0].dims[1]);
        let mut y = Vec::with_capacity(tokens.len() * width);
        for &token in tokens {
            let row = index_below("token", token, vocab_size)?;
            y.extend_from_slice(&table[row * width..(row + 1) * width]);
        }
        Ok(vec![Tensor::float([tokens.len(), width], y)])
    }

    fn flops(&self, _operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        0
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// `embedding_grad %dy f32[M, D], %tokens i32[M], %table {vocab_size} -> f32[windows, V, D]`: for each window and
/// token, the sum of the rows of `dy` at that token.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingGrad {
    /// V: rows of the table.
    pub vocab_size: usize,
}

impl Operation for EmbeddingGrad {
    const NAME: &'static str = "embedding_grad";

    fn from_attributes(attributes: &Attributes) -> Result<Self, AttributeError> {
        attributes.only(&["vocab_size"])?;
        Ok(Self { vocab_size: attributes.get_int("vocab_size")? })
    }

    fn attributes(&self) -> Attributes {
        Attributes::new().int("vocab_size", self.vocab_size)
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [dy, tokens, table] = check::operands(operands)?;
        check::float(0, dy, 2)?;
        check::f32_of(0, dy, &dy.dims)?;
        check::index_vector(1, tokens, dy.dims[0])?;
        let windows = check::range_table(2, table, Extent::Windows)?;
        Ok(vec![TensorType::f32([windows, Dim::fixed(self.vocab_size), dy.dims[1]])])
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
        let (dy, tokens) = (operands[0].floats()?, operands[1].ints()?);
        let (width, windows) = (operands[0].dims[1], operands[2].dims[0]);
        let mut gradient = vec![F::zero(); windows * self.vocab_size * width];
        for (window, range) in ranges(operands[2], tokens.len())?.into_iter().enumerate() {
            for slot in range {
                let token = index_below("token", tokens[slot], self.vocab_size)?;
                let first = (window * self.vocab_size + token) * width;
                for d in 0..width {
                    gradient[first + d] = gradient[first + d] + dy[slot * width + d];
                }
            }
        }
        Ok(vec![Tensor::float([windows, self.vocab_size, width], gradient)])
    }

    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        operands[0].elements() as u64
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// The dimension of a vector of indices.
fn index_dim(operand: usize, found: &TensorType) -> Result<Dim, TypeError> {
    match found.dims.as_slice() {
        [dim] => check::index_vector(operand, found, *dim).map(|()| *dim),
        _ => Err(check::mismatch(operand, "a vector of i32", found)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::check::check_vjp;
    use crate::dtype::DType;

    fn eval(op: impl Operation, operands: &[&Tensor<f32>]) -> Result<Vec<Tensor<f32>>, EvalError> {
        op.evaluate(operands, &[], &Extents::default())
    }

    #[test]
    fn rows_are_looked_up() {
        let table = Tensor::float([3, 2], vec![0.0, 1.0, 10.0, 11.0, 20.0, 21.0]);
        let y = eval(Embedding, &[&table, &Tensor::int([2], vec![2, 0])]).unwrap();
        assert_eq!(y, [Tensor::float([2, 2], vec![20.0, 21.0, 0.0, 1.0])]);
        let error = eval(Embedding, &[&table, &Tensor::int([1], vec![3])]).unwrap_err().to_string();
        assert_eq!(error, "token 3 is outside of 0..3");
    }

    #[test]
    fn rows_of_equal_tokens_are_added_inside_their_window() {
        let dy = Tensor::float([4, 1], vec![1.0, 2.0, 4.0, 8.0]);
        let tokens = Tensor::int([4], vec![1, 0, 1, 1]);
        let table = Tensor::int([2, 2], vec![0, 3, 3, 1]);
        let gradient = eval(EmbeddingGrad { vocab_size: 2 }, &[&dy, &tokens, &table]).unwrap();
        assert_eq!(gradient, [Tensor::float([2, 2, 1], vec![2.0, 5.0, 0.0, 8.0])]);
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let table = TensorType::new(DType::Bf16, [Dim::fixed(7), Dim::fixed(3)]);
        let tokens = TensorType::i32([Dim::slots(5)]);
        assert_eq!(Embedding.infer(&[&table, &tokens]), Ok(vec![TensorType::f32([Dim::slots(5), 3.into()])]));
        let error = Embedding.infer(&[&table, &table]).unwrap_err().to_string();
        assert_eq!(error, "operand 1: expected a vector of i32, found bf16[7, 3]");
        let windows = TensorType::i32([Dim::windows(2), 2.into()]);
        let dy = TensorType::f32([Dim::slots(4), 3.into()]);
        let error = EmbeddingGrad { vocab_size: 7 }.infer(&[&dy, &tokens, &windows]).unwrap_err().to_string();
        assert_eq!(error, "operand 1: expected i32[slots:4], found i32[slots:5]");
    }

    #[test]
    fn a_table_matches_finite_differences() {
        check_vjp(
            "graph @f(%w: parameter \"w\" f32[3, 2], %tokens: batch \"tokens\" i32[slots:6], \
             %t: batch \"window_table\" i32[windows:2, 2]) { \
             %y = embedding %w, %tokens : f32[slots:6, 2] return \"y\" %y }",
        );
    }
}
