//! Projections by vector instructions: chains of the matrix product's core, and what fusion adds row by row.
//!
//! # Numerics
//! Base and adapter of a projection are one chain of the core (see there), the lower half scaled as it is read. In the
//! gradient an adapter's product is a chain of fused multiply-adds of its own. What is added then is element-wise.

use super::super::dropout::MasksOfBatch;
use super::super::elementwise::{Elementwise, load_row, store_row};
use super::super::gelu::Gelu;
use super::super::gemm::{
    Engine, Finish, Form, Left, MOST_COLUMNS, Right, Term, scratch_elements, with_simd,
};
use super::super::matmul::vector::{engine, matrix};
use super::super::rowwise::elements;
use super::super::simd::Simd;
use super::super::simd::slices::map_with;
use super::super::{Call, Kernel, KernelError};
use super::{GradAdapter, Member, Projection, ProjectionGrad, Tile};
use gptjc_graphs::dtype::DType::Bf16;
use gptjc_graphs::layout::MAX_MEMBERS;
use gptjc_graphs::plan::Isa;
use gptjc_graphs::shape::Extents;

/// Binds `projection`.
///
/// # Errors
/// [`KernelError`] if there is no such variant, or it does not take the operands.
pub(in crate::kernels) fn bind_forward(call: &Call, isa: Isa) -> Result<Box<dyn Kernel>, KernelError> {
    let bound = Projection::new(call)?;
    call.check_float("x", &bound.x)?;
    bound.members.iter().try_for_each(|member| call.check_float("weight", &member.weight))?;
    let types = (bound.x.ty().dtype, bound.members[0].weight.ty().dtype);
    let engine = engine(call, isa, types == (Bf16, Bf16))?;
    let kernel: Box<dyn Kernel> = with_simd!(engine, simd => Box::new(Forward { engine, simd, bound }));
    Ok(kernel)
}

/// Binds `projection_grad`.
///
/// # Errors
/// [`KernelError`] if there is no such variant, or it does not take the operands.
pub(in crate::kernels) fn bind_grad(call: &Call, isa: Isa) -> Result<Box<dyn Kernel>, KernelError> {
    let bound = ProjectionGrad::new(call)?;
    bound.members.iter().try_for_each(|member| {
        call.check_float("dy", &member.dy)?;
        call.check_float("weight", &member.weight)
    })?;
    let types = (bound.members[0].dy.ty().dtype, bound.members[0].weight.ty().dtype);
    let engine = engine(call, isa, types == (Bf16, Bf16))?;
    let kernel: Box<dyn Kernel> = with_simd!(engine, simd => Box::new(Grad { engine, simd, bound }));
    Ok(kernel)
}

struct Forward<S> {
    engine: Engine,
    simd: S,
    bound: Projection,
}

impl<S: Simd> Kernel for Forward<S> {
    fn tiles(&self, _phase: usize, extents: &Extents) -> usize {
        self.bound.tiles(extents)
    }

    fn row_tiles(&self, _phase: usize, extents: &Extents) -> Option<usize> {
        Some(self.bound.blocks.row_tiles(self.bound.tokens(extents)))
    }

    fn scratch(&self) -> usize {
        let columns = self.bound.members.iter().map(|member| self.bound.blocks.most_columns(member.outputs));
        scratch_elements(self.bound.blocks.rows, columns.max().unwrap_or(0))
    }

    unsafe fn run_tile(&self, _phase: usize, tile: usize, extents: &Extents, scratch: &mut [f32]) {
        let bound = &self.bound;
        let Tile { member, rows, columns } = bound.tile(tile, extents);
        let (tokens, inputs, outputs) = (bound.tokens(extents), bound.inputs, member.outputs);
        // SAFETY: the promises of `run_tile`: operands are not written.
        let (base, adapter) = unsafe {
            let nt = |elements, stride| Right { elements, stride, form: Form::Nt };
            let left = Left::rows(matrix(&bound.x, tokens * inputs), inputs);
            let right = nt(matrix(&member.weight, outputs * inputs), inputs);
            let adapter = member.adapter.as_ref().map(|adapter| {
                let left = Left::rows(matrix(&adapter.low, tokens * adapter.rank), adapter.rank);
                let right = nt(matrix(&adapter.upper, outputs * adapter.rank), adapter.rank);
                Term { left: Left { scale: bound.scale, ..left }, right, inner: adapter.rank }
            });
            (Term { left, right, inner: inputs }, adapter)
        };
        let terms = [base, adapter.unwrap_or(base)];
        let used = 1 + usize::from(adapter.is_some());
        let finish = FinishForward { simd: self.simd, bound, member };
        self.engine.run(&terms[..used], rows, columns, &finish, scratch);
    }
}

/// Adds bias and residuals, takes the activation, and stores.
struct FinishForward<'b, S> {
    simd: S,
    bound: &'b Projection,
    member: &'b Member,
}

