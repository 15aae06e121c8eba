//! Attention over a key/value cache.
//!
//! A slot `t` meets the rows of its sequence from `cache_slot[t] - position[t]` to `cache_slot[t]`. Elements of a score
//! tensor behind them are not written, because no kernel reads them.
//!
//! # Numerics
//! Those of [`super::segment_matmul`] and [`super::masked_softmax`], whose row functions these kernels call.

use super::elementwise::leading;
use super::masked_softmax::softmax_row;
use super::rowwise::{RowKernel, elements};
use super::segment_matmul::{add_scaled, scores_row};
use super::{Call, Kernel, KernelError, View};
use gptjc_graphs::dtype::DType::{F32, I32};
use gptjc_graphs::shape::Dim;

/// First row of the cache that slot `t` meets, and their number.
///
/// # Safety
/// Nobody writes the two views.
///
/// # Panics
/// As [`keys`], and if the sequence would begin before the cache.
unsafe fn band(cache_slot: &View, position: &View, t: usize, window: usize) -> (usize, usize) {
    // SAFETY: the caller's promise.
    let (slot, keys) = unsafe { (cache_slot.read::<i32>(t..t + 1)[0] as usize, keys(position, t, window)) };
    assert!(keys <= slot + 1, "slot {t} is row {slot} of the cache and number {keys} of its sequence");
    (slot + 1 - keys, keys)
}

/// Number of rows that slot `t` meets.
///
/// # Safety
/// Nobody writes the view.
///
/// # Panics
/// If they are more than `window`, the row of scores that they are written to.
unsafe fn keys(position: &View, t: usize, window: usize) -> usize {
    // SAFETY: the caller's promise.
    let position = unsafe { position.read::<i32>(t..t + 1)[0] };
    assert!((position as usize) < window, "slot {t} has position {position}, there are at most {window}");
    position as usize + 1
}

pub(super) fn bind_store(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([cache, x, cache_slot], [updated]) = call.views([F32, F32, I32], [F32])?;
    if !updated.same_place(&cache) {
        return Err(call.refuse("a cache that is not updated in place"));
    }
    let (width, rows) = (x.row_elements(), cache.ty().dims[0].bound);
    // One tile: it moves little, and no two tiles can then meet in a row of the cache.
    Ok(RowKernel::boxed(Dim::fixed(1), 1, move |_, extents, _| {
        // SAFETY: the promises of `run_tile`; there is one tile, and the operand that is the same memory is not touched.
        unsafe {
            let cache = updated.write::<f32>(0..rows * width);
            let x = x.read_to::<f32>(extents.slots * width);
            for (row, &slot) in x.chunks_exact(width).zip(cache_slot.read_to::<i32>(extents.slots)) {
                cache[slot as usize * width..][..width].copy_from_slice(row);
            }
        }
    }))
}

pub(super) fn bind_scores(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([q, cache, cache_slot, position], [s]) = call.views([F32, F32, I32, I32], [F32])?;
    let (width, heads, window) = (q.row_elements(), call.int("heads")?, call.int("window")?);
    let lanes = width / heads.max(1);
    Ok(RowKernel::boxed(leading(&q), call.partition.rows, move |rows, _, _| {
        for t in rows {
            // SAFETY: the promises of `run_tile`; row `t` of `s` is this tile's own.
            unsafe {
                let (first, keys) = band(&cache_slot, &position, t, window);
                let q = q.read::<f32>(elements(&(t..t + 1), width));
                let k = cache.read::<f32>(elements(&(first..first + keys), width));
                for head in 0..heads {
                    let (start, lane) = ((t * heads + head) * window, head * lanes);
                    scores_row(&q[lane..lane + lanes], &k[lane..], width, s.write(start..start + keys));
                }
            }
        }
    }))
}

pub(super) fn bind_softmax(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([s, position], [p]) = call.views([F32, I32], [F32])?;
    let (heads, window) = (s.ty().dims[1].bound, s.ty().dims[2].bound);
    Ok(RowKernel::boxed(leading(&s), call.partition.rows, move |rows, _, _| {
        for t in rows {
            // SAFETY: the promises of `run_tile`; row `t` of `p` is this tile's own, and other memory than `s`.
            unsafe {
                let keys = keys(&position, t, window);
                for head in 0..heads {
                    let start = (t * heads + head) * window;
                    softmax_row(s.read(start..start + keys), p.write(start..start + keys));
                }
            }
        }
    }))
}

