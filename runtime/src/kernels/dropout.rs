//! Dropout by counter: which elements are kept is a function of seed, step, window, slot, site and column.
//!
//! # Numerics
//! A kept element is one product; a dropped one is +0: all variants give the same bits. Source of the random words: [`gptjc_graphs::philox`].

use super::elementwise::{leading, start_from};
use super::rowwise::{RowKernel, elements};
use super::simd::philox::{RowWords, WORDS};
use super::simd::{LANES, Simd};
use super::{Call, Kernel, KernelError, Portable, View};
use gptjc_graphs::dtype::DType::{F32, I32};
use gptjc_graphs::layout;
use gptjc_graphs::philox::{DropoutSite, keep_threshold};
use gptjc_graphs::shape::{Dim, Extent, Extents};

/// What is the same for every row of a dropout: the first word that keeps an element, and the factor of what is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    threshold: u32,
    factor: f32,
}

impl Keep {
    /// Of a dropout of the share `p`.
    fn new(p: f64) -> Self {
        Self { threshold: keep_threshold(p), factor: (1.0 / (1.0 - p)) as f32 }
    }
}

/// What the kernels of this file do to a row.
pub(crate) trait Dropout: Copy + Send + Sync + 'static {
    /// Drops elements of a row in place, of which `row` is the part from column `first` on; `place` is the global window and
    /// the offset in it.
    fn drop_row(self, row: &mut [f32], first: usize, site: &DropoutSite, place: (u32, u16), keep: Keep);
}

impl Dropout for Portable {
    fn drop_row(self, row: &mut [f32], first: usize, site: &DropoutSite, place: (u32, u16), keep: Keep) {
        let end = first + row.len();
        let mut column = first;
        while column < end {
            let words = site.keep_words(place.0, place.1, (column / 4) as u32);
            let block_end = (column / 4 * 4 + 4).min(end);
            for column in column..block_end {
                let y = &mut row[column - first];
                *y = if words[column % 4] >= keep.threshold { *y * keep.factor } else { 0.0 };
            }
            column = block_end;
        }
    }
}

impl<S: Simd> Dropout for S {
    fn drop_row(self, row: &mut [f32], first: usize, site: &DropoutSite, place: (u32, u16), keep: Keep) {
        let words = RowWords::new(site, place.0, place.1);
        self.call(
            #[inline(always)]
            || drop_groups(self, row, first, &words, keep),
        );
    }
}

/// Drops elements by groups of [`WORDS`] columns; where `row` has a part of one only, in a copy that is filled up.
#[inline(always)]
fn drop_groups<S: Simd>(s: S, row: &mut [f32], first: usize, words: &RowWords, keep: Keep) {
    let end = first + row.len();
    for group in first / WORDS..end.div_ceil(WORDS) {
        let range = (group * WORDS).max(first)..((group + 1) * WORDS).min(end);
        let part = &mut row[range.start - first..range.end - first];
        match <&mut [f32; WORDS]>::try_from(&mut *part) {
            Ok(part) => drop_group(s, part, group, words, keep),
            Err(_) => {
                let mut copy = [0.0; WORDS];
                let inside = range.start - group * WORDS..range.end - group * WORDS;
                copy[inside.clone()].copy_from_slice(part);
                drop_group(s, &mut copy, group, words, keep);
                part.copy_from_slice(&copy[inside]);
            }
        }
    }
}

#[inline(always)]
fn drop_group<S: Simd>(s: S, row: &mut [f32; WORDS], group: usize, words: &RowWords, keep: Keep) {
    let (threshold, factor) = (s.splat_words(keep.threshold), s.splat(keep.factor));
    let (vectors, _) = row.as_chunks_mut::<LANES>();
    for (x, words) in vectors.iter_mut().zip(words.of(s, group)) {
        s.store(s.keep(words, threshold, s.mul(s.load(x), factor)), x);
    }
}

/// The window of a slot, and the slot's offset in it.
fn place(table: &[i32], slot: usize) -> Option<(usize, usize)> {
    let window = table.chunks_exact(2).rposition(|range| range[0] as usize <= slot && range[1] > 0)?;
    let offset = slot - table[2 * window] as usize;
    (offset < table[2 * window + 1] as usize).then_some((window, offset))
}

/// The masks of a fused op's dropouts.
pub(super) struct Masks {
    window_table: View,
    counter: View,
    labelled: Option<View>,
    keep: Keep,
}

