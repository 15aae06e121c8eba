//! Products by vector instructions: the core of [`gemm`](super::super::gemm), with what each op adds around it.
//!
//! # Numerics
//! One chain of fused multiply-adds for each element, ascending; of two bf16 factors, with AVX512-BF16 and AMX, the
//! instruction's chain of pairs.

use super::super::blocks::Blocks;
use super::super::elementwise::leading;
use super::super::gemm::{Elements, Engine, Finish, Form, Left, Right, Term, scratch_elements};
use super::super::rowwise::{elements, table_range};
use super::super::{Call, Kernel, KernelError, View};
use super::{Layout, matmul_layout};
use gptjc_graphs::dtype::DType::{Bf16, F32, I32};
use gptjc_graphs::plan::Isa;
use gptjc_graphs::shape::Extents;
use half::bf16;
use std::ops::Range;

/// The engine of an instruction set; `pairs` says whether the kernel multiplies bf16 by bf16, the only thing that
/// instruction sets with pairs do otherwise.
///
/// # Errors
/// [`KernelError`] if this CPU lacks it, or there is no such variant.
pub(in crate::kernels) fn engine(call: &Call, isa: Isa, pairs: bool) -> Result<Engine, KernelError> {
    if isa >= Isa::Avx512Bf16 && !pairs {
        return Err(KernelError::Unknown(call.kernel.clone()));
    }
    Engine::of(isa).ok_or_else(|| KernelError::Isa { kernel: call.kernel.clone(), isa })
}

/// The first `count` elements of a matrix of floating-point numbers.
///
/// # Safety
/// Nobody writes them while they are used.
///
/// # Panics
/// If the view is of integers or has fewer.
pub(in crate::kernels) unsafe fn matrix(view: &View, count: usize) -> Elements<'_> {
    // SAFETY: the caller's promise.
    unsafe {
        match view.ty().dtype {
            Bf16 => Elements::Bf16(view.read::<bf16>(0..count)),
            F32 | I32 => Elements::F32(view.read::<f32>(0..count)),
        }
    }
}

/// Stores rows of sums in a matrix.
pub(in crate::kernels) struct StoreRows<'v> {
    /// The matrix.
    pub(in crate::kernels) y: &'v View,
    /// Its columns.
    pub(in crate::kernels) columns: usize,
    /// Row of the matrix that the product's first is.
    pub(in crate::kernels) first: usize,
}

impl Finish for StoreRows<'_> {
    fn finish(&self, row: usize, column: usize, sums: &mut [f32]) {
        // SAFETY: made by `run_tile` only, which gives the rows and columns of its tile.
        unsafe { self.y.store((self.first + row) * self.columns + column, sums) }
    }
}

struct Matmul {
    engine: Engine,
    a: View,
    b: View,
    y: View,
    layout: Layout,
    blocks: Blocks,
}

impl Kernel for Matmul {
    fn tiles(&self, _phase: usize, extents: &Extents) -> usize {
        self.blocks.count(extents.of(leading(&self.y)), self.layout.columns)
    }

    fn row_tiles(&self, _phase: usize, extents: &Extents) -> Option<usize> {
        Some(self.blocks.row_tiles(extents.of(leading(&self.y))))
    }

    fn scratch(&self) -> usize {
        scratch_elements(self.blocks.rows, self.blocks.most_columns(self.layout.columns))
    }

    unsafe fn run_tile(&self, _phase: usize, tile: usize, extents: &Extents, scratch: &mut [f32]) {
        let used = extents.of(leading(&self.y));
        let (rows, columns) = self.blocks.tile(tile, used, self.layout.columns);
        let Layout { inner, columns: all_columns, transposed } = self.layout;
        let (form, stride) = if transposed { (Form::Nt, inner) } else { (Form::Nn, all_columns) };
        // SAFETY: the promises of `run_tile`: operands are not written, rows and columns of `y` are this tile's own.
        let term = unsafe {
            let left = Left::rows(matrix(&self.a, used * inner), inner);
            let right = Right { elements: matrix(&self.b, self.b.ty().elements()), stride, form };
            Term { left, right, inner }
        };
        let store = StoreRows { y: &self.y, columns: all_columns, first: 0 };
        self.engine.run(&[term], rows, columns, &store, scratch);
    }
}

/// Binds `matmul`.
///
/// # Errors
/// [`KernelError`] if there is no such variant, or it does not take the operands.
pub(in crate::kernels) fn bind_matmul(call: &Call, isa: Isa) -> Result<Box<dyn Kernel>, KernelError> {
    let ([a, b], [y]) = (call.operands()?, call.results()?);
    call.check_float("left operand", &a)?;
    call.check_float("right operand", &b)?;
    call.check_type("result", &y, F32)?;
    let engine = engine(call, isa, (a.ty().dtype, b.ty().dtype) == (Bf16, Bf16))?;
    let layout = matmul_layout(call, &a, &b)?;
    let blocks = Blocks::new(call.partition, leading(&y).bound);
    Ok(Box::new(Matmul { engine, a, b, y, layout, blocks }))
}

struct WindowMatmul {
    engine: Engine,
    y: View,
    x: View,
    table: View,
    gradient: View,
    blocks: Blocks,
}

impl WindowMatmul {
    fn sizes(&self) -> (usize, usize) {
        (self.y.row_elements(), self.x.row_elements())
    }
}

impl Kernel for WindowMatmul {
    fn tiles(&self, _phase: usize, extents: &Extents) -> usize {
        let (n, k) = self.sizes();
        extents.windows * self.blocks.count(n, k)
    }

    fn scratch(&self) -> usize {
        scratch_elements(self.blocks.rows, self.blocks.most_columns(self.sizes().1))
    }

    unsafe fn run_tile(&self, _phase: usize, tile: usize, _extents: &Extents, scratch: &mut [f32]) {
        let (n, k) = self.sizes();
        let count = self.blocks.count(n, k);
        let (window, (rows, columns)) = (tile / count, self.blocks.tile(tile % count, n, k));
        // SAFETY: the promises of `run_tile`: operands are not written, rows and columns of the window's gradient are this
        // tile's own.
        let (y, x): (&[f32], &[f32]) = unsafe {
            let slots: Range<usize> = table_range(self.table.read_to(2 * window + 2), window);
            (self.y.read(elements(&slots, n)), self.x.read(elements(&slots, k)))
        };
        let inner = y.len().checked_div(n).unwrap_or(0);
        // The window's tokens are summed: rows of both operands.
        let left = Left { transposed: true, ..Left::rows(Elements::F32(y), n) };
        let right = Right { elements: Elements::F32(x), stride: k, form: Form::Nn };
        let store = StoreRows { y: &self.gradient, columns: k, first: window * n };
        self.engine.run(&[Term { left, right, inner }], rows, columns, &store, scratch);
    }
}

/// Binds `window_matmul`.
///
/// # Errors
/// [`KernelError`] if there is no such variant, or it does not take the operands.
pub(in crate::kernels) fn bind_window(call: &Call, isa: Isa) -> Result<Box<dyn Kernel>, KernelError> {
    let ([y, x, table], [gradient]) = call.views([F32, F32, I32], [F32])?;
    let engine = engine(call, isa, false)?;
    let blocks = Blocks::new(call.partition, y.row_elements());
    Ok(Box::new(WindowMatmul { engine, y, x, table, gradient, blocks }))
}