impl<S: Simd> Finish for FinishForward<'_, S> {
    fn finish(&self, row: usize, column: usize, sums: &mut [f32]) {
        let (member, simd) = (self.member, self.simd);
        let first = row * member.outputs + column;
        // SAFETY: made by `run_tile` only, which gives the rows and columns of its tile.
        unsafe {
            if let Some(bias) = &member.bias {
                simd.add_assign(sums, bias.read(column..column + sums.len()));
            }
            for residual in &self.bound.residuals {
                simd.add_assign(sums, residual.read(first..first + sums.len()));
            }
            store_row(simd, &member.y, first, sums);
            if let Some(activation) = &member.activation {
                simd.gelu(sums);
                store_row(simd, activation, first, sums);
            }
        }
    }
}

struct Grad<S> {
    engine: Engine,
    simd: S,
    bound: ProjectionGrad,
}

impl<S: Simd> Kernel for Grad<S> {
    fn tiles(&self, _phase: usize, extents: &Extents) -> usize {
        self.bound.blocks.count(extents.of(self.bound.tokens()), self.bound.inputs)
    }

    fn row_tiles(&self, _phase: usize, extents: &Extents) -> Option<usize> {
        Some(self.bound.blocks.row_tiles(extents.of(self.bound.tokens())))
    }

    fn scratch(&self) -> usize {
        scratch_elements(self.bound.blocks.rows, self.bound.blocks.most_columns(self.bound.inputs))
    }

    unsafe fn run_tile(&self, _phase: usize, tile: usize, extents: &Extents, scratch: &mut [f32]) {
        let bound = &self.bound;
        let (tokens, inputs) = (extents.of(bound.tokens()), bound.inputs);
        let (rows, columns) = bound.blocks.tile(tile, tokens, inputs);
        let term = |member: usize| {
            let member = &bound.members[member.min(bound.members.len() - 1)];
            // SAFETY: the promises of `run_tile`: operands are not written.
            unsafe {
                let left = Left::rows(matrix(&member.dy, tokens * member.outputs), member.outputs);
                let weight = matrix(&member.weight, member.outputs * inputs);
                let right = Right { elements: weight, stride: inputs, form: Form::Nn };
                Term { left, right, inner: member.outputs }
            }
        };
        let terms: [Term; MAX_MEMBERS] = std::array::from_fn(term);
        // SAFETY: the promises of `run_tile`: operands are not written.
        let masks = unsafe { bound.masks.as_ref().map(|masks| masks.of_batch(extents)) };
        let finish = FinishGrad { simd: self.simd, bound, masks };
        self.engine.run(&terms[..bound.members.len()], rows, columns, &finish, scratch);
    }
}

/// Adds what dropout leaves of the adapters' products, multiplies by the derivative, adds residuals, and stores.
struct FinishGrad<'b, S> {
    simd: S,
    bound: &'b ProjectionGrad,
    masks: Option<MasksOfBatch<'b>>,
}

impl<S: Simd> FinishGrad<'_, S> {
    /// `sums += mask · (dlow · lower)`.
    ///
    /// # Safety
    /// As for [`Kernel::run_tile`].
    unsafe fn add_adapter(
        &self,
        adapter: &GradAdapter,
        row: usize,
        column: usize,
        place: Option<(u32, u16)>,
        sums: &mut [f32],
    ) {
        let (simd, inputs) = (self.simd, self.bound.inputs);
        let mut products = [0.0; MOST_COLUMNS];
        let products = &mut products[..sums.len()];
        // SAFETY: the caller's promise.
        let dlow: &[f32] = unsafe { adapter.dlow.read(elements(&(row..row + 1), adapter.rank)) };
        for (index, &factor) in dlow.iter().enumerate() {
            let first = index * inputs + column;
            // SAFETY: the caller's promise.
            let lower: &[f32] = unsafe { adapter.lower.read(first..first + sums.len()) };
            simd.call(
                #[inline(always)]
                || {
                    let factor = simd.splat(factor);
                    map_with(
                        simd,
                        products,
                        lower,
                        #[inline(always)]
                        |sum, lower| simd.fma(factor, lower, sum),
                    );
                },
            );
        }
        if let (Some(masks), Some(site)) = (&self.masks, adapter.site) {
            masks.drop_row(simd, products, column, site, place);
        }
        simd.add_assign(sums, products);
    }
}

impl<S: Simd> Finish for FinishGrad<'_, S> {
    fn finish(&self, row: usize, column: usize, sums: &mut [f32]) {
        let (bound, simd) = (self.bound, self.simd);
        let first = row * bound.inputs + column;
        let place = self.masks.as_ref().and_then(|masks| masks.place(row));
        // SAFETY: made by `run_tile` only, which gives the rows and columns of its tile.
        unsafe {
            for adapter in bound.members.iter().filter_map(|member| member.adapter.as_ref()) {
                self.add_adapter(adapter, row, column, place, sums);
            }
            if let Some(of_u) = &bound.u {
                let mut u = [0.0; MOST_COLUMNS];
                let u = &mut u[..sums.len()];
                load_row(simd, of_u, first, u);
                simd.gelu_grad(sums, u);
            }
            for residual in &bound.residuals {
                simd.add_assign(sums, residual.read(first..first + sums.len()));
            }
            store_row(simd, &bound.dx, first, sums);
        }
    }
}
