//! A typed place in memory, as a kernel is bound to it.

use gptjc_graphs::dtype::DType;
use gptjc_graphs::shape::TensorType;
use half::bf16;
use std::ops::Range;

/// A Rust type that holds elements of a dtype.
pub trait Element: Copy + Send + Sync + 'static {
    /// The dtype.
    const DTYPE: DType;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
}

impl Element for bf16 {
    const DTYPE: DType = DType::Bf16;
}

impl Element for i32 {
    const DTYPE: DType = DType::I32;
}

/// Address and type of an operand or a result.
#[derive(Clone, Debug)]
pub struct View {
    address: *mut u8,
    ty: TensorType,
}

// SAFETY: a view is an address and a type; all access goes through the unsafe methods, whose callers promise that no
// two threads touch the same elements unless both only read.
unsafe impl Send for View {}
// SAFETY: as for `Send`.
unsafe impl Sync for View {}

impl View {
    /// A view of `ty.bytes()` bytes at `address`.
    ///
    /// # Safety
    /// As long as the view or a copy of it is used, the bytes are alive and initialised, `address` is aligned for the
    /// dtype, and every bit pattern there is an element of the dtype.
    pub unsafe fn new(address: *mut u8, ty: TensorType) -> Self {
        debug_assert!(address.addr().is_multiple_of(ty.dtype.size()));
        Self { address, ty }
    }

    /// Dtype and shape.
    pub fn ty(&self) -> &TensorType {
        &self.ty
    }

    /// Elements of one index of the first dimension, at the bounds.
    pub fn row_elements(&self) -> usize {
        self.ty.dims.iter().skip(1).map(|dim| dim.bound).product()
    }

    /// True if both views begin at the same address.
    pub fn same_place(&self, other: &View) -> bool {
        std::ptr::eq(self.address, other.address)
    }

    /// The elements in `range`, to read.
    ///
    /// # Safety
    /// `T` is the view's element type, `range` lies inside the view, and nobody writes these elements while the slice
    /// is used.
    pub unsafe fn read<T: Element>(&self, range: Range<usize>) -> &[T] {
        debug_assert!(T::DTYPE == self.ty.dtype && range.end <= self.ty.elements());
        // SAFETY: `new`'s caller promised the memory, this method's caller that the range is inside and not written.
        unsafe { std::slice::from_raw_parts(self.address.cast::<T>().add(range.start), range.len()) }
    }

    /// All elements up to `end`, to read.
    ///
    /// # Safety
    /// As for [`read`](Self::read).
    pub unsafe fn read_to<T: Element>(&self, end: usize) -> &[T] {
        // SAFETY: the caller's promise.
        unsafe { self.read(0..end) }
    }

    /// The elements in `range`, to write.
    ///
    /// # Safety
    /// `T` is the view's element type, `range` lies inside the view, and nobody else reads or writes these elements
    /// while the slice is used.
    #[allow(
        clippy::mut_from_ref,
        reason = "the exclusive access is the caller's promise, as for a raw pointer"
    )]
    pub unsafe fn write<T: Element>(&self, range: Range<usize>) -> &mut [T] {
        debug_assert!(T::DTYPE == self.ty.dtype && range.end <= self.ty.elements());
        // SAFETY: `new`'s caller promised the memory, this method's caller that the range is inside and its own.
        unsafe { std::slice::from_raw_parts_mut(self.address.cast::<T>().add(range.start), range.len()) }
    }
}
