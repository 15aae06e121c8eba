//! Sums over the tokens of a window, and the tree that sums over windows.
//!
//! Letters: M tokens, L levels of the tree, N windows of the optimizer step.
//!
//! The order of a sum must not depend on how windows are cut into micro-batches or who computes them. So what sums over
//! tokens is summed inside one window, in ascending order, and windows are summed by one binary tree over the global
//! window index: node (l, j) is the sum of windows `j * 2^l .. (j + 1) * 2^l`, cut to N. Pushed in ascending order, the
//! nodes that are complete but not yet joined are the set bits of the number of windows so far: a stack of L slots
//! holds them, slot l the node of level l, as a binary counter does.
//!
//! Does not: divide. What is finished is a sum; [`super::optimizer::ClipScale`] divides it by the labelled tokens.

use super::check::{self, TypeError};
use super::{AutodiffError, EvalError, Operation, Real, Tensor, VjpContext, no_attributes};
use crate::dtype::DType;
use crate::shape::{Dim, Extent, Extents, TensorType};
use std::ops::Range;

/// Why sums over windows and the optimizer have no gradient rule.
pub(crate) const TERMINAL: &str =
    "nothing that is differentiated follows it: it belongs to the end of a step";

/// Where `counter` holds the first global window of the micro-batch.
pub(crate) const COUNTER_WINDOW: usize = 3;

/// The ranges of a table of (first, count) pairs.
///
/// # Errors
/// [`EvalError::Index`] if one does not lie in `0..bound`.
pub(crate) fn ranges<F: Real>(table: &Tensor<F>, bound: usize) -> Result<Vec<Range<usize>>, EvalError> {
    let range = |pair: &[i32]| {
        let (first, count) = (i64::from(pair[0]), i64::from(pair[1]));
        let wrong = |what, index| Err(EvalError::Index { what, index, bound });
        match (usize::try_from(first), usize::try_from(count)) {
            (Err(_), _) => wrong("first element of a range", first),
            (_, Err(_)) => wrong("length of a range", count),
            (Ok(start), Ok(length)) if start + length > bound => {
                wrong("last element of a range", first + count - 1)
            }
            (Ok(start), Ok(length)) => Ok(start..start + length),
        }
    };
    table.ints()?.chunks_exact(2).map(range).collect()
}

/// `window_sum %x, %table`: for each window, the sum of the rows of `x[M, ...]` that are its own, in ascending order,
/// as f32 `[windows, ...]`.
///
/// Terminal: it has no gradient rule, because a loss per window is what a gradient starts from.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowSum;

impl Operation for WindowSum {
    const NAME: &'static str = "window_sum";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, table] = check::operands(operands)?;
        if !x.dtype.is_float() || x.rank() == 0 {
            return Err(check::mismatch(0, "a floating-point tensor [M, ...]", x));
        }
        let windows = check::range_table(1, table, Extent::Windows)?;
        Ok(vec![TensorType::f32(behind(windows, &x.dims[1..]))])
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(TERMINAL)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let (x, table) = (operands[0].floats()?, operands[1]);
        let width: usize = operands[0].dims[1..].iter().product();
        let mut dims = operands[0].dims.clone();
        dims[0] = table.dims[0];
        let mut sums = vec![F::zero(); dims[0] * width];
        for (window, rows) in ranges(table, operands[0].dims[0])?.into_iter().enumerate() {
            let sum = &mut sums[window * width..(window + 1) * width];
            for row in rows {
                for (sum, &x) in sum.iter_mut().zip(&x[row * width..]) {
                    *sum = *sum + x;
                }
            }
        }
        Ok(vec![Tensor::float(dims, sums)])
    }

    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        operands[0].elements() as u64
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// `tree_accumulate %stack, %sums, %counter`: pushes the sum of each window of `sums` f32`[windows, ...]` on the
/// `stack` f32`[L, ...]` of tree nodes, in ascending order.
///
/// `counter` i32`[4]` is (seed low, seed high, optimizer step, first global window of this micro-batch), bit patterns
/// of u32. For global window i, the new node is joined with those of the trailing ones of i:
/// `carry = stack[level] + carry`. A micro-batch may cut the windows anywhere.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeAccumulate;

