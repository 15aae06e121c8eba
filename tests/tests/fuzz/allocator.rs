//! The system's allocator, counting what each thread has and had at most.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static CURRENT: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Adds `bytes` to what this thread has. Cells without a destructor allocate nothing and are there to the thread's end.
fn count(bytes: isize) {
    let current = CURRENT.get() + bytes;
    CURRENT.set(current);
    PEAK.set(PEAK.get().max(current));
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(address, layout) }
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both may be there for a moment.
        count(size as isize);
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.realloc(address, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Runs `work`, and returns how many bytes more than before this thread had at most.
pub(crate) fn peak(work: impl FnOnce()) -> usize {
    let before = CURRENT.get();
    PEAK.set(before);
    work();
    (PEAK.get() - before).max(0) as usize
}

#[test]
fn the_peak_is_counted() {
    assert_eq!(peak(|| ()), 0);
    let kept = peak(|| drop(vec![0u8; 1000]));
    assert_eq!(kept, 1000);
    let grown = peak(|| {
        let mut bytes = vec![1u8; 1000];
        bytes.reserve_exact(1000);
    });
    assert_eq!(grown, 3000);
}
