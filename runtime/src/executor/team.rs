//! The team: threads that run an entry point together.
//!
//! A run is announced under a lock, once; inside it threads claim tiles from counters (see [`Tiles`]) and meet at a
//! barrier after each phase of a step. The thread that starts a run is one of the team; for that time it is bound to its
//! core and computes under the team's floating-point control word, as the others always do.

use super::signal::Signal;
use super::stream::{Before, Sessions, Stream};
use super::tiles::Tiles;
use super::timing::{Clock, StepTotals};
use super::{Bound, BoundEntry};
use crate::isa::ControlWord;
use crate::kernels::Kernel;
use crate::topology::{CpuMask, Placement};
use gptjc_graphs::shape::Extents;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What the threads are to do next.
#[derive(Clone, Copy, Default)]
struct Job {
    /// Counts runs, so that a thread sees a new one.
    epoch: u64,
    entry: usize,
    extents: Extents,
    /// First step, and the one to end before.
    steps: (usize, usize),
    /// Whether the stop flag ends the run.
    may_stop: bool,
    /// Loads and steps of the session before this run.
    before: Before,
    stop: bool,
}

/// Which part of an entry point is to run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) entry: usize,
    /// Begin where the last part of the same entry point ended, if nothing ran since.
    pub(super) go_on: bool,
    /// Step to end before.
    pub(super) end: usize,
    /// Whether the stop flag ends it.
    pub(super) may_stop: bool,
}

/// A run that ended before its last step because no more was asked for.
#[derive(Clone, Copy, Debug)]
struct Paused {
    entry: usize,
    next: usize,
    before: Before,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum End {
    /// Every step is done.
    Done,
    /// A kernel panicked, in this run or an earlier one.
    Panicked,
    /// Somebody raised the stop flag.
    Stopped,
    /// A weight that a step needs cannot be read.
    Starved,
}

impl End {
    /// By number.
    const ALL: [End; 4] = [End::Done, End::Panicked, End::Stopped, End::Starved];
}

struct Shared {
    bound: Arc<Bound>,
    stream: Arc<Stream>,
    placement: Placement,
    /// The NUMA node of each thread, by index among those with threads.
    nodes: Vec<usize>,
    /// What each thread is bound to.
    masks: Vec<Option<CpuMask>>,
    job: Mutex<Job>,
    /// The job's epoch.
    announced: Signal,
    /// Threads that have started.
    started: Signal,
    /// Why a thread could not be bound, if one could not.
    refused: Mutex<Option<std::io::Error>>,
    tiles: Tiles,
    arrived: AtomicUsize,
    generation: Signal,
    panicked: AtomicBool,
    stop: Arc<AtomicBool>,
    /// How the last thread at a barrier says that the run goes on: an [`End`], where `Done` stands for "nothing ends it".
    verdict: AtomicU8,
}

/// A team of threads; the thread that calls [`run`](Self::run) is one of them.
pub(super) struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    scratch: Vec<f32>,
    sessions: Sessions,
    paused: Option<Paused>,
    pub(super) clock: Clock,
}

