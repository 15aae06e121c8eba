//! A number that threads wait for.
//!
//! Who waits spins for a while, then gives up its core to whoever wants it, and then sleeps, so that an idle team costs
//! nothing and a thread whose partner was preempted does not keep it from coming back. Who sets the number takes no
//! lock unless somebody sleeps.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// Spins before a thread yields: some ten microseconds, about what the imbalance of a step costs.
const SPINS: u32 = 1 << 10;
/// Yields before a thread sleeps.
const YIELDS: u32 = 1 << 5;

/// A number, alone on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Signal {
    value: AtomicU64,
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Signal {
    /// The number. What was written before it was set is visible.
    pub(super) fn get(&self) -> u64 {
        self.value.load(Ordering::Acquire)
    }

    /// Sets the number and wakes who sleeps.
    pub(super) fn set(&self, value: u64) {
        self.update(|number| number.store(value, Ordering::SeqCst));
    }

    /// Adds to the number and wakes who sleeps.
    pub(super) fn add(&self, more: u64) {
        self.update(|number| {
            number.fetch_add(more, Ordering::SeqCst);
        });
    }

    /// Sets bits of the number and wakes who sleeps.
    pub(super) fn insert(&self, bits: u64) {
        self.update(|number| {
            number.fetch_or(bits, Ordering::SeqCst);
        });
    }

    fn update(&self, change: impl FnOnce(&AtomicU64)) {
        change(&self.value);
        // Change and question here, registration and look there, are in one order that all threads agree on: either the
        // sleeper is seen here, or the change there.
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.changed.notify_all();
        }
    }

    /// Returns the number as soon as it is `ready`.
    pub(super) fn wait(&self, ready: impl Fn(u64) -> bool) -> u64 {
        for round in 0..SPINS + YIELDS {
            let value = self.get();
            if ready(value) {
                return value;
            }
            if round < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        self.sleep(ready)
    }

    fn sleep(&self, ready: impl Fn(u64) -> bool) -> u64 {
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner); // it guards nothing that could break
        let value = loop {
            let value = self.value.load(Ordering::SeqCst);
            if ready(value) {
                break value;
            }
            guard = self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
        };
        drop(guard);
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Two threads take turns, with pauses so that they spin, yield and sleep.
    #[test]
    fn no_change_is_missed() {
        let (ping, pong) = (Signal::default(), Signal::default());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for turn in 1..=2000 {
                    ping.wait(|value| value == turn);
                    if turn % 500 == 0 {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    pong.add(1);
                }
            });
            for turn in 1..=2000 {
                if turn % 300 == 0 {
                    std::thread::sleep(Duration::from_millis(5));
                }
                ping.set(turn);
                assert_eq!(pong.wait(|value| value >= turn), turn);
            }
        });
        pong.insert(1 << 63);
        assert_eq!(pong.wait(|value| value >= 1 << 63), (1 << 63) + 2000);
    }

    #[test]
    fn everybody_is_woken() {
        let signal = Signal::default();
        std::thread::scope(|scope| {
            let waiters: Vec<_> = (0..6).map(|_| scope.spawn(|| signal.wait(|value| value == 3))).collect();
            while signal.sleepers.load(Ordering::SeqCst) < 6 {
                std::thread::yield_now();
            }
            signal.set(2);
            signal.set(3);
            assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap() == 3));
        });
    }
}
