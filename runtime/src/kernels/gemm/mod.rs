//! Big matrix products: one core that every kernel with a matrix product shares.
//!
//! A [`Term`] is a product `left · right`; a chain of terms is summed into the same accumulators, in ascending order of
//! terms and, inside a term, of its summed index. [`Engine::run`] computes a range of rows and of columns of a chain;
//! finished rows go to a [`Finish`], which adds what is element-wise and stores them.
//!
//! # How
//! The right operand (a weight, as it lies in the checkpoint) is packed block by block of the summed index into panels,
//! widened to f32 or paired; then panels of rows of the left operand pass by. Between blocks the sums wait as f32 in
//! scratch. Sizes are in [`blocking`], packing that any machine can run in [`pack`], instruction sets in files of their
//! names. What instruction sets without hardware here would do, [`software`] does step by step for the tests.
//!
//! # Numerics
//! Two rounding classes. With [`Format::F32`], every sum is one chain of fused multiply-adds in ascending order, the same
//! bits for AVX2 and AVX-512. With [`Format::Pairs`] (both factors bf16, AVX512-BF16 or AMX), it is the instruction's chain
//! over pairs: it rounds between the products of a pair as the hardware does and takes subnormal factors for zero. In
//! both, bits depend neither on blocks and tiles nor on where a row lies and how many there are.

mod ahead;
#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512bf16;
mod blocking;
mod driver;
#[cfg(test)]
mod pack;
#[cfg(target_arch = "x86_64")]
mod pack_avx2;
#[cfg(target_arch = "x86_64")]
mod pack_avx512;
#[cfg(any(test, target_arch = "x86_64"))]
mod pairs;
#[cfg(test)]
mod software;
#[cfg(test)]
mod tests;

use crate::isa;
use ahead::Ahead;
use gptjc_graphs::plan::Isa;
use half::bf16;
use std::ops::Range;

pub(crate) use blocking::{COLUMNS as MOST_COLUMNS, scratch_elements};

/// `$with` for `$simd`, the token of the vectors that the engine's instruction set includes.
macro_rules! with_simd {
    ($engine:expr, $simd:ident => $with:expr) => {
        match $engine {
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::gemm::Engine::Avx2($simd) => $with,
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::gemm::Engine::Avx512($simd) => $with,
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::gemm::Engine::Avx512Bf16(token) => {
                let $simd = token.avx512();
                $with
            }
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::gemm::Engine::Amx(token) => {
                let $simd = token.avx512();
                $with
            }
            #[cfg(test)]
            $crate::kernels::gemm::Engine::Software(_) => {
                let $simd = $crate::kernels::simd::Software;
                $with
            }
        }
    };
}
pub(crate) use with_simd;

/// A matrix's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Elements<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Its upper halves.
    Bf16(&'a [bf16]),
}

impl Elements<'_> {
    fn len(self) -> usize {
        match self {
            Elements::F32(elements) => elements.len(),
            Elements::Bf16(elements) => elements.len(),
        }
    }

    fn is_bf16(self) -> bool {
        matches!(self, Elements::Bf16(_))
    }
}

/// The left operand: element `(row, k)` is `elements[row * stride + k]`, or `elements[k * stride + row]` if `transposed`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left<'a> {
    /// Its memory.
    pub(crate) elements: Elements<'a>,
    /// Elements from one row to the next.
    pub(crate) stride: usize,
    /// The summed index is the slow one.
    pub(crate) transposed: bool,
    /// Every element is multiplied by this as it is read.
    pub(crate) scale: f32,
    /// The numbers are f32 that bf16 holds exactly: they may be taken as bf16.
    pub(crate) rounded: bool,
}

impl<'a> Left<'a> {
    /// Rows of `stride` elements, as they are.
    pub(crate) fn rows(elements: Elements<'a>, stride: usize) -> Self {
        Self { elements, stride, transposed: false, scale: 1.0, rounded: false }
    }
}

/// How the right operand lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `[columns, inner]`: a row is a column of the product.
    Nt,
    /// `[inner, columns]`.
    Nn,
}

/// The right operand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Right<'a> {
    /// Its memory.
    pub(crate) elements: Elements<'a>,
    /// Elements from one row to the next.
    pub(crate) stride: usize,
    /// How it lies.
    pub(crate) form: Form,
}

/// One product of a chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term<'a> {
    /// Its rows are rows of the product.
    pub(crate) left: Left<'a>,
    /// Its columns are columns of the product.
    pub(crate) right: Right<'a>,
    /// Summed elements.
    pub(crate) inner: usize,
}

