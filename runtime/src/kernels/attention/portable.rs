//! Attention in plain loops, query by query.

use super::super::View;
use super::super::rotary::Rotary;
use super::super::segment_matmul::{add_scaled, scores_row};
use super::shape::{Backward, Forward, Inputs, Unit, load, store};
use super::{KEY_TILE, Variant};

/// Plain Rust.
#[derive(Clone, Copy)]
pub(super) struct Portable;

/// Cuts the first `len` elements off `scratch`.
fn take<'s>(scratch: &mut &'s mut [f32], len: usize) -> &'s mut [f32] {
    let (first, rest) = std::mem::take(scratch).split_at_mut(len);
    *scratch = rest;
    first
}

/// A row of a head, rotated by the position of `slot`.
///
/// # Safety
/// Nobody writes the operands.
unsafe fn load_rotated(inputs: &Inputs, view: &View, row: usize, slot: usize, head: usize, out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe {
        load(view, inputs.elements(row, head), out);
        let [sin, cos] = inputs.angles(slot);
        super::super::Portable.rotate(out, 1, sin, cos, 1.0, &mut []);
    }
}

/// Keys, rotated, and values of a unit.
///
/// # Safety
/// Nobody writes the operands.
unsafe fn load_keys(inputs: &Inputs, unit: &Unit, keys: usize, k: &mut [f32], v: &mut [f32]) {
    let rows = k.chunks_exact_mut(inputs.lanes).zip(v.chunks_exact_mut(inputs.lanes)).take(keys);
    for (slot, (k, v)) in (unit.slots.start..).zip(rows) {
        // SAFETY: the caller's promise.
        unsafe {
            load_rotated(inputs, &inputs.k, slot, slot, unit.head, k);
            load(&inputs.v, inputs.elements(slot, unit.head), v);
        }
    }
}

/// Largest score, sum of exponentials, and the sum that they weight.
struct Online<'s> {
    max: f32,
    sum: f32,
    mixed: &'s mut [f32],
}

impl Online<'_> {
    /// Adds a tile of scores and of values.
    fn add(&mut self, s: &[f32], v: &[f32]) {
        let max = s.iter().copied().fold(self.max, f32::max);
        let factor = libm::expf(self.max - max);
        self.sum *= factor;
        self.mixed.iter_mut().for_each(|mixed| *mixed *= factor);
        for (s, v) in s.iter().zip(v.chunks_exact(self.mixed.len())) {
            let p = libm::expf(s - max);
            self.sum += p;
            add_scaled(self.mixed, p, v);
        }
        self.max = max;
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sum = [0.0];
    scores_row(a, b, 0, &mut sum);
    sum[0]
}

impl Variant for Portable {
    const QUERY_TILE: usize = 1;

    /// Keys, values, a query, a sum, a tile of scores.
    fn forward_scratch(self, call: &Forward, _queries: usize) -> usize {
        (2 * call.inputs.window + 2) * call.inputs.lanes + KEY_TILE
    }

    unsafe fn forward(self, call: &Forward, unit: &Unit, mut scratch: &mut [f32]) {
        let (inputs, lanes) = (&call.inputs, call.inputs.lanes);
        let mut part = |len| take(&mut scratch, len);
        let (k, v) = (part(inputs.window * lanes), part(inputs.window * lanes));
        let (q, mixed, s) = (part(lanes), part(lanes), part(KEY_TILE));
        // SAFETY: the caller's promises.
        unsafe {
            let reach = |row| inputs.slot(row) - unit.slots.start + 1;
            load_keys(inputs, unit, reach(unit.rows.end - 1), k, v);
            for row in unit.rows.clone() {
                load_rotated(inputs, &inputs.q, row, inputs.slot(row), unit.head, q);
                mixed.fill(0.0);
                let mut online = Online { max: f32::NEG_INFINITY, sum: 0.0, mixed };
                let keys = reach(row) * lanes;
                for (k, v) in k[..keys].chunks(KEY_TILE * lanes).zip(v[..keys].chunks(KEY_TILE * lanes)) {
                    let s = &mut s[..k.len() / lanes];
                    scores_row(q, k, lanes, s);
                    s.iter_mut().for_each(|s| *s *= inputs.scale);
                    online.add(s, v);
                }
                let (max, sum) = (online.max, online.sum);
                mixed.iter_mut().for_each(|mixed| *mixed /= sum);
                store(mixed, &call.o, inputs.elements(row, unit.head));
                let at = row * inputs.heads + unit.head;
                call.lse.write::<f32>(at..at + 1)[0] = max + libm::logf(sum);
            }
        }
    }

    /// Keys, values and their gradients; a query, its gradient, the output's, and the output.
    fn backward_scratch(self, call: &Backward) -> usize {
        (4 * call.inputs.window + 4) * call.inputs.lanes
    }

    unsafe fn backward(self, call: &Backward, unit: &Unit, mut scratch: &mut [f32]) {
        let (inputs, lanes) = (&call.inputs, call.inputs.lanes);
        let mut part = |rows| take(&mut scratch, rows * lanes);
        let (k, v) = (part(inputs.window), part(inputs.window));
        let (dk, dv) = (part(unit.slots.len()), part(unit.slots.len()));
        let (q, dq, of_output, o) = (part(1), part(1), part(1), part(1));
        dk.fill(0.0);
        dv.fill(0.0);
        // SAFETY: the caller's promises.
        unsafe {
            load_keys(inputs, unit, unit.slots.len(), k, v);
            for row in unit.rows.clone() {
                let (slot, here) = (inputs.slot(row), inputs.elements(row, unit.head));
                load_rotated(inputs, &inputs.q, row, slot, unit.head, q);
                load(&call.output_grad, here.clone(), of_output);
                load(&call.o, here.clone(), o);
                let (at, delta) = (row * inputs.heads + unit.head, dot(of_output, o));
                let lse = call.lse.read::<f32>(at..at + 1)[0];
                dq.fill(0.0);
                for at in (0..=slot - unit.slots.start).map(|key| key * lanes..(key + 1) * lanes) {
                    let p = libm::expf(dot(q, &k[at.clone()]) * inputs.scale - lse);
                    let ds = p * (dot(of_output, &v[at.clone()]) - delta) * inputs.scale;
                    add_scaled(&mut dv[at.clone()], p, of_output);
                    add_scaled(dq, ds, &k[at.clone()]);
                    add_scaled(&mut dk[at], ds, q);
                }
                if let Some(view) = &call.dq {
                    store_rotated_back(inputs, dq, view, row, slot, unit.head);
                }
            }
            let keys = unit.slots.clone().zip(dk.chunks_exact_mut(lanes).zip(dv.chunks_exact(lanes)));
            for (slot, (dk, dv)) in keys {
                if let Some(view) = &call.dk {
                    store_rotated_back(inputs, dk, view, slot, slot, unit.head);
                }
                if let Some(view) = &call.dv {
                    store(dv, view, inputs.elements(slot, unit.head));
                }
            }
        }
    }
}

/// Writes a row of a head, rotated back by the position of `slot`.
///
/// # Safety
/// Nobody writes the operands, and the row of the head is the caller's own.
unsafe fn store_rotated_back(
    inputs: &Inputs,
    x: &mut [f32],
    view: &View,
    row: usize,
    slot: usize,
    head: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let [sin, cos] = inputs.angles(slot);
        super::super::Portable.rotate(x, 1, sin, cos, -1.0, &mut []);
        store(x, view, inputs.elements(row, head));
    }
}
