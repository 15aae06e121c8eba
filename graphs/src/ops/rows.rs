//! Selecting the labelled slots, and putting rows back where they came from.
//!
//! Letters: D width. A *row* is a slot that has a label; `labelled` holds the slots of the rows, ascending. In training
//! each is there once. Without gradients a slot may be there several times, to be asked for several labels.
//!
//! Numerics: exact.

use super::check::{self, TypeError};
use super::{
    AttributeError, Attributes, AutodiffError, EvalError, Operation, Real, Tensor, VjpContext, no_attributes,
};
use crate::interp::{Data, index_below};
use crate::shape::{Dim, Extent, Extents, TensorType};

/// `gather_rows %x[slots, D], %labelled i32[rows] -> [rows, D]`: row `r` is `x[labelled[r]]`. `x` may also be a vector
/// i32`[slots]`, such as the slots' positions; the result is i32`[rows]`.
#[derive(Clone, Debug, PartialEq)]
pub struct GatherRows;

impl Operation for GatherRows {
    const NAME: &'static str = "gather_rows";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, labelled] = check::operands(operands)?;
        let expected = if x.dtype.is_float() { 2 } else { 1 };
        if x.rank() != expected || x.dims[0].extent != Extent::Slots {
            let expected = "a floating-point tensor [slots:_, D] or a vector i32[slots:_]";
            return Err(check::mismatch(0, expected, x));
        }
        let rows = labelled_rows(labelled)?;
        Ok(vec![TensorType::new(x.dtype, [&[rows], &x.dims[1..]].concat())])
    }

    /// For `y[r] = x[labelled[r]]`: `dx[labelled[r]] = dy[r]`, and zero for the slots without a label.
    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        let Some(dy) = rule.cotangent(0) else { return Ok(()) };
        let slots = rule.graph().ty(rule.operand(0)).dims[0].bound;
        let dx = rule.push(ScatterRows { slots }, &[dy, rule.operand(1)])?;
        rule.contribute(0, dx);
        Ok(())
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let (x, labelled) = (operands[0], operands[1].ints()?);
        let dims = [&[labelled.len()], &x.dims[1..]].concat();
        Ok(vec![match &x.data {
            Data::Float(data) => Tensor::float(dims, gathered(data, x.dims[0], labelled)?),
            Data::Int(data) => Tensor::int(dims, gathered(data, x.dims[0], labelled)?),
        }])
    }

    fn flops(&self, _operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        0
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// `scatter_rows %y f32[rows, D], %labelled i32[rows] {slots} -> f32[slots:bound, D]`: slot `labelled[r]` is `y[r]`,
/// every other slot zero. `slots` is the bound of the result.
#[derive(Clone, Debug, PartialEq)]
pub struct ScatterRows {
    /// Largest number of slots.
    pub slots: usize,
}

impl Operation for ScatterRows {
    const NAME: &'static str = "scatter_rows";

    fn from_attributes(attributes: &Attributes) -> Result<Self, AttributeError> {
        attributes.only(&["slots"])?;
        Ok(Self { slots: attributes.get_int("slots")? })
    }

    fn attributes(&self) -> Attributes {
        Attributes::new().int("slots", self.slots)
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [y, labelled] = check::operands(operands)?;
        let rows = labelled_rows(labelled)?;
        check::float(0, y, 2)?;
        check::f32_of(0, y, &[rows, y.dims[1]])?;
        Ok(vec![TensorType::f32([Dim::slots(self.slots), y.dims[1]])])
    }

    /// For `x[labelled[r]] = y[r]`: `dy[r] = dx[labelled[r]]`.
    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        let Some(dx) = rule.cotangent(0) else { return Ok(()) };
        let dy = rule.push(GatherRows, &[dx, rule.operand(1)])?;
        rule.contribute(0, dy);
        Ok(())
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let (y, labelled) = (operands[0].floats()?, operands[1].ints()?);
        let (slots, width) = (extents.slots, operands[0].dims[1]);
        let mut x = vec![F::zero(); slots * width];
        for (row, &slot) in labelled.iter().enumerate() {
            let slot = index_below("labelled slot", slot, slots)?;
            x[slot * width..(slot + 1) * width].copy_from_slice(&y[row * width..(row + 1) * width]);
        }
        Ok(vec![Tensor::float([slots, width], x)])
    }

    fn flops(&self, _operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        0
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// The rows of `x`, which has `slots` of them, that `labelled` names.
fn gathered<T: Copy>(x: &[T], slots: usize, labelled: &[i32]) -> Result<Vec<T>, EvalError> {
    let width = x.len() / slots.max(1);
    let mut y = Vec::with_capacity(labelled.len() * width);
    for &slot in labelled {
        let slot = index_below("labelled slot", slot, slots)?;
        y.extend_from_slice(&x[slot * width..(slot + 1) * width]);
    }
    Ok(y)
}

/// The rows dimension of the operand `labelled`.
fn labelled_rows(found: &TensorType) -> Result<Dim, TypeError> {
    match found.dims.as_slice() {
        [rows] if rows.extent == Extent::Rows => check::index_vector(1, found, *rows).map(|()| *rows),
        _ => Err(check::mismatch(1, "a vector i32[rows:_]", found)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::check::check_vjp;

    #[test]
    fn rows_go_and_come_back() {
        let extents = Extents { slots: 3, rows: 2, ..Extents::default() };
        let x = Tensor::float([3, 2], vec![0.0_f32, 1.0, 10.0, 11.0, 20.0, 21.0]);
        let labelled = Tensor::int([2], vec![0, 2]);
        let rows = GatherRows.evaluate(&[&x, &labelled], &[], &extents).unwrap();
        assert_eq!(rows, [Tensor::float([2, 2], vec![0.0, 1.0, 20.0, 21.0])]);
        let back = ScatterRows { slots: 4 }.evaluate(&[&rows[0], &labelled], &[], &extents).unwrap();
        assert_eq!(back, [Tensor::float([3, 2], vec![0.0, 1.0, 0.0, 0.0, 20.0, 21.0])]);
        let position = Tensor::int([3], vec![7, 8, 9]);
        let of_rows = GatherRows.evaluate(&[&position, &labelled], &[], &extents).unwrap();
        assert_eq!(of_rows, [Tensor::<f32>::int([2], vec![7, 9])]);
        let outside = Tensor::int([2], vec![0, 3]);
        let error = GatherRows.evaluate(&[&x, &outside], &[], &extents).unwrap_err().to_string();
        assert_eq!(error, "labelled slot 3 is outside of 0..3");
    }

    #[test]
    fn other_extents_are_refused() {
        let (slots, rows) =
            (TensorType::f32([Dim::slots(5), 3.into()]), TensorType::f32([Dim::rows(4), 3.into()]));
        let labelled = TensorType::i32([Dim::rows(4)]);
        assert_eq!(GatherRows.infer(&[&slots, &labelled]), Ok(vec![rows.clone()]));
        assert_eq!(ScatterRows { slots: 5 }.infer(&[&rows, &labelled]), Ok(vec![slots.clone()]));
        let error = GatherRows.infer(&[&rows, &labelled]).unwrap_err().to_string();
        assert_eq!(
            error,
            "operand 0: expected a floating-point tensor [slots:_, D] or a vector i32[slots:_], found f32[rows:4, 3]"
        );
        let error = ScatterRows { slots: 5 }.infer(&[&slots, &labelled]).unwrap_err().to_string();
        assert_eq!(error, "operand 0: expected f32[rows:4, 3], found f32[slots:5, 3]");
        let error = GatherRows.infer(&[&slots, &TensorType::i32([Dim::slots(5)])]).unwrap_err().to_string();
        assert_eq!(error, "operand 1: expected a vector i32[rows:_], found i32[slots:5]");
    }

    #[test]
    fn a_gather_matches_finite_differences() {
        check_vjp(
            "graph @f(%x: batch \"x\" f32[slots:5, 3], %l: batch \"labelled\" i32[rows:3]) { \
             %y = gather_rows %x, %l : f32[rows:3, 3] return \"y\" %y }",
        );
    }

    #[test]
    fn a_scatter_matches_finite_differences() {
        check_vjp(
            "graph @f(%x: batch \"x\" f32[slots:5, 3], %y: batch \"y\" f32[rows:3, 3], \
             %l: batch \"labelled\" i32[rows:3]) { \
             %s = scatter_rows %y, %l {slots = 5} : f32[slots:5, 3] \
             %z = add %s, %x : f32[slots:5, 3] return \"z\" %z }",
        );
    }
}
