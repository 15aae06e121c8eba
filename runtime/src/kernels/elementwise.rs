//! Sums, bias, scaling, casts and constants, element by element.
//!
//! # Numerics
//! One rounding an element. # Cost: each operand is read and each result written once.

use super::rowwise::{RowKernel, elements};
use super::{Call, Element, Kernel, KernelError, View};
use gptjc_graphs::dtype::DType::{Bf16, F32};
use gptjc_graphs::shape::Dim;
use half::bf16;

/// `y = a + b`.
pub fn add(a: &[f32], b: &[f32], y: &mut [f32]) {
    for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
        *y = a + b;
    }
}

/// `y += a`.
pub fn add_assign(y: &mut [f32], a: &[f32]) {
    for (y, a) in y.iter_mut().zip(a) {
        *y += a;
    }
}

/// Adds `bias[N]` to each row of `y[M, N]`.
pub fn bias_add_assign(y: &mut [f32], bias: &[f32]) {
    for row in y.chunks_exact_mut(bias.len()) {
        add_assign(row, bias);
    }
}

/// `y *= factor`.
pub fn scale_assign(y: &mut [f32], factor: f32) {
    for y in y {
        *y *= factor;
    }
}

/// Rounds to bf16, nearest even.
pub fn narrow(x: &[f32], y: &mut [bf16]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = bf16::from_f32(*x);
    }
}

/// Widens to f32, exactly.
pub fn widen(x: &[bf16], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = x.to_f32();
    }
}

/// The dimension whose rows are cut into tiles; of a tensor of rank 0, one row.
pub(super) fn leading(view: &View) -> Dim {
    view.ty().dims.first().copied().unwrap_or(Dim::fixed(1))
}

pub(super) fn bind_add(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([a, b], [y]) = call.views([F32, F32], [F32])?;
    let width = y.row_elements();
    Ok(RowKernel::boxed(leading(&y), call.partition.rows, move |rows, _, _| {
        let range = elements(&rows, width);
        // SAFETY: the promises of `run_tile`: rows of `y` are this tile's own, operands are not written by others. Where `y`
        // lies over an operand, no slice of that operand is made.
        unsafe {
            let out = y.write::<f32>(range.clone());
            if y.same_place(&a) {
                add_assign(out, b.read(range));
            } else if y.same_place(&b) {
                add_assign(out, a.read(range));
            } else {
                add(a.read(range.clone()), b.read(range), out);
            }
        }
    }))
}

/// Makes `y`'s elements in `range` those of `x`, unless they are the same memory.
///
/// # Safety
/// As for [`View::read`] of `x` and [`View::write`] of `y`.
#[allow(clippy::mut_from_ref, reason = "the exclusive access is the caller's promise, as for `View::write`")]
pub(super) unsafe fn start_from<'v, T: Element>(
    x: &View,
    y: &'v View,
    range: std::ops::Range<usize>,
) -> &'v mut [T] {
    // SAFETY: the caller's promise; a slice of `x` is only made where `x` is other memory than `y`.
    unsafe {
        let out = y.write::<T>(range.clone());
        if !y.same_place(x) {
            out.copy_from_slice(x.read(range));
        }
        out
    }
}

pub(super) fn bind_bias_add(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([x, bias], [y]) = call.views([F32, F32], [F32])?;
    let width = y.row_elements();
    Ok(RowKernel::boxed(leading(&y), call.partition.rows, move |rows, _, _| {
        // SAFETY: the promises of `run_tile`.
        unsafe { bias_add_assign(start_from(&x, &y, elements(&rows, width)), bias.read(0..width)) }
    }))
}

pub(super) fn bind_scale(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([x], [y]) = call.views([F32], [F32])?;
    let (width, factor) = (y.row_elements(), call.float("factor")? as f32);
    Ok(RowKernel::boxed(leading(&y), call.partition.rows, move |rows, _, _| {
        // SAFETY: the promises of `run_tile`.
        unsafe { scale_assign(start_from(&x, &y, elements(&rows, width)), factor) }
    }))
}

