//! Has the system fetch mapped weights while the first steps run.
//!
//! Without it, a page is fetched when a kernel first touches it, by a thread that then waits.

use crate::memory::node_policy::Interleaved;
use crate::weights::Checkpoint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Bytes asked for at a time; the call waits while the disk's queue is full.
const PIECE: usize = 64 << 20;

/// Fewer bytes than these are there before a thread is.
const WORTHWHILE: usize = 16 << 20;

/// A thread that asks; it ends with its list, or when this is dropped.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ReadAhead {
    /// Asks for `tensors` (names and bytes), in this order, to be spread over the NUMA nodes `nodes`. That a thread cannot be
    /// started is no error.
    pub(super) fn start(
        checkpoint: Arc<Checkpoint>,
        tensors: Vec<(String, usize)>,
        nodes: Vec<usize>,
    ) -> Self {
        if tensors.iter().map(|(_, bytes)| bytes).sum::<usize>() < WORTHWHILE {
            return Self::default();
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let ask = move || {
            // Whoever fetches a page first decides where it lies. A refusal costs speed.
            let _policy = Interleaved::over(&nodes);
            for (name, bytes) in tensors {
                for start in (0..bytes).step_by(PIECE) {
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    checkpoint.prefetch(&name, start..start + PIECE);
                }
            }
        };
        let thread = std::thread::Builder::new().name("gptjc-read-ahead".to_owned()).spawn(ask).ok();
        Self { stop, thread }
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // asking does not panic
        }
    }
}
