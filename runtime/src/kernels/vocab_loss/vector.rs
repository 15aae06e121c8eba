//! The loss by vector instructions: both products by the matrix product's core, cross entropy row by row.
//!
//! # Numerics
//! The products' chains are the core's (see there); a gradient of the logits that is rounded to bf16 is multiplied as such.

use super::super::cross_entropy::CrossEntropy;
use super::super::elementwise::Elementwise;
use super::super::gemm::{Elements, Engine, Finish, Form, Left, Right, Term, scratch_elements, with_simd};
use super::super::matmul::vector::{StoreRows, engine, matrix};
use super::super::simd::slices::map;
use super::super::simd::{LANES, Simd};
use super::super::{Call, Kernel, KernelError};
use super::{Part, VocabLoss};
use gptjc_graphs::dtype::DType::Bf16;
use gptjc_graphs::plan::Isa;
use gptjc_graphs::shape::Extents;
use half::bf16;
use std::ops::Range;

/// Binds `vocab_loss`.
///
/// # Errors
/// [`KernelError`] if there is no such variant, or it does not take the operands.
pub(in crate::kernels) fn bind(call: &Call, isa: Isa) -> Result<Box<dyn Kernel>, KernelError> {
    let bound = VocabLoss::new(call)?;
    call.check_float("h", &bound.h)?;
    call.check_float("w", &bound.w)?;
    let of_left = bound.h.ty().dtype == Bf16 || (bound.dh.is_some() && bound.dtype == Bf16);
    let engine = engine(call, isa, of_left && bound.w.ty().dtype == Bf16)?;
    let kernel: Box<dyn Kernel> = with_simd!(engine, simd => Box::new(Vector { engine, simd, bound }));
    Ok(kernel)
}

struct Vector<S> {
    engine: Engine,
    simd: S,
    bound: VocabLoss,
}

impl<S: Simd> Kernel for Vector<S> {
    fn phases(&self, extents: &Extents) -> usize {
        self.bound.phases(extents)
    }

    fn tiles(&self, phase: usize, extents: &Extents) -> usize {
        self.bound.tiles(phase, extents)
    }

    fn row_tiles(&self, phase: usize, extents: &Extents) -> Option<usize> {
        self.bound.row_tiles(phase, extents)
    }

    fn scratch(&self) -> usize {
        let columns = self.bound.vocabulary.max(self.bound.width);
        scratch_elements(self.bound.blocks.rows, self.bound.blocks.most_columns(columns))
    }

    unsafe fn run_tile(&self, phase: usize, tile: usize, extents: &Extents, scratch: &mut [f32]) {
        // SAFETY: the promises of `run_tile`, which are those of each part.
        unsafe {
            match self.bound.tile(phase, tile, extents) {
                Part::Logits(rows, columns) => self.logits(rows, columns, scratch),
                Part::Loss(row) => self.loss(row),
                Part::Gradient(rows, columns) => self.gradient(rows, columns, scratch),
            }
        }
    }
}

impl<S: Simd> Vector<S> {
    /// # Safety
    /// As for [`Kernel::run_tile`]; rows and columns of the workspace are the tile's own.
    unsafe fn logits(&self, rows: Range<usize>, columns: Range<usize>, scratch: &mut [f32]) {
        let bound = &self.bound;
        let (width, vocabulary) = (bound.width, bound.vocabulary);
        // SAFETY: the caller's promise.
        let term = unsafe {
            let left = Left::rows(matrix(&bound.h, rows.end * width), width);
            let right =
                Right { elements: matrix(&bound.w, vocabulary * width), stride: width, form: Form::Nt };
            Term { left, right, inner: width }
        };
        let finish = FinishLogits { simd: self.simd, bound };
        self.engine.run(&[term], rows, columns, &finish, scratch);
    }

    /// # Safety
    /// As for [`Kernel::run_tile`]; the row of the workspace and of the loss is the tile's own.
    unsafe fn loss(&self, row: usize) {
        let (bound, simd) = (&self.bound, self.simd);
        let first = bound.logits_of(row);
        // SAFETY: the caller's promise.
        unsafe {
            let logits = bound.logits.write::<f32>(first..first + bound.vocabulary);
            let label = bound.labels.read::<i32>(row..row + 1)[0] as usize;
            let (nll, lse) = simd.loss(logits, label);
            bound.nll.store(row, &[nll]);
            if bound.dh.is_some() {
                simd.gradient(logits, label, lse, 1.0);
                if bound.dtype == Bf16 {
                    round_to_bf16(simd, logits);
                }
            }
        }
    }

    /// # Safety
    /// As for [`Kernel::run_tile`]; rows and columns of `dh` are the tile's own.
    unsafe fn gradient(&self, rows: Range<usize>, columns: Range<usize>, scratch: &mut [f32]) {
        let bound = &self.bound;
        let Some(dh) = &bound.dh else { return };
        let (width, vocabulary) = (bound.width, bound.vocabulary);
        let first = bound.logits_of(rows.start);
        // SAFETY: the caller's promise; nobody writes the workspace in this phase.
        let term = unsafe {
            let dlogits = bound.logits.read::<f32>(first..first + rows.len() * vocabulary);
            let left = Left::rows(Elements::F32(dlogits), vocabulary);
            let right =
                Right { elements: matrix(&bound.w, vocabulary * width), stride: width, form: Form::Nn };
            Term { left: Left { rounded: bound.dtype == Bf16, ..left }, right, inner: vocabulary }
        };
        let store = StoreRows { y: dh, columns: width, first: rows.start };
        self.engine.run(&[term], 0..rows.len(), columns, &store, scratch);
    }
}

/// Adds the bias and stores the logits.
struct FinishLogits<'b, S> {
    simd: S,
    bound: &'b VocabLoss,
}

impl<S: Simd> Finish for FinishLogits<'_, S> {
    fn finish(&self, row: usize, column: usize, sums: &mut [f32]) {
        // SAFETY: made by `run_tile` only, which gives the rows and columns of its tile.
        unsafe {
            self.simd.add_assign(sums, self.bound.bias.read(column..column + sums.len()));
            self.bound.logits.store(self.bound.logits_of(row) + column, sums);
        }
    }
}

/// Every number as bf16 holds it.
fn round_to_bf16<S: Simd>(simd: S, numbers: &mut [f32]) {
    simd.call(
        #[inline(always)]
        || {
            map(
                simd,
                numbers,
                #[inline(always)]
                |x| {
                    let mut rounded = [bf16::ZERO; LANES];
                    simd.store_bf16(x, &mut rounded);
                    simd.load_bf16(&rounded)
                },
            );
        },
    );
}
