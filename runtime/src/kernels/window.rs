//! Sums over the tokens of a window, and over windows by the binary tree over their global index.
//!
//! # Numerics
//! Inside a window the sum ascends. Over windows: a counter of partial sums, one a level; window `i` is carried up
//! while bit `level` of `i` is set, and the carry of a level is `earlier + later`. So the sum depends on the number of
//! windows of the optimizer step only, not on micro-batches or ranks.

use super::elementwise::{Elementwise, leading};
use super::rowwise::{RowKernel, elements, table_range};
use super::{Call, Kernel, KernelError};
use gptjc_graphs::dtype::DType::{F32, I32};
use gptjc_graphs::shape::Dim;

pub(super) fn bind_sum(call: &Call, arithmetic: impl Elementwise) -> Result<Box<dyn Kernel>, KernelError> {
    let ([x, table], [sums]) = call.views([F32, I32], [F32])?;
    let width = sums.row_elements();
    Ok(RowKernel::boxed(leading(&sums), 1, move |windows, _, _| {
        for window in windows {
            // SAFETY: the promises of `run_tile`; a window's sum is this tile's own.
            unsafe {
                let rows = table_range(table.read_to(2 * window + 2), window);
                let out = sums.write::<f32>(elements(&(window..window + 1), width));
                out.fill(0.0);
                for row in x.read::<f32>(elements(&rows, width)).chunks_exact(width) {
                    arithmetic.add_assign(out, row);
                }
            }
        }
    }))
}

pub(super) fn bind_accumulate(
    call: &Call,
    arithmetic: impl Elementwise,
) -> Result<Box<dyn Kernel>, KernelError> {
    let ([stack, sums, counter], [updated]) = call.views([F32, F32, I32], [F32])?;
    let (size, levels) = (updated.row_elements(), updated.ty().dims[0].bound);
    if !updated.same_place(&stack) {
        return Err(call.refuse("a stack of partial sums that is not updated in place"));
    }
    Ok(RowKernel::boxed(Dim::fixed(size), call.partition.rows, move |range, extents, _| {
        // SAFETY: the promises of `run_tile`; elements `range` of every level are this tile's own, and the operand that is
        // the same memory is not touched by itself. A level's slice is dropped before the next one's is made, and the two
        // that are held at once are of different levels.
        unsafe {
            let first = counter.read::<i32>(3..4)[0].cast_unsigned();
            let at = |level: usize| level * size + range.start..level * size + range.end;
            for window in 0..extents.windows {
                let index = first.wrapping_add(window as u32);
                // Bits below the first 0 bit are partial sums that this window completes.
                let level = index.trailing_ones() as usize;
                assert!(
                    level < levels,
                    "window {index} of a step needs {} levels, the plan has {levels}",
                    level + 1
                );
                let own = updated.write::<f32>(at(level));
                own.copy_from_slice(sums.read(at(window)));
                for below in 0..level {
                    arithmetic.add_assign(own, updated.read(at(below)));
                }
            }
        }
    }))
}

pub(super) fn bind_finish(call: &Call, arithmetic: impl Elementwise) -> Result<Box<dyn Kernel>, KernelError> {
    let ([stack, totals], [sum]) = call.views([F32, I32], [F32])?;
    let size = stack.row_elements();
    Ok(RowKernel::boxed(Dim::fixed(size), call.partition.rows, move |range, _, _| {
        // SAFETY: the promises of `run_tile`.
        unsafe {
            let windows = totals.read::<i32>(0..1)[0].cast_unsigned();
            let out = sum.write::<f32>(range.clone());
            let mut started = false;
            for level in (0..u32::BITS as usize).filter(|level| windows >> level & 1 == 1) {
                let part = stack.read::<f32>(level * size + range.start..level * size + range.end);
                if started {
                    arithmetic.add_assign(out, part);
                } else {
                    out.copy_from_slice(part);
                    started = true;
                }
            }
            if !started {
                out.fill(0.0);
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Batch, Case, few};
    use gptjc_graphs::ops::window as ops;
    use gptjc_graphs::plan::Partition;
    use gptjc_graphs::shape::Dim;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(few())]

        #[test]
        fn windows_are_summed_each_by_itself(seed: u64, width in 1usize..35) {
            let mut batch = Batch::new(seed, 9);
            let (x, losses) = (batch.f32(&[batch.slots(), width.into()]), batch.f32(&[batch.rows()]));
            Case::new(ops::WindowSum, batch.extents(), vec![x, batch.window_table()]).vector().check_sums(9);
            Case::new(ops::WindowSum, batch.extents(), vec![losses, batch.row_table()]).vector().check_sums(9);
        }

        #[test]
        fn windows_are_joined_by_the_tree(seed: u64, dims in (1usize..5, 1usize..9), first in 0i32..60, rows in 1u32..9) {
            const LEVELS: usize = 6;
            let mut batch = Batch::new(seed, 3);
            let stack = batch.f32(&[LEVELS.into(), dims.0.into(), dims.1.into()]);
            let windows = Dim::windows(batch.windows.len() + 1);
            let sums = batch.f32(&[windows, dims.0.into(), dims.1.into()]);
            let operands = vec![stack.clone(), sums, Batch::counter(first)];
            let mut case = Case::new(ops::TreeAccumulate, batch.extents(), operands).tile(rows, 0).vector();
            case.always_in_place = vec![(0, 0)];
            // A node of the last window may hold a sum of all windows of the micro-batch and one node a level.
            case.check_sums(LEVELS + 4);
            let totals = Batch::fixed(&[first, 77]);
            Case::new(ops::TreeFinish, batch.extents(), vec![stack, totals]).tile(rows, 0).vector().check_sums(LEVELS);
        }
    }

    #[test]
    fn a_stack_elsewhere_is_refused() {
        let mut batch = Batch::new(3, 3);
        let stack = batch.f32(&[3.into(), 2.into()]);
        let sums = batch.f32(&[Dim::windows(batch.windows.len()), 2.into()]);
        let case = Case::new(ops::TreeAccumulate, batch.extents(), vec![stack, sums, Batch::counter(0)]);
        let error = case.run(Partition { rows: 1, columns: 0 }, &[], 0, 1).unwrap_err().to_string();
        let what = "a stack of partial sums that is not updated in place";
        assert_eq!(error, format!("kernel `tree_accumulate-f32-portable` does not take {what}"));
    }

    #[test]
    fn a_tree_too_low_panics() {
        // Window 1 completes a node of level 1; the stack has level 0 only.
        let mut batch = Batch::new(3, 3);
        let stack = batch.f32(&[1.into(), 2.into()]);
        let sums = batch.f32(&[Dim::windows(batch.windows.len()), 2.into()]);
        let case =
            Case::new(ops::TreeAccumulate, batch.extents(), vec![stack.clone(), sums, Batch::counter(1)]);
        let run = std::panic::AssertUnwindSafe(|| case.run(case.partition, &[(0, 0)], 0, 1));
        assert!(std::panic::catch_unwind(run).is_err());
        let case = Case::new(ops::TreeFinish, batch.extents(), vec![stack, Batch::fixed(&[2, 1])]);
        let run = std::panic::AssertUnwindSafe(|| case.run(case.partition, &[], 0, 1));
        assert!(std::panic::catch_unwind(run).is_err());
    }
}