pub(super) fn bind_cast(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([x], [y]) = (call.operands()?, call.results()?);
    let (width, rows_of_tile) = (y.row_elements(), call.partition.rows);
    let dim = leading(&y);
    match (x.ty().dtype, y.ty().dtype) {
        (F32, Bf16) => Ok(RowKernel::boxed(dim, rows_of_tile, move |rows, _, _| {
            let range = elements(&rows, width);
            // SAFETY: the promises of `run_tile`.
            unsafe { narrow(x.read(range.clone()), y.write(range)) }
        })),
        (Bf16, F32) => Ok(RowKernel::boxed(dim, rows_of_tile, move |rows, _, _| {
            let range = elements(&rows, width);
            // SAFETY: the promises of `run_tile`.
            unsafe { widen(x.read(range.clone()), y.write(range)) }
        })),
        (from, to) => Err(call.refuse(format!("a cast from {from} to {to}"))),
    }
}

pub(super) fn bind_fill(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([_like], [y]) = call.views([F32], [F32])?;
    let (width, value) = (y.row_elements(), call.float("value")? as f32);
    Ok(RowKernel::boxed(leading(&y), call.partition.rows, move |rows, _, _| {
        // SAFETY: the promises of `run_tile`.
        unsafe { y.write::<f32>(elements(&rows, width)) }.fill(value);
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Batch, Case, U, few, round_bf16};
    use super::*;
    use gptjc_graphs::ops::elementwise as ops;
    use proptest::prelude::*;

    fn relative(case: &Case, factor: f64) {
        case.check(|_, expected| vec![expected[0].iter().map(|y| factor * y.abs()).collect()]);
    }

    proptest! {
        #![proptest_config(few())]

        #[test]
        fn sums_and_products_are_rounded_once(seed: u64, width in 1usize..35, rows in 1u32..9, factor in -3.0f64..3.0) {
            let mut batch = Batch::new(seed, 7);
            let dims = [batch.slots(), width.into()];
            let (a, b, bias) = (batch.f32(&dims), batch.f32(&dims), batch.f32(&dims[1..]));
            let extents = batch.extents();
            relative(&Case::new(ops::Add, extents, vec![a.clone(), b]).tile(rows, 0), U);
            relative(&Case::new(ops::BiasAdd, extents, vec![a.clone(), bias]).tile(rows, 0), U);
            // The constant is rounded to f32 as well.
            relative(&Case::new(ops::Scale { factor }, extents, vec![a.clone()]).tile(rows, 0), 2.0 * U);
            relative(&Case::new(ops::Fill { value: factor }, extents, vec![a]).tile(rows, 0), U);
        }

        #[test]
        fn casts_round_to_even_and_widen_exactly(seed: u64, width in 1usize..35, rows in 1u32..9) {
            let mut batch = Batch::new(seed, 7);
            let dims = [batch.slots(), width.into()];
            let (wide, narrow) = (batch.f32(&dims), batch.float(Bf16, &dims));
            let extents = batch.extents();
            Case::new(ops::Cast { dtype: Bf16 }, extents, vec![wide]).tile(rows, 0).check_exact();
            Case::new(ops::Cast { dtype: F32 }, extents, vec![narrow]).tile(rows, 0).check_exact();
        }
    }

    #[test]
    fn ties_are_rounded_to_even() {
        // 1 + 2^-8 lies between 1 and 1 + 2^-7, 1 + 3 * 2^-8 between 1 + 2^-7 and 1 + 2^-6.
        let mut rounded = [bf16::ZERO; 2];
        narrow(&[1.0 + 2f32.powi(-8), 1.0 + 3.0 * 2f32.powi(-8)], &mut rounded);
        assert_eq!(rounded.map(|x| x.to_f64()), [1.0, 1.0 + 2f64.powi(-6)]);
        assert_eq!(round_bf16(1.0 + 2f64.powi(-8)), 1.0);
    }

    #[test]
    fn a_scalar_is_one_row() {
        let batch = Batch::new(1, 4);
        let number = |x: f64| Batch::given(&[], &[], vec![x]);
        relative(&Case::new(ops::Add, batch.extents(), vec![number(0.1), number(0.7)]), U);
    }
}
