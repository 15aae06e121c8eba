//! What the team and the reader tell each other about streamed weights.
//!
//! A *session* is a sequence of runs of one entry point that has loads. In it, loads and steps are counted on from run to
//! run: the reader carries out the loads one after the other, each as soon as the steps that it waits for are counted,
//! also those of a run that has not begun; the team begins a step when the loads that it needs are counted. Runs of
//! entry points without loads leave a session alone. A run of another entry point with loads, or one after a run that
//! did not get to its end, begins a new session: what was read ahead is lost.

use super::ExecutorError;
use super::signal::Signal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// In the count of steps: the reader is to leave the session.
const INTERRUPT: u64 = 1 << 63;
/// In the count of loads: no further load will be counted in this session.
const FAILED: u64 = 1 << 63;
/// In the number of the session: the reader is to end.
const QUIT: u64 = 1 << 63;

/// What was read, and what that cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streamed {
    /// Bytes read from the checkpoint.
    pub bytes: u64,
    /// How long steps waited for loads.
    pub stall: Duration,
}

/// When a load of an entry point may start and must be there, in steps; see [`gptjc_graphs::plan::Load`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub(super) after_step: u64,
    pub(super) previous_after_step: u64,
}

impl Schedule {
    /// How many steps of a session must be counted before the load of run `run` may start, in an entry point of `steps`
    /// steps.
    pub(super) fn start(&self, run: u64, steps: u64) -> u64 {
        let own = if self.after_step > 0 { run * steps + self.after_step } else { 0 };
        let previous = if run > 0 { (run - 1) * steps + self.previous_after_step } else { 0 };
        own.max(previous)
    }
}

/// What the team and the reader share.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Loads that are done in this session.
    loads: Signal,
    /// Steps that are done in this session.
    steps: Signal,
    /// Number of the session that the reader is to carry out.
    session: Signal,
    /// Number of the last session that the reader has left.
    left: Signal,
    /// Entry point of the session.
    entry: AtomicU64,
    bytes: AtomicU64,
    stall_ns: AtomicU64,
    error: Mutex<Option<ExecutorError>>,
}

/// The reader's side.
impl Stream {
    /// Leaves session `last`, and waits for the next: its number and entry point, or none if there will be no other.
    pub(super) fn next_session(&self, last: u64) -> Option<(u64, usize)> {
        self.left.set(last);
        let session = self.session.wait(|session| session > last);
        (session & QUIT == 0).then(|| (session, self.entry.load(Ordering::Relaxed) as usize))
    }

    /// Waits until `steps` steps are done; false if the session is over.
    pub(super) fn may_start(&self, steps: u64) -> bool {
        self.steps.wait(|done| done >= steps) & INTERRUPT == 0 // which is larger than every count
    }

    /// True if the session is over.
    pub(super) fn interrupted(&self) -> bool {
        self.steps.get() & INTERRUPT != 0
    }

    pub(super) fn count_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// One more load is done.
    pub(super) fn count_load(&self) {
        self.loads.add(1);
    }

    /// There will be no more loads in this session; returns when it is over.
    pub(super) fn fail(&self, error: ExecutorError) {
        *self.error() = Some(error);
        self.loads.insert(FAILED);
        self.steps.wait(|steps| steps & INTERRUPT != 0);
    }
}

/// The team's side.
impl Stream {
    /// Begins session `session`, with runs of `entry`; waits for the reader to leave the one before.
    fn begin(&self, session: u64, entry: usize) {
        self.interrupt(session - 1);
        self.loads.set(0);
        self.steps.set(0);
        *self.error() = None;
        self.entry.store(entry as u64, Ordering::Relaxed); // published with the session's number
        self.session.set(session);
    }

    /// Ends session `session`; returns when the reader touches nothing any more.
    fn interrupt(&self, session: u64) {
        self.steps.insert(INTERRUPT);
        self.left.wait(|left| left == session);
    }

    /// The reader ends, and every session with it.
    pub(super) fn quit(&self) {
        self.steps.insert(INTERRUPT);
        self.session.insert(QUIT);
    }

    /// Waits until `loads` loads are done: true if they are, false if they never will be. Every thread that asks gets the
    /// same answer, because nothing is counted after a failure.
    pub(super) fn wait(&self, loads: u64) -> bool {
        let done = self.loads.wait(|done| done & !FAILED >= loads || done & FAILED != 0);
        done & !FAILED >= loads
    }

    /// As [`wait`](Self::wait), and how many nanoseconds that took.
    pub(super) fn wait_timed(&self, loads: u64) -> (bool, u64) {
        if self.loads.get() & !FAILED >= loads {
            return (true, 0);
        }
        let begin = Instant::now();
        let ready = self.wait(loads);
        let nanoseconds = begin.elapsed().as_nanos() as u64;
        self.stall_ns.fetch_add(nanoseconds, Ordering::Relaxed);
        (ready, nanoseconds)
    }

    /// `steps` steps of the session are done.
    pub(super) fn count_steps(&self, steps: u64) {
        self.steps.set(steps);
    }

    pub(super) fn streamed(&self) -> Streamed {
        Streamed {
            bytes: self.bytes.load(Ordering::Relaxed),
            stall: Duration::from_nanos(self.stall_ns.load(Ordering::Relaxed)),
        }
    }

    /// Why a session failed.
    pub(super) fn take_error(&self) -> Option<ExecutorError> {
        self.error().take()
    }

    fn error(&self) -> MutexGuard<'_, Option<ExecutorError>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner) // nothing under the lock panics
    }
}

/// Loads and steps of a session before the current run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    pub(super) loads: u64,
    pub(super) steps: u64,
}

/// Which session is under way; kept by the thread that starts runs.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    number: u64,
    /// Entry point and whole runs of the session; none if it cannot go on.
    current: Option<(usize, u64)>,
}

impl Sessions {
    /// A run of `entry`, which has `loads` loads and `steps` steps, begins.
    pub(super) fn begin_run(&mut self, stream: &Stream, entry: usize, loads: u64, steps: u64) -> Before {
        if loads == 0 {
            return Before::default();
        }
        let runs = match self.current {
            Some((current, runs)) if current == entry => runs,
            Some(_) | None => {
                self.number += 1;
                stream.begin(self.number, entry);
                0
            }
        };
        self.current = None; // until the run is whole
        Before { loads: runs * loads, steps: runs * steps }
    }

    /// The run of `entry` that began with `before` is whole.
    pub(super) fn end_run(&mut self, entry: usize, before: Before, loads: u64) {
        if let Some(runs) = before.loads.checked_div(loads) {
            self.current = Some((entry, runs + 1)); // an entry point without loads has no session
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_waits_for_its_own_run_and_for_the_one_before() {
        let free = Schedule { after_step: 0, previous_after_step: 3 };
        assert_eq!([free.start(0, 10), free.start(1, 10), free.start(2, 10)], [0, 3, 13]);
        let bound = Schedule { after_step: 4, previous_after_step: 9 };
        assert_eq!([bound.start(0, 10), bound.start(1, 10)], [4, 14]);
    }

    #[test]
    fn every_thread_gets_the_same_answer_when_loads_fail() {
        let stream = Stream::default();
        stream.begin(1, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(stream.next_session(0), Some((1, 0)));
                stream.count_load();
                stream.fail(ExecutorError::NoEntry("of a test".to_owned()));
                assert_eq!(stream.next_session(1), None);
            });
            for loads in [1, 2, 1, 3] {
                assert_eq!(stream.wait(loads), loads == 1);
            }
            assert!(stream.take_error().is_some() && stream.take_error().is_none());
            stream.quit();
        });
    }
}