impl Operation for TreeAccumulate {
    const NAME: &'static str = "tree_accumulate";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [stack, sums, counter] = check::operands(operands)?;
        stack_of(stack)?;
        match sums.dims.first() {
            Some(&windows) if windows.extent == Extent::Windows => {
                check::f32_of(1, sums, &behind(windows, &stack.dims[1..]))?;
            }
            _ => return Err(check::mismatch(1, "a tensor f32[windows:_, ...]", sums)),
        }
        check::index_vector(2, counter, Dim::fixed(4))?;
        Ok(vec![stack.clone()])
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(TERMINAL)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let (mut stack, sums) = (operands[0].floats()?.to_vec(), operands[1].floats()?);
        let first = operands[2].ints()?[COUNTER_WINDOW].cast_unsigned();
        let levels = operands[0].dims[0];
        let width: usize = operands[0].dims[1..].iter().product();
        for window in 0..operands[1].dims[0] {
            let joined = (u64::from(first) + window as u64).trailing_ones() as usize;
            level_exists(joined, levels)?;
            let mut carry = sums[window * width..(window + 1) * width].to_vec();
            for level in 0..joined {
                add_node(&mut carry, &stack[level * width..]);
            }
            stack[joined * width..(joined + 1) * width].copy_from_slice(&carry);
        }
        Ok(vec![Tensor::float(operands[0].dims.clone(), stack)])
    }

    /// Pushing N windows joins fewer than N nodes.
    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        operands[1].elements() as u64
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0)]
    }
}

/// `tree_finish %stack, %totals`: the sum over all windows, f32 `[...]`, from the nodes on the `stack` f32`[L, ...]`.
///
/// `totals` i32`[2]` is (windows N, labelled tokens) of the optimizer step. The nodes of N's set bits are joined from
/// the lowest level up, `acc = stack[l] + acc`; no windows give zeros. Slots of other levels are not read.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeFinish;

impl Operation for TreeFinish {
    const NAME: &'static str = "tree_finish";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [stack, totals] = check::operands(operands)?;
        stack_of(stack)?;
        check::index_vector(1, totals, Dim::fixed(2))?;
        Ok(vec![TensorType::f32(&stack.dims[1..])])
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(TERMINAL)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let stack = operands[0].floats()?;
        let windows = operands[1].ints()?[0].cast_unsigned();
        let (levels, dims) = (operands[0].dims[0], &operands[0].dims[1..]);
        let width: usize = dims.iter().product();
        let mut sum: Option<Vec<F>> = None;
        for level in (0..u32::BITS as usize).filter(|level| windows >> level & 1 == 1) {
            level_exists(level, levels)?;
            let node = &stack[level * width..(level + 1) * width];
            match &mut sum {
                Some(sum) => add_node(sum, node),
                None => sum = Some(node.to_vec()),
            }
        }
        Ok(vec![Tensor::float(dims, sum.unwrap_or_else(|| vec![F::zero(); width]))])
    }

    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        operands[0].elements() as u64
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// `dims` behind a leading dimension.
fn behind(leading: Dim, dims: &[Dim]) -> Vec<Dim> {
    [&[leading], dims].concat()
}

/// Operand 0 is a stack of tree nodes.
fn stack_of(stack: &TensorType) -> Result<(), TypeError> {
    let is_stack =
        stack.dtype == DType::F32 && stack.dims.first().is_some_and(|dim| dim.extent == Extent::Fixed);
    if is_stack { Ok(()) } else { Err(check::mismatch(0, "a stack of tree nodes f32[L, ...]", stack)) }
}

/// The stack has a slot for this level.
fn level_exists(level: usize, levels: usize) -> Result<(), EvalError> {
    if level < levels {
        Ok(())
    } else {
        Err(EvalError::Index { what: "level of the window tree", index: level as i64, bound: levels })
    }
}

