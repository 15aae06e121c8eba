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
