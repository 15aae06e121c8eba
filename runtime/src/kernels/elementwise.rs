//! Sums, bias, scaling, casts and constants, element by element.
//!
//! # Numerics
//! One rounding an element: all variants give the same bits. # Cost: each operand is read and each result written once.

use super::rowwise::{RowKernel, elements, portions};
use super::simd::Simd;
use super::simd::slices::{map, map_from, map_with};
use super::{Call, Element, Kernel, KernelError, Portable, View};
use gptjc_graphs::dtype::DType::{Bf16, F32, I32};
use gptjc_graphs::shape::Dim;
use half::bf16;

/// `y += a`.
pub fn add_assign(y: &mut [f32], a: &[f32]) {
    for (y, a) in y.iter_mut().zip(a) {
        *y += a;
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

/// What the kernels of this file do to slices of equal length.
pub(crate) trait Elementwise: Copy + Send + Sync + 'static {
    /// `y += a`.
    fn add_assign(self, y: &mut [f32], a: &[f32]);
    /// `y *= factor`.
    fn scale_assign(self, y: &mut [f32], factor: f32);
    /// Rounds to bf16, nearest even.
    fn narrow(self, x: &[f32], y: &mut [bf16]);
    /// Widens to f32, exactly.
    fn widen(self, x: &[bf16], y: &mut [f32]);
}

impl Elementwise for Portable {
    fn add_assign(self, y: &mut [f32], a: &[f32]) {
        add_assign(y, a);
    }

    fn scale_assign(self, y: &mut [f32], factor: f32) {
        scale_assign(y, factor);
    }

    fn narrow(self, x: &[f32], y: &mut [bf16]) {
        narrow(x, y);
    }

    fn widen(self, x: &[bf16], y: &mut [f32]) {
        widen(x, y);
    }
}

/// The same bits as the portable ones.
impl<S: Simd> Elementwise for S {
    fn add_assign(self, y: &mut [f32], a: &[f32]) {
        self.call(
            #[inline(always)]
            || {
                map_with(
                    self,
                    y,
                    a,
                    #[inline(always)]
                    |y, a| self.add(y, a),
                )
            },
        );
    }

    fn scale_assign(self, y: &mut [f32], factor: f32) {
        self.call(
            #[inline(always)]
            || {
                map(
                    self,
                    y,
                    #[inline(always)]
                    |y| self.mul(y, self.splat(factor)),
                )
            },
        );
    }

    fn narrow(self, x: &[f32], y: &mut [bf16]) {
        self.call(
            #[inline(always)]
            || {
                map_from(
                    self,
                    x,
                    y,
                    #[inline(always)]
                    |x| x,
                )
            },
        );
    }

    fn widen(self, x: &[bf16], y: &mut [f32]) {
        self.call(
            #[inline(always)]
            || {
                map_from(
                    self,
                    x,
                    y,
                    #[inline(always)]
                    |x| x,
                )
            },
        );
    }
}

/// The dimension whose rows are cut into tiles; of a tensor of rank 0, one row.
pub(super) fn leading(view: &View) -> Dim {
    view.ty().dims.first().copied().unwrap_or(Dim::fixed(1))
}

pub(super) fn bind_add(call: &Call, arithmetic: impl Elementwise) -> Result<Box<dyn Kernel>, KernelError> {
    let ([a, b], [y]) = call.views([F32, F32], [F32])?;
    let width = y.row_elements();
    Ok(RowKernel::boxed(leading(&y), call.partition.rows, move |rows, _, _| {
        // Where `y` lies over an operand, no slice of that operand is made.
        let (first, second) = if y.same_place(&b) { (&b, &a) } else { (&a, &b) };
        for range in portions(elements(&rows, width)) {
            // SAFETY: the promises of `run_tile`: rows of `y` are this tile's own, operands are not written by others.
            unsafe { arithmetic.add_assign(start_from(first, &y, range.clone()), second.read(range)) }
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

/// Reads as many numbers as `row` has from element `start` of `x` on, widened.
///
/// # Safety
/// As for [`View::load`].
pub(super) unsafe fn load_row(arithmetic: impl Elementwise, x: &View, start: usize, row: &mut [f32]) {
    let range = start..start + row.len();
    // SAFETY: the caller's promise.
    unsafe {
        match x.ty().dtype {
            Bf16 => arithmetic.widen(x.read(range), row),
            F32 | I32 => row.copy_from_slice(x.read(range)),
        }
    }
}

/// Writes `row` from element `start` of `y` on, rounded to its type.
///
/// # Safety
/// As for [`View::store`].
pub(super) unsafe fn store_row(arithmetic: impl Elementwise, y: &View, start: usize, row: &[f32]) {
    let range = start..start + row.len();
    // SAFETY: the caller's promise.
    unsafe {
        match y.ty().dtype {
            Bf16 => arithmetic.narrow(row, y.write(range)),
            F32 | I32 => y.write(range).copy_from_slice(row),
        }
    }
}

pub(super) fn bind_bias_add(
    call: &Call,
    arithmetic: impl Elementwise,
) -> Result<Box<dyn Kernel>, KernelError> {
    let ([x, bias], [y]) = call.views([F32, F32], [F32])?;
    let width = y.row_elements();
    Ok(RowKernel::boxed(leading(&y), call.partition.rows, move |rows, _, _| {
        for row in rows {
            // SAFETY: the promises of `run_tile`.
            unsafe {
                let out = start_from(&x, &y, row * width..(row + 1) * width);
                arithmetic.add_assign(out, bias.read(0..width));
            }
        }
    }))
}

pub(super) fn bind_scale(call: &Call, arithmetic: impl Elementwise) -> Result<Box<dyn Kernel>, KernelError> {
    let ([x], [y]) = call.views([F32], [F32])?;
    let (width, factor) = (y.row_elements(), call.float("factor")? as f32);
    Ok(RowKernel::boxed(leading(&y), call.partition.rows, move |rows, _, _| {
        for range in portions(elements(&rows, width)) {
            // SAFETY: the promises of `run_tile`.
            unsafe { arithmetic.scale_assign(start_from(&x, &y, range), factor) }
        }
    }))
}

pub(super) fn bind_cast(call: &Call, arithmetic: impl Elementwise) -> Result<Box<dyn Kernel>, KernelError> {
    let ([x], [y]) = (call.operands()?, call.results()?);
    let (width, rows_of_tile) = (y.row_elements(), call.partition.rows);
    let dim = leading(&y);
    match (x.ty().dtype, y.ty().dtype) {
        (F32, Bf16) => Ok(RowKernel::boxed(dim, rows_of_tile, move |rows, _, _| {
            let range = elements(&rows, width);
            // SAFETY: the promises of `run_tile`.
            unsafe { arithmetic.narrow(x.read(range.clone()), y.write(range)) }
        })),
        (Bf16, F32) => Ok(RowKernel::boxed(dim, rows_of_tile, move |rows, _, _| {
            let range = elements(&rows, width);
            // SAFETY: the promises of `run_tile`.
            unsafe { arithmetic.widen(x.read(range.clone()), y.write(range)) }
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
            relative(&Case::new(ops::Add, extents, vec![a.clone(), b]).tile(rows, 0).vector(), U);
            relative(&Case::new(ops::BiasAdd, extents, vec![a.clone(), bias]).tile(rows, 0).vector(), U);
            // The constant is rounded to f32 as well.
            relative(&Case::new(ops::Scale { factor }, extents, vec![a.clone()]).tile(rows, 0).vector(), 2.0 * U);
            relative(&Case::new(ops::Fill { value: factor }, extents, vec![a]).tile(rows, 0).vector(), U);
        }

        #[test]
        fn casts_round_to_even_and_widen_exactly(seed: u64, width in 1usize..35, rows in 1u32..9) {
            let mut batch = Batch::new(seed, 7);
            let dims = [batch.slots(), width.into()];
            let (wide, narrow) = (batch.f32(&dims), batch.float(Bf16, &dims));
            let extents = batch.extents();
            Case::new(ops::Cast { dtype: Bf16 }, extents, vec![wide]).tile(rows, 0).vector().check_exact();
            Case::new(ops::Cast { dtype: F32 }, extents, vec![narrow]).tile(rows, 0).vector().check_exact();
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
