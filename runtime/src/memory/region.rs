//! Anonymous memory that is handed out as views: the arena and what is kept between runs.

use crate::kernels::View;
use gptjc_graphs::shape::TensorType;
use memmap2::{Advice, MmapMut};
use std::ops::Range;

/// Bytes of a huge page, and the alignment that one needs.
const HUGE_PAGE: usize = 2 << 20;

/// Bytes of a small page on every machine that matters; a larger one is touched more than once.
const PAGE: usize = 4 << 10;

/// Zeroed, page-aligned memory that does not move. The kernel gives pages when they are first touched: huge ones, where
/// it has them and the region is as large, because matrices of hundreds of megabytes exhaust the TLB with small ones.
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
        // Room to begin at a huge page. It costs addresses only: what is not touched takes no memory.
        let room = if bytes >= HUGE_PAGE { HUGE_PAGE } else { 0 };
        let refused = |source| OutOfMemory { bytes, what, source };
        // An empty mapping is refused by the system; a plan may have an empty arena.
        let mut map = MmapMut::map_anon(bytes.saturating_add(room).max(1)).map_err(refused)?;
        let start = if room == 0 { 0 } else { map.as_ptr().align_offset(HUGE_PAGE) };
        #[cfg(target_os = "linux")]
        if room > 0 {
            let _ = map.advise(Advice::HugePage); // a system without huge pages gives small ones
        }
        let address = map.as_mut_ptr().wrapping_add(start);
        Ok(Self { address, bytes, _map: map })
    }

    /// Writes a zero to each page of `range`, so that the system gives the page to the calling thread's NUMA node.
    ///
    /// # Safety
    /// The bytes were not written before (they are zero), and nobody else reads or writes them meanwhile.
    pub unsafe fn touch(&self, range: Range<usize>) {
        let range = range.start..range.end.min(self.bytes);
        for offset in range.step_by(PAGE) {
            // SAFETY: the byte lies inside the mapping, and is this caller's alone by the caller's promise. Volatile,
            // because a write of what is there already could be left out.
            unsafe { self.address.add(offset).write_volatile(0) };
        }
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

    #[test]
    fn a_large_region_begins_at_a_huge_page_and_can_be_used_to_its_end() {
        for bytes in [HUGE_PAGE - 4, HUGE_PAGE, 3 * HUGE_PAGE + 64] {
            let region = Region::new(bytes, "a test").unwrap();
            assert!(bytes < HUGE_PAGE || region.address.addr().is_multiple_of(HUGE_PAGE));
            // SAFETY: the region is this test's alone and outlives the view.
            unsafe {
                region.touch(0..bytes + PAGE);
                let view = region.view(0, TensorType::f32([(bytes / 4).into()])).unwrap();
                let elements = view.write::<f32>(0..bytes / 4);
                assert!(elements.iter().all(|&element| element == 0.0), "touching writes nothing else");
                elements.fill(1.0);
            }
        }
    }
}
