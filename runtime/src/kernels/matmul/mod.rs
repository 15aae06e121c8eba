//! Matrix products: projections, their input gradients, and weight gradients per window.
//!
//! # Numerics
//! An output is one chain of multiply and add in ascending order of the summed index, whatever the tiles and blocks
//! are: a block of the sum starts from the f32 partial result of the block before.

pub(super) mod portable;
pub(super) mod vector;

use super::blocks::Blocks;
use super::elementwise::leading;
use super::rowwise::{elements, table_range};
use super::{Call, Element, Kernel, KernelError, View, tile_range};
use gptjc_graphs::dtype::DType::{F32, I32};
use gptjc_graphs::shape::Extents;
use half::bf16;
use portable::{Layout, PACKED, PANEL, accumulate, panels};
use std::marker::PhantomData;

/// An element that a product takes.
pub trait Factor: Element {
    /// The same number in f32.
    fn widen(self) -> f32;
}

impl Factor for f32 {
    fn widen(self) -> f32 {
        self
    }
}

impl Factor for bf16 {
    fn widen(self) -> f32 {
        self.to_f32()
    }
}

/// Binds `$make::<A, B>($arguments)` to the element types of the factors, or refuses the call.
macro_rules! with_factors {
    ($call:expr, $types:expr, $make:ident, $($argument:expr),+) => {{
        use gptjc_graphs::dtype::DType::{Bf16, F32};
        match $types {
            (F32, F32) => $make::<f32, f32>($($argument),+),
            (F32, Bf16) => $make::<f32, half::bf16>($($argument),+),
            (Bf16, Bf16) => $make::<half::bf16, half::bf16>($($argument),+),
            (Bf16, F32) => $make::<half::bf16, f32>($($argument),+),
            (a, b) => Err($call.refuse(format!("a product of {a} and {b}"))),
        }
    }};
}
pub(super) use with_factors;

struct Matmul<A, B> {
    a: View,
    b: View,
    y: View,
    layout: Layout,
    blocks: Blocks,
    factors: PhantomData<(A, B)>,
}

impl<A: Factor, B: Factor> Kernel for Matmul<A, B> {
    fn tiles(&self, _phase: usize, extents: &Extents) -> usize {
        self.blocks.count(extents.of(leading(&self.y)), self.layout.columns)
    }

    fn row_tiles(&self, _phase: usize, extents: &Extents) -> Option<usize> {
        Some(self.blocks.row_tiles(extents.of(leading(&self.y))))
    }

    fn scratch(&self) -> usize {
        PACKED + self.blocks.rows * PANEL
    }

    unsafe fn run_tile(&self, _phase: usize, tile: usize, extents: &Extents, scratch: &mut [f32]) {
        let used = extents.of(leading(&self.y));
        let (rows, columns) = self.blocks.tile(tile, used, self.layout.columns);
        let (packed, sums) = scratch.split_at_mut(PACKED);
        let sums = &mut sums[..rows.len() * PANEL];
        // SAFETY: the promises of `run_tile`: rows and columns of `y` are this tile's own.
        unsafe {
            let a = self.a.read::<A>(elements(&rows, self.layout.inner));
            let b = self.b.read::<B>(0..self.b.ty().elements());
            for panel in panels(columns) {
                sums.fill(0.0);
                accumulate(a, b, self.layout, panel.clone(), sums, packed);
                for (row, sums) in rows.clone().zip(sums.chunks_exact(PANEL)) {
                    self.y.store(row * self.layout.columns + panel.start, &sums[..panel.len()]);
                }
            }
        }
    }
}

fn boxed<A: Factor, B: Factor>(call: &Call, layout: Layout) -> Result<Box<dyn Kernel>, KernelError> {
    let ([a, b], [y]) = call.views([A::DTYPE, B::DTYPE], [F32])?;
    let blocks = Blocks::new(call.partition, leading(&y).bound);
    Ok(Box::new(Matmul::<A, B> { a, b, y, layout, blocks, factors: PhantomData }))
}

/// Sizes and form of the product of `a` and `b`.
fn matmul_layout(call: &Call, a: &View, b: &View) -> Result<Layout, KernelError> {
    let (inner, transposed) = (a.row_elements(), call.word("form", "nt or nn")? == "nt");
    let columns = if transposed { b.ty().dims[0].bound } else { b.ty().dims[1].bound };
    Ok(Layout { inner, columns, transposed })
}

pub(super) fn bind_matmul(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let [a, b] = call.operands()?;
    let layout = matmul_layout(call, &a, &b)?;
    with_factors!(call, (a.ty().dtype, b.ty().dtype), boxed, call, layout)
}

/// `gradient[N, K] = yᵀ · x` over the rows of one window, for output rows `outputs` of N.
///
/// # Shapes
/// `y[M, N]`, `x[M, K]`, `gradient[outputs, K]`.
pub fn window_matmul(
    y: &[f32],
    x: &[f32],
    n: usize,
    k: usize,
    outputs: std::ops::Range<usize>,
    gradient: &mut [f32],
) {
    gradient.fill(0.0);
    for (y, x) in y.chunks_exact(n).zip(x.chunks_exact(k)) {
        for (&y, row) in y[outputs.clone()].iter().zip(gradient.chunks_exact_mut(k)) {
            for (element, x) in row.iter_mut().zip(x) {
                *element += y * x;
            }
        }
    }
}

struct WindowMatmul {
    y: View,
    x: View,
    table: View,
    gradient: View,
    tile_rows: usize,
}

impl WindowMatmul {
    fn blocks(&self) -> usize {
        self.y.row_elements().div_ceil(self.tile_rows)
    }
}

impl Kernel for WindowMatmul {
    fn tiles(&self, _phase: usize, extents: &Extents) -> usize {
        extents.windows * self.blocks()
    }

    fn scratch(&self) -> usize {
        0
    }

    unsafe fn run_tile(&self, _phase: usize, tile: usize, _extents: &Extents, _scratch: &mut [f32]) {
        let (n, k) = (self.y.row_elements(), self.x.row_elements());
        let (window, block) = (tile / self.blocks(), tile % self.blocks());
        let outputs = tile_range(block, self.tile_rows, n);
        // SAFETY: the promises of `run_tile`; output rows of a window are this tile's own.
        unsafe {
            let slots = table_range(self.table.read_to(2 * window + 2), window);
            let out = self.gradient.write((window * n + outputs.start) * k..(window * n + outputs.end) * k);
            let (y, x) = (self.y.read(elements(&slots, n)), self.x.read(elements(&slots, k)));
            window_matmul(y, x, n, k, outputs, out);
        }
    }
}

pub(super) fn bind_window(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let ([y, x, table], [gradient]) = call.views([F32, F32, I32], [F32])?;
    let tile_rows = call.partition.rows.max(1) as usize;
    Ok(Box::new(WindowMatmul { y, x, table, gradient, tile_rows }))
}

#[cfg(test)]
mod tests;