impl Team {
    /// Starts all threads of `placement` but the first, which is the caller's, and returns when they wait for work. `stop`
    /// is the flag that ends runs.
    pub(super) fn new(
        placement: Placement,
        bound: &Arc<Bound>,
        stream: &Arc<Stream>,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, std::io::Error> {
        let phases = |entry: &BoundEntry| -> usize {
            entry.kernels_of(0).iter().map(|kernel| kernel.phases(&entry.bounds)).sum()
        };
        let phases = bound.entries.iter().map(phases).max().unwrap_or(0);
        let mask = |cpus: &Vec<usize>| if cpus.is_empty() { None } else { CpuMask::new(cpus) };
        let shared = Arc::new(Shared {
            bound: Arc::clone(bound),
            stream: Arc::clone(stream),
            nodes: (0..placement.places.len()).map(|thread| placement.node_of(thread)).collect(),
            masks: placement.places.iter().map(|place| mask(&place.cpus)).collect(),
            job: Mutex::new(Job::default()),
            announced: Signal::default(),
            started: Signal::default(),
            refused: Mutex::new(None),
            tiles: Tiles::new(phases, &placement.domains),
            placement,
            arrived: AtomicUsize::new(0),
            generation: Signal::default(),
            panicked: AtomicBool::new(false),
            stop,
            verdict: AtomicU8::new(End::Done as u8),
        });
        let (workers, scratch) = (Vec::new(), Vec::new());
        let sessions = Sessions::default();
        let clock = Clock::new(StepTotals::new(bound.entries.iter().map(BoundEntry::steps)));
        let mut team = Self { shared, workers, scratch, sessions, paused: None, clock };
        for index in 1..team.threads() {
            let shared = Arc::clone(&team.shared);
            let builder = std::thread::Builder::new().name(format!("gptjc-{index}"));
            team.workers.push(builder.spawn(move || work(&shared, index))?); // on an error, Drop ends those that started
        }
        {
            let _bound = team.shared.bind(0);
            team.scratch = prepare(&team.shared, 0);
        }
        let workers = team.workers.len() as u64;
        team.shared.started.wait(|started| started == workers);
        Ok(team)
    }

    pub(super) fn threads(&self) -> usize {
        self.shared.placement.places.len()
    }

    /// Why threads run without being bound, if they were to be.
    pub(super) fn refused(&self) -> Option<String> {
        lock(&self.shared.refused).as_ref().map(ToString::to_string)
    }

    pub(super) fn stop_flag(&self) -> &Arc<AtomicBool> {
        &self.shared.stop
    }

    /// Runs a part of an entry point, or all of it.
    pub(super) fn run(&mut self, part: Part, extents: &Extents) -> End {
        let shared = &*self.shared;
        let Part { entry, go_on, may_stop, .. } = part;
        let paused = self.paused.take().filter(|paused| go_on && paused.entry == entry);
        if shared.panicked.load(Ordering::Acquire) {
            return End::Panicked;
        }
        if may_stop && shared.stop.load(Ordering::Acquire) {
            return End::Stopped;
        }
        let _word = ControlWord::set();
        let _bound = shared.bind(0);
        shared.tiles.reset();
        self.clock.start_run();
        let bound = &shared.bound.entries[entry];
        let (loads, steps) = (bound.loads, bound.steps() as u64);
        let (first, before) = match paused {
            Some(paused) => (paused.next, paused.before),
            None => (0, self.sessions.begin_run(&shared.stream, entry, loads, steps)),
        };
        let end_step = part.end.min(bound.steps());
        let mut job = lock(&shared.job);
        let epoch = job.epoch + 1;
        *job =
            Job { epoch, entry, extents: *extents, steps: (first, end_step), may_stop, before, stop: false };
        let current = *job;
        drop(job);
        shared.announced.set(current.epoch);
        let end = run_entry(shared, 0, &current, &mut self.scratch, Some(&mut self.clock));
        if end == End::Done && end_step == bound.steps() {
            self.sessions.end_run(entry, before, loads);
        } else if end == End::Done {
            self.paused = Some(Paused { entry, next: end_step, before });
        }
        end
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        let mut job = lock(&self.shared.job);
        job.stop = true;
        job.epoch += 1;
        self.shared.announced.set(job.epoch);
        drop(job);
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // a worker catches its panics
        }
    }
}