pub(super) fn bind_mix(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([p, cache, cache_slot, position], [o]) = call.views([F32, F32, I32, I32], [F32])?;
    let (width, heads, window) = (cache.row_elements(), p.ty().dims[1].bound, p.ty().dims[2].bound);
    let lanes = width / heads.max(1);
    Ok(RowKernel::boxed(leading(&p), call.partition.rows, move |rows, _, _| {
        for t in rows {
            // SAFETY: the promises of `run_tile`; row `t` of `o` is this tile's own.
            unsafe {
                let (first, keys) = band(&cache_slot, &position, t, window);
                let v = cache.read::<f32>(elements(&(first..first + keys), width));
                let out = o.write::<f32>(elements(&(t..t + 1), width));
                out.fill(0.0);
                for (head, out) in out.chunks_exact_mut(lanes).enumerate() {
                    let start = (t * heads + head) * window;
                    for (j, &p) in p.read::<f32>(start..start + keys).iter().enumerate() {
                        add_scaled(out, p, &v[j * width + head * lanes..][..lanes]);
                    }
                }
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Batch, Case, U, few};
    use gptjc_graphs::interp::Tensor;
    use gptjc_graphs::ops::cache as ops;
    use gptjc_graphs::shape::{Dim, TensorType};
    use proptest::prelude::*;

    /// Rows of a sequence in the cache.
    const WINDOW: usize = 6;

    /// Each slot is a token of a sequence of its own, `WINDOW` rows of the cache each: `cache_slot`, `position`, and
    /// what lies in the band of each slot.
    #[expect(
        clippy::type_complexity,
        reason = "operands, bound and mask, taken apart at once by each caller"
    )]
    fn places(batch: &mut Batch, heads: usize) -> ([(TensorType, Tensor<f64>); 2], usize, Vec<bool>) {
        let slots = batch.extents().slots;
        let position = batch.indices(batch.slots(), WINDOW);
        let keys: Vec<usize> =
            position.1.ints().unwrap().iter().map(|&position| position as usize + 1).collect();
        let rows = keys.iter().enumerate().map(|(t, keys)| (t * WINDOW + keys - 1) as i32).collect();
        let cache_slot = (TensorType::i32([batch.slots()]), Tensor::int([slots], rows));
        let in_band = |&keys: &usize| (0..heads * WINDOW).map(move |element| element % WINDOW < keys);
        ([cache_slot, position], (slots * WINDOW).max(1), keys.iter().flat_map(in_band).collect())
    }

    proptest! {
        #![proptest_config(few())]

        #[test]
        fn new_tokens_meet_the_cache(seed: u64, heads in 1usize..4, lanes in 1usize..20, rows in 1u32..9) {
            let mut batch = Batch::new(seed, 4);
            let (extents, width) = (batch.extents(), heads * lanes);
            let ([cache_slot, position], cache_rows, band) = places(&mut batch, heads);
            let cache = batch.f32(&[cache_rows.into(), width.into()]);
            let x = batch.f32(&[batch.slots(), width.into()]);
            let s = batch.f32(&[batch.slots(), heads.into(), WINDOW.into()]);
            let operands = vec![x.clone(), cache.clone(), cache_slot.clone(), position.clone()];
            let mut scores = Case::new(ops::CachedScores { heads, window: WINDOW }, extents, operands).tile(rows, 0);
            scores.written = Some(band.clone());
            scores.check_sums(lanes);
            let mut softmax = Case::new(ops::CachedSoftmax, extents, vec![s.clone(), position.clone()]).tile(rows, 0);
            softmax.written = Some(band);
            // Differences of up to 2, an exponential, a sum of 6, a division; above and below the line.
            let relative = U * (2.0 * (2.0 + 2.0) + 6.0 + 1.0);
            softmax.check(|_, expected| vec![expected[0].iter().map(|p| relative * p).collect()]);
            let operands = vec![s, cache.clone(), cache_slot.clone(), position];
            Case::new(ops::CachedMix, extents, operands).tile(rows, 0).check_sums(WINDOW);
            let mut store = Case::new(ops::CacheStore, extents, vec![cache, x, cache_slot]);
            store.always_in_place = vec![(0, 0)];
            store.check_exact();
        }
    }

    #[test]
    fn positions_behind_the_window_or_before_the_cache_panic() {
        for (cache_slot, position) in [(1, -1), (WINDOW as i32, WINDOW as i32), (0, 1), (-1, 0), (9, 0)] {
            let mut batch = Batch::new(0, 1);
            let extents = gptjc_graphs::shape::Extents { slots: 1, ..Default::default() };
            let cache = batch.f32(&[8.into(), 2.into()]);
            let q = Batch::given(&[Dim::slots(1), 2.into()], &[1, 2], vec![1.0; 2]);
            let of_slot = |x| (TensorType::i32([Dim::slots(1)]), Tensor::int([1], vec![x]));
            let op = ops::CachedScores { heads: 1, window: WINDOW };
            let case = Case::new(op, extents, vec![q, cache, of_slot(cache_slot), of_slot(position)]);
            let run = std::panic::AssertUnwindSafe(|| case.run(case.partition, &[], 0, 1));
            assert!(std::panic::catch_unwind(run).is_err(), "row {cache_slot}, position {position}");
        }
    }
}
