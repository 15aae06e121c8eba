//! The team: threads that run an entry point together.
//!
//! A run is announced under a lock, once; inside it threads claim tiles from one atomic counter a phase of a step and
//! meet at a barrier after each. A thread that waits spins for a while and then yields its core, because machines are shared.

use super::{Bound, BoundEntry};
use crate::kernels::Kernel;
use gptjc_graphs::shape::Extents;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Spins at a barrier before a thread yields: some microseconds, about what a step's imbalance costs.
const SPINS: u32 = 4096;

/// What the threads are to do next.
#[derive(Clone, Copy)]
struct Job {
    /// Counts runs, so that a thread sees a new one.
    epoch: u64,
    entry: usize,
    extents: Extents,
    stop: bool,
}

struct Shared {
    bound: Arc<Bound>,
    threads: usize,
    job: Mutex<Job>,
    announced: Condvar,
    /// Next tile of each phase of the steps of an entry point.
    tiles: Vec<AtomicUsize>,
    arrived: AtomicUsize,
    generation: AtomicUsize,
    panicked: AtomicBool,
    /// `panicked` as the last thread at a barrier saw it: what all threads leave that barrier with.
    ends: AtomicBool,
}

/// A team of threads; the thread that calls [`run`](Self::run) is one of them.
pub(super) struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    scratch: Vec<f32>,
}

impl Team {
    /// Starts `threads - 1` threads; at least the caller's own takes part.
    pub(super) fn new(threads: usize, bound: &Arc<Bound>) -> Result<Self, std::io::Error> {
        let threads = threads.max(1);
        let phases = |entry: &BoundEntry| -> usize {
            entry.kernels.iter().map(|kernel| kernel.phases(&entry.bounds)).sum()
        };
        let phases = bound.entries.iter().map(phases).max().unwrap_or(0);
        let shared = Arc::new(Shared {
            bound: Arc::clone(bound),
            threads,
            job: Mutex::new(Job { epoch: 0, entry: 0, extents: Extents::default(), stop: false }),
            announced: Condvar::new(),
            tiles: (0..phases).map(|_| AtomicUsize::new(0)).collect(),
            arrived: AtomicUsize::new(0),
            generation: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            ends: AtomicBool::new(false),
        });
        let mut team = Self { shared, workers: Vec::new(), scratch: vec![0.0; bound.scratch] };
        for index in 1..threads {
            let shared = Arc::clone(&team.shared);
            let builder = std::thread::Builder::new().name(format!("gptjc-{index}"));
            team.workers.push(builder.spawn(move || work(&shared))?); // on an error, Drop ends those that started
        }
        Ok(team)
    }

    pub(super) fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Runs an entry point to its end; false if a kernel panicked.
    pub(super) fn run(&mut self, entry: usize, extents: &Extents) -> bool {
        let shared = &*self.shared;
        if shared.panicked.load(Ordering::Acquire) {
            return false;
        }
        for counter in &shared.tiles {
            counter.store(0, Ordering::Relaxed); // published by the lock below
        }
        let mut job = lock(&shared.job);
        *job = Job { epoch: job.epoch + 1, entry, extents: *extents, stop: false };
        drop(job);
        shared.announced.notify_all();
        run_entry(shared, entry, extents, &mut self.scratch);
        !shared.panicked.load(Ordering::Acquire)
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        lock(&self.shared.job).stop = true;
        self.shared.announced.notify_all();
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // a worker catches its panics
        }
    }
}

fn lock(job: &Mutex<Job>) -> MutexGuard<'_, Job> {
    job.lock().unwrap_or_else(PoisonError::into_inner) // no code that can panic runs under the lock
}

fn work(shared: &Shared) {
    let mut scratch = vec![0.0; shared.bound.scratch];
    let mut seen = 0;
    loop {
        let mut job = lock(&shared.job);
        while job.epoch == seen && !job.stop {
            job = shared.announced.wait(job).unwrap_or_else(PoisonError::into_inner);
        }
        let current = *job;
        drop(job);
        if current.stop {
            return;
        }
        seen = current.epoch;
        run_entry(shared, current.entry, &current.extents, &mut scratch);
    }
}

/// This thread's part of a run: some tiles of every phase of every step.
fn run_entry(shared: &Shared, entry: usize, extents: &Extents, scratch: &mut [f32]) {
    let mut counters = shared.tiles.iter();
    for kernel in &shared.bound.entries[entry].kernels {
        for phase in 0..kernel.phases(extents) {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                // There are counters for the phases at the bounds.
                let Some(next) = counters.next() else { panic!("more phases than at the bounds") };
                run_phase(&**kernel, phase, next, extents, scratch);
            }));
            if outcome.is_err() {
                shared.panicked.store(true, Ordering::Release);
            }
            if wait_for_all(shared) {
                return;
            }
        }
    }
}

/// Tiles of one phase, until all are claimed.
fn run_phase(kernel: &dyn Kernel, phase: usize, next: &AtomicUsize, extents: &Extents, scratch: &mut [f32]) {
    let tiles = kernel.tiles(phase, extents);
    loop {
        let tile = next.fetch_add(1, Ordering::Relaxed);
        if tile >= tiles {
            return;
        }
        // SAFETY: the plan was verified: operands of a step are not among what any thread writes in it, and were written
        // before the last barrier; the counter hands each tile of a phase to one thread only, and a barrier ends the
        // phase; regions and weights live in `Bound`; extents were checked against the bounds; scratch is the largest of
        // all kernels.
        unsafe { kernel.run_tile(phase, tile, extents, scratch) };
    }
}

/// Returns when every thread of the team has arrived, to all of them the same: true if one has panicked, so that the
/// run ends here. What they wrote before is visible to all afterwards.
///
/// A thread must not ask `panicked` itself when it leaves: one that is already in the next step may have panicked there,
/// and would wait at the next barrier for a thread that went home.
fn wait_for_all(shared: &Shared) -> bool {
    if shared.threads == 1 {
        return shared.panicked.load(Ordering::Acquire);
    }
    let generation = shared.generation.load(Ordering::Acquire);
    if shared.arrived.fetch_add(1, Ordering::AcqRel) + 1 == shared.threads {
        shared.arrived.store(0, Ordering::Relaxed);
        let ends = shared.panicked.load(Ordering::Acquire);
        shared.ends.store(ends, Ordering::Relaxed); // published by the next line
        shared.generation.fetch_add(1, Ordering::Release);
        return ends;
    }
    let mut spins = 0;
    while shared.generation.load(Ordering::Acquire) == generation {
        if spins < SPINS {
            spins += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
    shared.ends.load(Ordering::Relaxed) // the next barrier, which alone changes it, waits for this thread
}
