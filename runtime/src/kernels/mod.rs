//! Kernels: what a step of a plan runs.
//!
//! One op family, one file or folder, under the family's stem; each has a plain reference and is held against it. A
//! kernel is bound once, to the memory of its operands and results, and then run tile by tile by any number of
//! threads. Its results do not depend on the tiles or the threads: an element is computed whole by one tile, and sums
//! have one order.
//!
//! Variants (instruction sets) are named in the kernel's id and chosen by the compiler; [`bind`] finds the one asked
//! for and never another.
//!
//! `portable` is plain Rust: multiplications and additions are rounded apart (no fused multiply-add), and elementary
//! functions come from the `libm` crate, so that its bits are the same on every machine and with every C library.

mod bind;
mod blocks;
mod row_arithmetic;
mod rowwise;
mod simd;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod testing_data;
#[cfg(test)]
mod tests;
mod view;

pub mod adapter;
pub mod attention;
pub mod cache;
pub mod cross_entropy;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
pub mod gelu;
pub(crate) mod gemm;
pub mod layer_norm;
pub mod masked_softmax;
pub mod matmul;
pub mod optimizer;
pub mod projection;
pub mod rotary;
pub mod rows;
pub mod segment_matmul;
pub mod vocab_loss;
pub mod window;

pub use bind::{Call, KernelError, bind};
pub use view::{Element, View};

use gptjc_graphs::shape::Extents;

/// The arithmetic of the portable kernels, where kernels have a choice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

/// A kernel bound to its operands and results.
pub trait Kernel: Send + Sync {
    /// Number of phases for these extents: at most that at the bounds. Every tile of a phase is done before one of the
    /// next begins.
    fn phases(&self, _extents: &Extents) -> usize {
        1
    }

    /// Number of tiles of a phase for these extents. Tiles of a phase are independent of each other.
    fn tiles(&self, phase: usize, extents: &Extents) -> usize;

    /// Of a phase whose tiles are cut by rows and by columns, columns changing slowest: how many there are side by side for
    /// the same columns. None if tiles come in the order of their rows, or have none.
    fn row_tiles(&self, _phase: usize, _extents: &Extents) -> Option<usize> {
        None
    }

    /// Scratch that [`run_tile`](Self::run_tile) needs, in f32 elements, for each thread.
    fn scratch(&self) -> usize;

    /// Computes one tile of a phase.
    ///
    /// # Safety
    /// While it runs, nobody writes the call's operands, and nobody reads or writes the part of the results and of the
    /// workspace that belongs to `tile` in this phase; all tiles of earlier phases are done; the views' memory is alive;
    /// `extents` are within the bounds; `scratch` has at least [`scratch`](Self::scratch) elements.
    unsafe fn run_tile(&self, phase: usize, tile: usize, extents: &Extents, scratch: &mut [f32]);
}

/// The range of tile `tile` when `used` elements are cut into tiles of `size`.
pub(crate) fn tile_range(tile: usize, size: usize, used: usize) -> std::ops::Range<usize> {
    let start = (tile * size).min(used);
    start..(start + size).min(used)
}
