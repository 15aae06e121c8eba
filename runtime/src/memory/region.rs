//! Anonymous memory that is handed out as views: the arena and what is kept between runs.

use crate::kernels::View;
use gptjc_graphs::shape::TensorType;
use memmap2::MmapMut;

/// Zeroed, page-aligned memory that does not move. The kernel gives pages when they are first touched.
pub struct Region {
    address: *mut u8,
    bytes: usize,
    /// Keeps the memory; never accessed again but through `address`.
    _map: MmapMut,
}

// SAFETY: a region is memory without an owner thread; access goes through views, whose users promise not to race.
unsafe impl Send for Region {}
// SAFETY: as for `Send`.
unsafe impl Sync for Region {}

/// Memory that the system does not give.
#[derive(Debug, thiserror::Error)]
#[error(
    "the system gives no {bytes} bytes of memory for {what}: {source}; lower --memory-budget or the batch"
)]
pub struct OutOfMemory {
    /// Bytes asked for.
    pub bytes: usize,
    /// What for.
    pub what: &'static str,
    /// The system's answer.
    pub source: std::io::Error,
}

impl Region {
    /// `bytes` of zeroed memory for `what`.
    ///
    /// # Errors
    /// [`OutOfMemory`] if the system refuses.
    pub fn new(bytes: usize, what: &'static str) -> Result<Self, OutOfMemory> {
        // An empty mapping is refused by the system; a plan may have an empty arena.
        let mut map =
            MmapMut::map_anon(bytes.max(1)).map_err(|source| OutOfMemory { bytes, what, source })?;
        Ok(Self { address: map.as_mut_ptr(), bytes, _map: map })
    }

    /// A view of type `ty` at `offset`, or none if it does not lie inside or is not aligned.
    ///
    /// # Safety
    /// The view is not used after the region is dropped.
    pub unsafe fn view(&self, offset: usize, ty: TensorType) -> Option<View> {
        let end = offset.checked_add(ty.bytes())?;
        if end > self.bytes || !offset.is_multiple_of(ty.dtype.size()) {
            return None;
        }
        // SAFETY: the range was just checked to lie inside the mapping, which is zeroed (so initialised), page-aligned
        // and alive as long as the region; the caller promises not to use the view longer. All bit patterns are
        // elements of f32, bf16 and i32.
        Some(unsafe { View::new(self.address.add(offset), ty) })
    }

    /// Bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_outside_of_the_region_is_refused() {
        let region = Region::new(64, "a test").unwrap();
        // SAFETY: the views are not used after the region.
        unsafe {
            assert!(region.view(0, TensorType::f32([16.into()])).is_some());
            assert!(region.view(4, TensorType::f32([16.into()])).is_none());
            assert!(region.view(2, TensorType::f32([1.into()])).is_none());
            assert!(region.view(usize::MAX, TensorType::f32([1.into()])).is_none());
        }
    }
}
