//! When steps ran, and how long in all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// When a step of the last run ran, in nanoseconds since the executor was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepTiming {
    /// Index of the entry point.
    pub entry: usize,
    /// Index of the step.
    pub step: usize,
    /// When its turn came.
    pub start_ns: u64,
    /// When all threads were done with it.
    pub end_ns: u64,
    /// How long it waited for weights to be read, from its start on.
    pub stall_ns: u64,
}

/// What the steps of a plan took since its executor was made. It may be read while they run.
#[derive(Debug)]
pub struct StepTotals {
    /// For each entry point, for each of its steps.
    entries: Vec<Vec<StepTotal>>,
}

#[derive(Debug, Default)]
struct StepTotal {
    runs: AtomicU64,
    /// Nanoseconds of work, and of waiting for weights before it.
    busy: AtomicU64,
    stalled: AtomicU64,
}

/// What a step took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepTime {
    /// How often it ran.
    pub runs: u64,
    /// Seconds of work.
    pub busy: f64,
    /// Seconds that it waited for weights to be read.
    pub stalled: f64,
}

impl StepTotals {
    /// Nothing yet, for entry points with so many steps.
    pub(crate) fn new(steps: impl Iterator<Item = usize>) -> Self {
        let entry = |steps| std::iter::repeat_with(StepTotal::default).take(steps).collect();
        Self { entries: steps.map(entry).collect() }
    }

    /// What the steps of entry point `entry` took, in order; nothing if there is no such entry point.
    pub fn steps(&self, entry: usize) -> impl Iterator<Item = StepTime> {
        let seconds = |nanoseconds: &AtomicU64| nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
        self.entries.get(entry).into_iter().flatten().map(move |total| StepTime {
            runs: total.runs.load(Ordering::Relaxed),
            busy: seconds(&total.busy),
            stalled: seconds(&total.stalled),
        })
    }

    fn add(&self, timing: &StepTiming) {
        let total = self.entries.get(timing.entry).and_then(|steps| steps.get(timing.step));
        if let Some(total) = total {
            let all = timing.end_ns.saturating_sub(timing.start_ns);
            total.runs.fetch_add(1, Ordering::Relaxed);
            total.busy.fetch_add(all.saturating_sub(timing.stall_ns), Ordering::Relaxed);
            total.stalled.fetch_add(timing.stall_ns, Ordering::Relaxed);
        }
    }
}

/// Takes the time of steps; used by the thread that starts a run.
#[derive(Debug)]
pub(super) struct Clock {
    origin: Instant,
    totals: Arc<StepTotals>,
    /// The step under way.
    current: Option<StepTiming>,
    on: bool,
    timings: Vec<StepTiming>,
}

impl Clock {
    pub(super) fn new(totals: StepTotals) -> Self {
        let (origin, totals) = (Instant::now(), Arc::new(totals));
        Self { origin, totals, current: None, on: false, timings: Vec::new() }
    }

    pub(super) fn totals(&self) -> &Arc<StepTotals> {
        &self.totals
    }

    /// Switches recording on or off; runs of up to `steps` steps then allocate nothing.
    pub(super) fn record(&mut self, on: bool, steps: usize) {
        self.on = on;
        self.timings.clear();
        if on {
            self.timings.reserve(steps);
        }
    }

    pub(super) fn timings(&self) -> &[StepTiming] {
        &self.timings
    }

    pub(super) fn start_run(&mut self) {
        self.current = None;
        self.timings.clear();
    }

    pub(super) fn start_step(&mut self, entry: usize, step: usize) {
        let start_ns = self.now();
        self.current = Some(StepTiming { entry, step, start_ns, end_ns: start_ns, stall_ns: 0 });
    }

    /// The step under way waited for `stall_ns`.
    pub(super) fn stalled(&mut self, stall_ns: u64) {
        if let Some(timing) = &mut self.current {
            timing.stall_ns = stall_ns;
        }
    }

    pub(super) fn end_step(&mut self) {
        let end_ns = self.now();
        if let Some(timing) = self.current.take() {
            let timing = StepTiming { end_ns, ..timing };
            self.totals.add(&timing);
            if self.on {
                self.timings.push(timing);
            }
        }
    }

    fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_counted_whether_timings_are_kept_or_not() {
        let mut clock = Clock::new(StepTotals::new([2, 1].into_iter()));
        for on in [false, true] {
            clock.record(on, 2);
            clock.start_run();
            clock.start_step(0, 1);
            clock.stalled(0);
            clock.end_step();
            clock.start_step(1, 0);
            clock.end_step();
            assert_eq!(clock.timings().len(), if on { 2 } else { 0 });
        }
        let runs = |entry| clock.totals().steps(entry).map(|step| step.runs).collect::<Vec<_>>();
        assert_eq!((runs(0), runs(1), runs(2)), (vec![0, 2], vec![2], vec![]));
    }

    #[test]
    fn work_and_waiting_are_apart() {
        let totals = StepTotals::new([1].into_iter());
        let timing = StepTiming { entry: 0, step: 0, start_ns: 1_000, end_ns: 2_001_000, stall_ns: 500_000 };
        totals.add(&timing);
        totals.add(&StepTiming { entry: 3, ..timing });
        let found: Vec<StepTime> = totals.steps(0).collect();
        assert_eq!(found, [StepTime { runs: 1, busy: 0.0015, stalled: 0.0005 }]);
    }
}