impl Masks {
    /// Of the operands that `masks` says, for `tokens`, dropping the share `p`.
    pub(super) fn new(
        call: &Call,
        masks: layout::Masks<View>,
        tokens: Dim,
        p: f64,
    ) -> Result<Self, KernelError> {
        let layout::Masks { window_table, counter, labelled } = masks;
        call.check_type("window_table", &window_table, I32)?;
        call.check_type("counter", &counter, I32)?;
        match &labelled {
            Some(labelled) => call.check_type("labelled", labelled, I32)?,
            None if tokens.extent == Extent::Rows => {
                return Err(call.refuse("labelled rows without `labelled`"));
            }
            None => {}
        }
        if labelled.is_some() && tokens.extent != Extent::Rows {
            return Err(call.refuse("`labelled` without labelled rows"));
        }
        Ok(Self { window_table, counter, labelled, keep: Keep::new(p) })
    }

    /// The masks of a micro-batch.
    ///
    /// # Safety
    /// Nobody writes the operands while the masks are used.
    pub(super) unsafe fn of_batch(&self, extents: &Extents) -> MasksOfBatch<'_> {
        // SAFETY: the caller's promise.
        unsafe {
            let words = self.counter.read_to::<i32>(4);
            MasksOfBatch {
                masks: self,
                table: self.window_table.read_to(2 * extents.windows),
                counter: [words[0], words[1], words[2], words[3]],
                labelled: self.labelled.as_ref().map(|labelled| labelled.read_to(extents.rows)),
            }
        }
    }
}

/// See [`Masks::of_batch`].
pub(super) struct MasksOfBatch<'v> {
    masks: &'v Masks,
    table: &'v [i32],
    counter: [i32; 4],
    labelled: Option<&'v [i32]>,
}

impl MasksOfBatch<'_> {
    /// Global window and offset of a token, if it is in a window.
    pub(super) fn place(&self, token: usize) -> Option<(u32, u16)> {
        let slot = self.labelled.map_or(token, |labelled| labelled[token] as usize);
        let (window, offset) = place(self.table, slot)?;
        Some((self.counter[3].cast_unsigned().wrapping_add(window as u32), offset as u16))
    }

    /// What `site` leaves of the part of a token's row from column `first` on; `place` is the token's.
    pub(super) fn drop_row(
        &self,
        arithmetic: impl Dropout,
        row: &mut [f32],
        first: usize,
        site: u16,
        place: Option<(u32, u16)>,
    ) {
        match place {
            Some(place) => {
                let site = DropoutSite::new(self.counter, site);
                arithmetic.drop_row(row, first, &site, place, self.masks.keep);
            }
            None => row.fill(0.0), // a slot of no window is no token
        }
    }
}

pub(super) fn bind(call: &Call, arithmetic: impl Dropout) -> Result<Box<dyn Kernel>, KernelError> {
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
    let keep = Keep::new(p);
    Ok(RowKernel::boxed(leading(&y), call.partition.rows, move |rows, extents, _| {
        // SAFETY: the promises of `run_tile`.
        unsafe {
            let table = table.read_to::<i32>(2 * extents.windows);
            let words = counter.read_to::<i32>(4);
            let site = DropoutSite::new([words[0], words[1], words[2], words[3]], site);
            let slots = labelled.as_ref().map(|labelled| labelled.read::<i32>(rows.clone()));
            for (index, row) in rows.clone().enumerate() {
                let out = start_from::<f32>(&x, &y, elements(&(row..row + 1), width));
                let slot = slots.map_or(rows.start + index, |slots| slots[index] as usize);
                match place(table, slot) {
                    Some((window, offset)) => {
                        let global = words[3].cast_unsigned().wrapping_add(window as u32);
                        arithmetic.drop_row(out, 0, &site, (global, offset as u16), keep);
                    }
                    None => out.fill(0.0), // a slot of no window is no token
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
            let case = Case::new(ops::Dropout { p, site }, batch.extents(), operands).tile(rows, 0).vector();
            let bounds = |_: &Case, expected: &[Vec<f64>]| {
                vec![expected[0].iter().map(|y| 2.0 * U * y.abs()).collect()]
            };
            case.check(bounds);
            let x = batch.f32(&[batch.rows(), width.into()]);
            let operands = vec![x, batch.window_table(), Batch::counter(first), batch.labelled()];
            Case::new(ops::Dropout { p, site }, batch.extents(), operands).tile(rows, 0).vector().check(bounds);
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
