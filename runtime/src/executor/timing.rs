//! When steps ran.

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

/// Takes the time of steps; used by the thread that starts a run.
#[derive(Debug)]
pub(super) struct Clock {
    origin: Instant,
    on: bool,
    timings: Vec<StepTiming>,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { origin: Instant::now(), on: false, timings: Vec::new() }
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
        self.timings.clear();
    }

    pub(super) fn start_step(&mut self, entry: usize, step: usize) {
        if self.on {
            let start_ns = self.now();
            self.timings.push(StepTiming { entry, step, start_ns, end_ns: start_ns, stall_ns: 0 });
        }
    }

    /// The step that was started last waited for `stall_ns`.
    pub(super) fn stalled(&mut self, stall_ns: u64) {
        if let Some(timing) = self.timings.last_mut() {
            timing.stall_ns = stall_ns;
        }
    }

    pub(super) fn end_step(&mut self) {
        if self.on {
            let now = self.now();
            if let Some(timing) = self.timings.last_mut() {
                timing.end_ns = now;
            }
        }
    }

    fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}
