//! Sums over the tokens of a window, and over windows by the binary tree over their global index.
//!
//! # Numerics
//! Inside a window the sum ascends. Over windows: a counter of partial sums, one a level; window `i` is carried up
//! while bit `level` of `i` is set, and the carry of a level is `earlier + later`. So the sum depends on the number of
//! windows of the optimizer step only, not on micro-batches or ranks.

use super::elementwise::{add_assign, leading};
use super::rowwise::{RowKernel, elements, table_range};
use super::{Call, Kernel, KernelError};
use gptjc_graphs::dtype::DType::{F32, I32};
use gptjc_graphs::shape::Dim;

pub(super) fn bind_sum(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
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
                    add_assign(out, row);
                }
            }
        }
    }))
}

pub(super) fn bind_accumulate(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
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
                    let earlier = updated.read::<f32>(at(below));
                    for (own, earlier) in own.iter_mut().zip(earlier) {
                        *own = earlier + *own;
                    }
                }
            }
        }
    }))
}

pub(super) fn bind_finish(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
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
                    for (out, part) in out.iter_mut().zip(part) {
                        *out = part + *out;
                    }
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
