//! Attention with rotary positions, forward and backward, without a tensor of scores.
//!
//! The forward pass is cut into segments, heads and ranges of queries, the backward pass into segments and heads: one
//! unit owns dk and dv of its segment and head and adds the queries up in ascending order. Query and key tiles are
//! constants, so the bits depend neither on tiles nor on threads.
//!
//! Variants: `portable`, plain loops; `avx2` and `avx512`, one algorithm over vectors of 16 lanes (see `vector`).
//!
//! # Numerics
//! As the op says: products over d ascend; the softmax is online over tiles of `KEY_TILE` keys; in the gradient sums
//! over keys ascend for a query and sums over queries for a key. Everything is f32; operands and results of bf16 are
//! widened exactly and rounded once.

mod portable;
mod shape;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod vector;

use super::{Call, Kernel, KernelError, tile_range};
use gptjc_graphs::plan::Isa;
use gptjc_graphs::shape::Extents;
use shape::{Backward, Forward, Unit};

/// Keys of a step of the online softmax: the op's.
const KEY_TILE: usize = 64;

/// One way to compute a unit.
trait Variant: Send + Sync + Copy + 'static {
    /// Ranges of queries begin at multiples of this.
    const QUERY_TILE: usize;

    /// Scratch of the forward pass of at most `queries` queries, in f32 elements.
    fn forward_scratch(self, call: &Forward, queries: usize) -> usize;

    /// Computes `o` and `lse` of a unit.
    ///
    /// # Safety
    /// The promises of [`Kernel::run_tile`]; the unit's rows of the results are its own.
    unsafe fn forward(self, call: &Forward, unit: &Unit, scratch: &mut [f32]);

    /// Scratch of the backward pass, in f32 elements.
    fn backward_scratch(self, call: &Backward) -> usize;

    /// Computes the wanted of dq, dk and dv of a unit.
    ///
    /// # Safety
    /// As for [`forward`](Self::forward).
    unsafe fn backward(self, call: &Backward, unit: &Unit, scratch: &mut [f32]);
}

/// The forward pass: a tile is a segment, a head and a range of queries.
struct ForwardKernel<V> {
    variant: V,
    call: Forward,
    /// Queries of a tile.
    queries: usize,
}

impl<V: Variant> ForwardKernel<V> {
    /// Ranges that the queries of the longest segment are cut into.
    fn ranges(&self) -> usize {
        self.call.inputs.longest_unit().div_ceil(self.queries)
    }
}

impl<V: Variant> Kernel for ForwardKernel<V> {
    fn tiles(&self, _phase: usize, extents: &Extents) -> usize {
        extents.segments * self.call.inputs.heads * self.ranges()
    }

    fn scratch(&self) -> usize {
        self.variant.forward_scratch(&self.call, self.queries.min(self.call.inputs.longest_unit()))
    }

    unsafe fn run_tile(&self, _phase: usize, tile: usize, extents: &Extents, scratch: &mut [f32]) {
        let (tile, range) = (tile / self.ranges(), tile % self.ranges());
        let (segment, head) = (tile / self.call.inputs.heads, tile % self.call.inputs.heads);
        // SAFETY: the caller's promises. Rows are those of one segment, which no other unit of this head has, and a
        // range of them is in one tile.
        unsafe {
            let mut unit = self.call.inputs.unit(segment, head, extents);
            let range = tile_range(range, self.queries, unit.rows.len());
            unit.rows = unit.rows.start + range.start..unit.rows.start + range.end;
            if !unit.rows.is_empty() {
                self.variant.forward(&self.call, &unit, scratch);
            }
        }
    }
}

/// The backward pass: a tile is a segment and a head.
struct BackwardKernel<V> {
    variant: V,
    call: Backward,
}

impl<V: Variant> Kernel for BackwardKernel<V> {
    fn tiles(&self, _phase: usize, extents: &Extents) -> usize {
        extents.segments * self.call.inputs.heads
    }

    fn scratch(&self) -> usize {
        self.variant.backward_scratch(&self.call)
    }

    unsafe fn run_tile(&self, _phase: usize, tile: usize, extents: &Extents, scratch: &mut [f32]) {
        let (segment, head) = (tile / self.call.inputs.heads, tile % self.call.inputs.heads);
        // SAFETY: the caller's promises. The unit has its segment and head alone.
        unsafe {
            let unit = self.call.inputs.unit(segment, head, extents);
            self.variant.backward(&self.call, &unit, scratch);
        }
    }
}

fn forward_kernel<V: Variant>(call: &Call, variant: V) -> Result<Box<dyn Kernel>, KernelError> {
    let queries = (call.partition.rows.max(1) as usize).next_multiple_of(V::QUERY_TILE);
    Ok(Box::new(ForwardKernel { variant, call: Forward::new(call)?, queries }))
}

fn backward_kernel<V: Variant>(call: &Call, variant: V) -> Result<Box<dyn Kernel>, KernelError> {
    Ok(Box::new(BackwardKernel { variant, call: Backward::new(call)? }))
}

pub(super) fn bind_forward(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    forward_kernel(call, portable::Portable)
}

pub(super) fn bind_grad(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    backward_kernel(call, portable::Portable)
}

/// The kernels of `isa`: what AVX-512 offers beyond its foundation is of no use to products of f32.
#[cfg(target_arch = "x86_64")]
pub(super) fn bind_vector(call: &Call, isa: Isa) -> Option<Result<Box<dyn Kernel>, KernelError>> {
    use crate::isa::{Avx2, Avx512};
    match isa {
        Isa::Portable => None,
        Isa::Avx2 => Avx2::detect().and_then(|token| bind_variant(call, vector::Vector::<_, 6, 1>(token))),
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => {
            Avx512::detect().and_then(|token| bind_variant(call, vector::Vector::<_, 12, 2>(token)))
        }
    }
}

/// The kernels of `isa`: none on this architecture.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn bind_vector(_call: &Call, _isa: Isa) -> Option<Result<Box<dyn Kernel>, KernelError>> {
    None
}

#[cfg(target_arch = "x86_64")]
fn bind_variant<V: Variant>(call: &Call, variant: V) -> Option<Result<Box<dyn Kernel>, KernelError>> {
    match call.kernel.op.as_str() {
        "attention" => Some(forward_kernel(call, variant)),
        "attention_grad" => Some(backward_kernel(call, variant)),
        _ => None,
    }
}