/// In what form a term's factors are packed and multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// f32, one a lane.
    F32,
    /// bf16, two neighbours of the summed index a lane.
    Pairs,
}

/// What becomes of finished sums.
pub(crate) trait Finish {
    /// Takes the sums of `row`, of the columns from `column` on. They may be overwritten.
    fn finish(&self, row: usize, column: usize, sums: &mut [f32]);
}

/// How operands are packed for [`Steps`].
trait Packing: Copy {
    /// Packs `inner` of `columns` of the right operand, as [`blocking`] says.
    ///
    /// # Safety
    /// The ranges lie in `right`; `to` has room for the panels; pairs are asked for of bf16 only, if there are steps.
    unsafe fn pack_right(
        self,
        format: Format,
        right: &Right,
        inner: Range<usize>,
        columns: Range<usize>,
        to: *mut f32,
    );

    /// Packs `inner` of `rows` of the left operand, as [`blocking`] says.
    ///
    /// # Safety
    /// The ranges lie in `left`, `rows` are at most [`Steps::ROWS`]; `to` has room for them.
    unsafe fn pack_left(
        self,
        format: Format,
        left: &Left,
        rows: Range<usize>,
        inner: Range<usize>,
        to: *mut f32,
    );
}

/// The steps that an instruction set gives the driver.
trait Steps: Packing {
    /// Rows of the left operand that are packed and multiplied together, at most.
    const ROWS: usize;
    /// Columns of a panel of the right operand.
    const COLUMNS: usize;
    /// Whether there are steps for [`Format::Pairs`].
    const PAIRS: bool;

    /// Adds the product of a packed left panel of `rows` rows and of `panels` packed right panels of `depth` lanes to
    /// `sums`, or makes it the sums if they are `fresh`. Meanwhile asks for what lies `ahead`.
    ///
    /// # Safety
    /// `left` and `right` were packed in this format with this depth; `sums` has `panels * rows * COLUMNS` elements.
    unsafe fn multiply(
        self,
        format: Format,
        rows: usize,
        depth: usize,
        left: *const f32,
        right: *const f32,
        panels: usize,
        sums: *mut f32,
        fresh: bool,
        ahead: &Ahead,
    );
}

/// An instruction set that this CPU has, for products.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Engine {
    /// Fused multiply-adds of 8 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx2(isa::Avx2),
    /// Fused multiply-adds of 16 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx512(isa::Avx512),
    /// The same, and dot products of pairs.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(isa::Avx512Bf16),
    /// The same, and tiles of pairs.
    #[cfg(target_arch = "x86_64")]
    Amx(isa::Amx),
    /// Plain Rust in place of the instructions.
    #[cfg(test)]
    Software(software::Software),
}

impl Engine {
    /// The engine of `isa`, if this CPU has it; the portable one has none.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn of(isa: Isa) -> Option<Self> {
        match isa {
            Isa::Portable => None,
            Isa::Avx2 => isa::Avx2::detect().map(Engine::Avx2),
            Isa::Avx512 => isa::Avx512::detect().map(Engine::Avx512),
            Isa::Avx512Bf16 => isa::Avx512Bf16::detect().map(Engine::Avx512Bf16),
            Isa::Amx => isa::Amx::detect().map(Engine::Amx),
        }
    }

    /// The engine of `isa`: none on this architecture.
    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn of(_isa: Isa) -> Option<Self> {
        None
    }

    /// Computes `rows` and `columns` of the sum of `terms` and gives each row of at most [`blocking::COLUMNS`] finished
    /// columns to `finish`. `scratch` has at least [`scratch_elements`] of the ranges' lengths.
    ///
    /// # Panics
    /// If the ranges do not lie in the terms' operands or scratch is too small.
    pub(crate) fn run(
        self,
        terms: &[Term],
        rows: Range<usize>,
        columns: Range<usize>,
        finish: &dyn Finish,
        scratch: &mut [f32],
    ) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Engine::Avx2(token) => driver::run(avx2::Fma(token), terms, rows, columns, finish, scratch),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512(token) => driver::run(avx512::Fma(token), terms, rows, columns, finish, scratch),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512Bf16(token) => {
                driver::run(avx512bf16::Dots(token), terms, rows, columns, finish, scratch);
            }
            #[cfg(target_arch = "x86_64")]
            Engine::Amx(token) => driver::run(amx::Tiles(token), terms, rows, columns, finish, scratch),
            #[cfg(test)]
            Engine::Software(software) => software.run(terms, rows, columns, finish, scratch),
        }
    }
}
