//! Dropout by counter: which elements are kept is a function of seed, step, window, slot, site and column.
//!
//! # Numerics
//! A kept element is one product; a dropped one is +0. Source of the random words: [`gptjc_graphs::philox`].

use super::elementwise::{leading, start_from};
use super::rowwise::{RowKernel, elements};
use super::{Call, Kernel, KernelError, View};
use gptjc_graphs::dtype::DType::{F32, I32};
use gptjc_graphs::philox::{DropoutSite, keep_threshold};

/// Drops elements of one row in place.
pub fn dropout_row(
    row: &mut [f32],
    site: &DropoutSite,
    window: u32,
    offset: u16,
    threshold: u32,
    factor: f32,
) {
    for (block, lanes) in row.chunks_mut(4).enumerate() {
        let words = site.keep_words(window, offset, block as u32);
        for (y, word) in lanes.iter_mut().zip(words) {
            *y = if word >= threshold { *y * factor } else { 0.0 };
        }
    }
}

/// The window of a slot, and the slot's offset in it.
fn place(table: &[i32], slot: usize) -> Option<(usize, usize)> {
    let window = table.chunks_exact(2).rposition(|range| range[0] as usize <= slot && range[1] > 0)?;
    let offset = slot - table[2 * window] as usize;
    (offset < table[2 * window + 1] as usize).then_some((window, offset))
}

pub(super) fn bind(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let (labelled, [y]) = (call.operands.get(3).cloned(), call.results()?);
    let mut types = vec![F32, I32, I32];
    types.extend(labelled.iter().map(|_| I32));
    call.check_types("operand", &call.operands, &types)?;
    call.check_types("result", &call.results, &[F32])?;
    let [x, table, counter] = match &call.operands[..] {
        [x, table, counter] | [x, table, counter, _] => [x, table, counter].map(View::clone),
        other => return Err(call.refuse(format!("{} operands", other.len()))),
    };
    let (width, p, site) = (y.row_elements(), call.float("p")?, call.int("site")?);
    let site = u16::try_from(site).map_err(|_| call.refuse(format!("site {site}")))?;
    let (threshold, factor) = (keep_threshold(p), (1.0 / (1.0 - p)) as f32);
    Ok(RowKernel::boxed(leading(&y), call.partition.rows, move |rows, extents, _| {
        // SAFETY: the promises of `run_tile`.
        unsafe {
            let out = start_from::<f32>(&x, &y, elements(&rows, width));
            let table = table.read_to::<i32>(2 * extents.windows);
            let words = counter.read_to::<i32>(4);
            let site = DropoutSite::new([words[0], words[1], words[2], words[3]], site);
            let slots = labelled.as_ref().map(|labelled| labelled.read::<i32>(rows.clone()));
            for (index, row) in out.chunks_exact_mut(width).enumerate() {
                let slot = slots.map_or(rows.start + index, |slots| slots[index] as usize);
                match place(table, slot) {
                    Some((window, offset)) => {
                        let global = words[3].cast_unsigned().wrapping_add(window as u32);
                        dropout_row(row, &site, global, offset as u16, threshold, factor);
                    }
                    None => row.fill(0.0), // a slot of no window is no token
                }
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Batch, Case, U, few};
    use super::*;
    use gptjc_graphs::ops::dropout as ops;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(few())]

        #[test]
        fn what_is_kept_is_what_the_op_keeps(
            seed: u64,
            width in 1usize..35,
            rows in 1u32..9,
            p in 0.0f64..0.95,
            site in 0usize..65536,
            first: i32,
        ) {
            let mut batch = Batch::new(seed, 7);
            let x = batch.f32(&[batch.slots(), width.into()]);
            let operands = vec![x, batch.window_table(), Batch::counter(first)];
            let case = Case::new(ops::Dropout { p, site }, batch.extents(), operands).tile(rows, 0);
            let bounds = |_: &Case, expected: &[Vec<f64>]| {
                vec![expected[0].iter().map(|y| 2.0 * U * y.abs()).collect()]
            };
            case.check(bounds);
            let x = batch.f32(&[batch.rows(), width.into()]);
            let operands = vec![x, batch.window_table(), Batch::counter(first), batch.labelled()];
            Case::new(ops::Dropout { p, site }, batch.extents(), operands).tile(rows, 0).check(bounds);
        }
    }

    #[test]
    fn slots_are_found_in_their_windows() {
        let table = [0, 3, 3, 0, 3, 2, 6, 1];
        let found: Vec<_> = (0..8).map(|slot| place(&table, slot)).collect();
        let expected =
            [Some((0, 0)), Some((0, 1)), Some((0, 2)), Some((2, 0)), Some((2, 1)), None, Some((3, 0)), None];
        assert_eq!(found, expected);
    }
}
