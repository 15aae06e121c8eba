//! Picking labelled rows out of all slots, and putting them back among zeros.

use super::elementwise::leading;
use super::rowwise::{RowKernel, elements};
use super::{Call, Element, Kernel, KernelError};
use gptjc_graphs::dtype::DType::{Bf16, F32, I32};

pub(super) fn bind_gather(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    match call.dtype_of_operand(0)? {
        I32 => gather::<i32>(call),
        F32 | Bf16 => gather::<f32>(call),
    }
}

fn gather<T: Element>(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([x, labelled], [y]) = call.views([T::DTYPE, I32], [T::DTYPE])?;
    let width = y.row_elements();
    Ok(RowKernel::boxed(leading(&y), call.partition.rows, move |rows, extents, _| {
        // SAFETY: the promises of `run_tile`; `labelled` names used slots.
        unsafe {
            let out = y.write::<T>(elements(&rows, width));
            let x = x.read_to::<T>(extents.slots * width);
            for (row, &slot) in out.chunks_exact_mut(width).zip(labelled.read::<i32>(rows)) {
                row.copy_from_slice(&x[slot as usize * width..][..width]);
            }
        }
    }))
}

pub(super) fn bind_scatter(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([y, labelled], [x]) = call.views([F32, I32], [F32])?;
    let width = x.row_elements();
    Ok(RowKernel::boxed(leading(&x), call.partition.rows, move |slots, extents, _| {
        // SAFETY: the promises of `run_tile`; `labelled` is ascending, so the tile's rows are one range of it.
        unsafe {
            let out = x.write::<f32>(elements(&slots, width));
            out.fill(0.0);
            let labelled = labelled.read_to::<i32>(extents.rows);
            let first = labelled.partition_point(|&slot| (slot as usize) < slots.start);
            let last = labelled.partition_point(|&slot| (slot as usize) < slots.end);
            let rows = y.read::<f32>(elements(&(first..last), width));
            for (&slot, row) in labelled[first..last].iter().zip(rows.chunks_exact(width)) {
                out[(slot as usize - slots.start) * width..][..width].copy_from_slice(row);
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Batch, Case, few};
    use gptjc_graphs::ops::rows as ops;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(few())]

        #[test]
        fn rows_are_picked_and_put_back(seed: u64, width in 1usize..35, rows in 1u32..9) {
            let mut batch = Batch::new(seed, 9);
            let (slots, labelled) = (batch.slots(), batch.labelled());
            let (x, y) = (batch.f32(&[slots, width.into()]), batch.f32(&[batch.rows(), width.into()]));
            let extents = batch.extents();
            Case::new(ops::GatherRows, extents, vec![x, labelled.clone()]).tile(rows, 0).vector().check_exact();
            let position = batch.indices(slots, 9);
            Case::new(ops::GatherRows, extents, vec![position, labelled.clone()]).tile(rows, 0).vector().check_exact();
            let scatter = ops::ScatterRows { slots: slots.bound };
            Case::new(scatter, extents, vec![y, labelled]).tile(rows, 0).vector().check_exact();
        }
    }
}
