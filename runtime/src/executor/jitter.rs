//! Random pauses, so that a test meets many orders of events.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

static ON: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Switches pauses on, in all tests of the process that run meanwhile: they slow a test, and break none.
pub(super) fn switch(on: bool) {
    ON.store(on, Ordering::Relaxed);
}

/// Sometimes sleeps, sometimes spins, and mostly does neither.
pub(super) fn pause() {
    if !ON.load(Ordering::Relaxed) {
        return;
    }
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut random = count.wrapping_add(0x9e37_79b9).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    random ^= random >> 29;
    match random % 16 {
        0 => std::thread::sleep(Duration::from_micros(random >> 16 & 0xff)),
        1 | 2 => std::thread::yield_now(),
        3..6 => (0..random >> 16 & 0x3ff).for_each(|_| std::hint::spin_loop()),
        _ => {}
    }
}