/// `acc = node + acc`.
fn add_node<F: Real>(acc: &mut [F], node: &[F]) {
    for (acc, &node) in acc.iter_mut().zip(node) {
        *acc = node + *acc;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluate(op: &impl Operation, operands: &[&Tensor<f32>]) -> Result<Tensor<f32>, EvalError> {
        op.evaluate(operands, &[], &Extents::default()).map(|mut results| results.remove(0))
    }

    /// The sum over windows after pushing them in micro-batches of these sizes.
    fn tree(sums: &[f32], cuts: &[usize]) -> f32 {
        // Slots that were never written must not be read.
        let mut stack = Tensor::float([5], vec![f32::NAN; 5]);
        let mut first = 0;
        for &count in cuts {
            let batch = Tensor::float([count], sums[first..first + count].to_vec());
            let counter = Tensor::int([4], vec![7, 0, 1, first as i32]);
            stack = evaluate(&TreeAccumulate, &[&stack, &batch, &counter]).unwrap();
            first += count;
        }
        let totals = Tensor::int([2], vec![first as i32, 100]);
        evaluate(&TreeFinish, &[&stack, &totals]).unwrap().floats().unwrap()[0]
    }

    #[test]
    fn rows_are_summed_inside_their_window() {
        let x = Tensor::float([4, 2], vec![1.0, 10.0, 2.0, 20.0, 4.0, 40.0, 8.0, 80.0]);
        let table = Tensor::int([3, 2], vec![0, 1, 1, 3, 4, 0]);
        let sums = evaluate(&WindowSum, &[&x, &table]).unwrap();
        assert_eq!(sums, Tensor::float([3, 2], vec![1.0, 10.0, 14.0, 140.0, 0.0, 0.0]));
        let ty = TensorType::new(DType::Bf16, [Dim::rows(4), Dim::fixed(2)]);
        let table = TensorType::i32([Dim::windows(3), Dim::fixed(2)]);
        assert_eq!(WindowSum.infer(&[&ty, &table]).unwrap()[0].to_string(), "f32[windows:3, 2]");
    }

    #[test]
    fn a_window_outside_of_the_rows_is_refused() {
        let x = Tensor::float([2], vec![1.0, 2.0]);
        for (pair, message) in [
            ([1, 2], "last element of a range 2 is outside of 0..2"),
            ([-1, 1], "first element of a range -1 is outside of 0..2"),
            ([0, -1], "length of a range -1 is outside of 0..2"),
        ] {
            let error = evaluate(&WindowSum, &[&x, &Tensor::int([1, 2], pair.to_vec())]).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn windows_are_joined_as_a_binary_tree() {
        // f32 sums of these depend on their order.
        let sums: Vec<f32> = (0..11).map(|i| 1.0 / (3.0 + i as f32) * 10f32.powi(i % 4)).collect();
        let s = &sums;
        let expected =
            (((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]))) + ((s[8] + s[9]) + s[10]);
        assert_ne!(expected, s.iter().sum::<f32>(), "the case must tell a tree from a chain");
        for cuts in [&[11][..], &[1; 11], &[4, 4, 3], &[3, 5, 2, 1]] {
            assert_eq!(tree(s, cuts), expected, "micro-batches of {cuts:?} windows");
        }
    }

    #[test]
    fn no_windows_sum_to_zero() {
        assert_eq!(tree(&[], &[]), 0.0);
    }

    #[test]
    fn a_stack_that_is_too_small_is_refused() {
        let (stack, sums) = (Tensor::zeros([1, 1]), Tensor::zeros([1, 1]));
        let counter = Tensor::int([4], vec![0, 0, 0, 1]);
        let error = evaluate(&TreeAccumulate, &[&stack, &sums, &counter]).unwrap_err().to_string();
        assert_eq!(error, "level of the window tree 1 is outside of 0..1");
        let totals = Tensor::int([2], vec![2, 0]);
        assert!(evaluate(&TreeFinish, &[&stack, &totals]).is_err());
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let stack = TensorType::f32([4, 3].map(Dim::fixed));
        let sums = TensorType::f32([Dim::windows(2), Dim::fixed(5)]);
        let counter = TensorType::i32([Dim::fixed(4)]);
        let error = TreeAccumulate.infer(&[&stack, &sums, &counter]).unwrap_err().to_string();
        assert_eq!(error, "operand 1: expected f32[windows:2, 3], found f32[windows:2, 5]");
        let totals = TensorType::i32([Dim::fixed(2)]);
        assert!(TreeFinish.infer(&[&sums, &totals]).is_err(), "a stack's levels are fixed");
        assert_eq!(TreeFinish.infer(&[&stack, &totals]).unwrap()[0].to_string(), "f32[3]");
        assert!(WindowSum.infer(&[&TensorType::f32([]), &totals]).is_err(), "a number has no rows");
    }
}