impl Shared {
    /// Binds the calling thread to its place as long as the result lives. A refusal is noted and changes nothing else.
    fn bind(&self, thread: usize) -> Option<crate::topology::BoundThread> {
        match self.masks[thread].as_ref()?.bind() {
            Ok(bound) => Some(bound),
            Err(error) => {
                lock(&self.refused).get_or_insert(error);
                None
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner) // no code that can panic runs under these locks
}

/// The calling thread's scratch; its share of the memory that is kept between runs is touched, so that the system puts
/// it on the thread's own NUMA node.
fn prepare(shared: &Shared, thread: usize) -> Vec<f32> {
    if shared.placement.domains.len() > 1 {
        // SAFETY: no run has begun, and each thread has another share.
        unsafe { shared.bound.touch(thread, shared.placement.places.len()) };
    }
    vec![0.0; shared.bound.scratch]
}

fn work(shared: &Shared, thread: usize) {
    let _word = ControlWord::set();
    let _bound = shared.bind(thread);
    let mut scratch = prepare(shared, thread);
    shared.started.add(1);
    let mut seen = 0;
    loop {
        shared.announced.wait(|epoch| epoch > seen);
        let job = *lock(&shared.job);
        if job.stop {
            return;
        }
        seen = job.epoch;
        run_entry(shared, thread, &job, &mut scratch, None);
    }
}

/// A thread's part of a run: some tiles of every phase of every step. One thread has the `clock`.
fn run_entry(
    shared: &Shared,
    thread: usize,
    job: &Job,
    scratch: &mut [f32],
    mut clock: Option<&mut Clock>,
) -> End {
    let domain = shared.placement.places[thread].domain;
    let BoundEntry { needs, loads, .. } = &shared.bound.entries[job.entry];
    let kernels = shared.bound.entries[job.entry].kernels_of(shared.nodes[thread]);
    let mut phases_before = 0;
    let (first, last) = job.steps;
    for (step, kernel) in kernels.iter().enumerate().take(last).skip(first) {
        if let Some(clock) = &mut clock {
            clock.start_step(job.entry, step);
        }
        if *loads > 0 && !wait_for_loads(shared, job.before.loads + needs[step], &mut clock) {
            // All threads come here. None may leave before the others have seen why.
            wait_for_all(shared, false);
            return End::Starved;
        }
        let phases = kernel.phases(&job.extents);
        for phase in 0..phases {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                run_phase(shared, &**kernel, phase, phases_before + phase, domain, &job.extents, scratch);
            }));
            if outcome.is_err() {
                shared.panicked.store(true, Ordering::Release);
            }
            // The end of the last step is the end of the run, whoever wants to stop it.
            let may_stop = job.may_stop && phase + 1 == phases && step + 1 < kernels.len();
            match wait_for_all(shared, may_stop) {
                End::Done => {}
                end @ (End::Panicked | End::Stopped | End::Starved) => return end,
            }
        }
        phases_before += phases;
        if let Some(clock) = &mut clock {
            clock.end_step();
            if *loads > 0 {
                shared.stream.count_steps(job.before.steps + step as u64 + 1);
            }
        }
    }
    End::Done
}

/// Waits until `loads` loads of the session are done; false, to all threads, if they never will be. The thread with the
/// clock takes the time.
fn wait_for_loads(shared: &Shared, loads: u64, clock: &mut Option<&mut Clock>) -> bool {
    #[cfg(test)]
    super::jitter::pause();
    let Some(clock) = clock else { return shared.stream.wait(loads) };
    let (ready, nanoseconds) = shared.stream.wait_timed(loads);
    clock.stalled(nanoseconds);
    ready
}

/// Tiles of one phase, until all are claimed. `counter` is the phase's index among those of the entry point.
fn run_phase(
    shared: &Shared,
    kernel: &dyn Kernel,
    phase: usize,
    counter: usize,
    domain: usize,
    extents: &Extents,
    scratch: &mut [f32],
) {
    let tiles = kernel.tiles(phase, extents);
    let row_tiles = kernel.row_tiles(phase, extents).unwrap_or(tiles);
    shared.tiles.claim(counter, domain, tiles, row_tiles, |tile| {
        // SAFETY: the plan was verified: operands of a step are not among what any thread writes in it, and were written
        // before the last barrier; each tile of a phase is claimed by one thread only, and a barrier ends the phase;
        // regions and weights live in `Bound`; extents were checked against the bounds; scratch is the largest of all
        // kernels.
        unsafe { kernel.run_tile(phase, tile, extents, scratch) };
    });
}

/// Returns when every thread of the team has arrived, to all of them the same: what ends the run here, or `Done` if
/// nothing does. What they wrote before is visible to all afterwards.
///
/// A thread must not ask `panicked` itself when it leaves: one that is already in the next step may have panicked there,
/// and would wait at the next barrier for a thread that went home.
fn wait_for_all(shared: &Shared, may_stop: bool) -> End {
    let generation = shared.generation.get();
    let threads = shared.placement.places.len();
    if shared.arrived.fetch_add(1, Ordering::AcqRel) + 1 == threads {
        shared.arrived.store(0, Ordering::Relaxed);
        let end = if shared.panicked.load(Ordering::Acquire) {
            End::Panicked
        } else if may_stop && shared.stop.load(Ordering::Acquire) {
            End::Stopped
        } else {
            End::Done
        };
        shared.verdict.store(end as u8, Ordering::Relaxed); // published by the next line
        shared.generation.add(1);
        return end;
    }
    shared.generation.wait(|now| now != generation);
    // The next barrier, which alone changes it, waits for this thread.
    End::ALL[usize::from(shared.verdict.load(Ordering::Relaxed))]
}
