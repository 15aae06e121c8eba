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
    elements: usize,
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
        let elements = ty.elements();
        Self { address, ty, elements }
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

    /// Address of element `range.start`.
    ///
    /// Checked in every build: ranges come from tables of a batch, and a table that contradicts itself must not reach
    /// other memory.
    fn start_of<T: Element>(&self, range: &Range<usize>) -> *mut T {
        assert!(
            T::DTYPE == self.ty.dtype && range.start <= range.end && range.end <= self.elements,
            "elements {range:?} of type {} are not all in {}",
            T::DTYPE,
            self.ty
        );
        // SAFETY: the range lies inside the view, whose memory `new`'s caller promised.
        unsafe { self.address.cast::<T>().add(range.start) }
    }

    /// The elements in `range`, to read.
    ///
    /// # Safety
    /// Nobody writes these elements while the slice is used.
    ///
    /// # Panics
    /// If `T` is not the view's element type or `range` does not lie inside.
    pub unsafe fn read<T: Element>(&self, range: Range<usize>) -> &[T] {
        let start = self.start_of::<T>(&range);
        // SAFETY: `new`'s caller promised the memory, `start_of` checked the range, and this method's caller promised
        // that nobody writes it.
        unsafe { std::slice::from_raw_parts(start, range.len()) }
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
    /// Nobody else reads or writes these elements while the slice is used.
    ///
    /// # Panics
    /// As for [`read`](Self::read).
    #[allow(
        clippy::mut_from_ref,
        reason = "the exclusive access is the caller's promise, as for a raw pointer"
    )]
    pub unsafe fn write<T: Element>(&self, range: Range<usize>) -> &mut [T] {
        let start = self.start_of::<T>(&range);
        // SAFETY: `new`'s caller promised the memory, `start_of` checked the range, and this method's caller promised
        // that it is its own.
        unsafe { std::slice::from_raw_parts_mut(start, range.len()) }
    }

    /// Writes floating-point numbers from element `start` on, each rounded (nearest, ties to even) to the view's type.
    ///
    /// # Safety
    /// Nobody else reads or writes these elements meanwhile.
    ///
    /// # Panics
    /// If the view is of integers or the elements do not lie inside.
    pub unsafe fn store(&self, start: usize, numbers: &[f32]) {
        let range = start..start + numbers.len();
        // SAFETY: the caller's promise.
        unsafe {
            if self.ty.dtype == DType::Bf16 {
                for (element, &number) in self.write::<bf16>(range).iter_mut().zip(numbers) {
                    *element = bf16::from_f32(number);
                }
            } else {
                self.write::<f32>(range).copy_from_slice(numbers);
            }
        }
    }

    /// Reads floating-point numbers from element `start` on, widened to f32.
    ///
    /// # Safety
    /// Nobody writes these elements meanwhile.
    ///
    /// # Panics
    /// If the view is of integers or the elements do not lie inside.
    pub unsafe fn load(&self, start: usize, numbers: &mut [f32]) {
        let range = start..start + numbers.len();
        // SAFETY: the caller's promise.
        unsafe {
            if self.ty.dtype == DType::Bf16 {
                for (number, element) in numbers.iter_mut().zip(self.read::<bf16>(range)) {
                    *number = element.to_f32();
                }
            } else {
                numbers.copy_from_slice(self.read::<f32>(range));
            }
        }
    }
}
