//! Runs a plan: everything is bound once, then steps run tile by tile on a team of threads.
//!
//! In a run there is no allocation, no lock and no look-up: a step's kernel knows its memory, threads claim tiles from an
//! atomic counter, and a barrier ends the step. Which thread computes a tile changes nothing. Weights that the plan
//! streams are read by a thread of their own, ahead of the steps that need them.
//!
//! Does not: know what the entry points mean; see [`crate::train`].

mod bind;
mod copies;
mod inspect;
#[cfg(test)]
mod jitter;
mod read_ahead;
mod reader;
mod signal;
mod stream;
mod team;
mod tiles;
mod timing;

use crate::kernels::{Element, Kernel, KernelError, View};
use crate::memory::node_policy::Interleaved;
use crate::memory::region::{OutOfMemory, Region};
use crate::topology::Topology;
use copies::Copies;
use gptjc_graphs::plan::{Plan, verify::PlanError};
use gptjc_graphs::shape::{Extents, TensorType};
use read_ahead::ReadAhead;
use reader::Reader;
use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use team::{End, Part, Team};

pub use bind::WeightStore;
pub use inspect::NotFinite;
pub use stream::Streamed;
pub use timing::{StepTime, StepTiming, StepTotals};

/// A plan that cannot be bound or run.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The plan contradicts itself.
    #[error("the plan contradicts itself: {0}; compile it again with `gptjc compile`")]
    Plan(#[from] PlanError),
    /// A step's kernel is missing or does not take its operands.
    #[error("entry `{entry}`, step {step}: {source}")]
    Kernel {
        /// Entry point.
        entry: String,
        /// Index of the step.
        step: usize,
        /// What is wrong.
        source: Box<KernelError>,
    },
    /// Not enough memory.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// A buffer that the plan does not have.
    #[error("the plan has no buffer `{0}`; compile it again with `gptjc compile`")]
    NoBuffer(String),
    /// A buffer of another type or size.
    #[error("buffer `{name}` is {expected}; {found} do not fit")]
    Data {
        /// Name of the buffer.
        name: String,
        /// Its type.
        expected: TensorType,
        /// What was to be written or read.
        found: String,
    },
    /// An entry point that the plan does not have.
    #[error("the plan has no entry point `{0}`; compile it again with `gptjc compile`")]
    NoEntry(String),
    /// More data than the plan was compiled for.
    #[error("the batch has {found} {extent}, the plan was compiled for at most {bound}")]
    Extent {
        /// Which extent.
        extent: &'static str,
        /// How much the batch has.
        found: usize,
        /// How much the plan takes.
        bound: usize,
    },
    /// A thread of the team cannot be started.
    #[error("cannot start a thread: {0}; lower --threads")]
    Thread(#[from] std::io::Error),
    /// A kernel panicked.
    #[error("a kernel of entry `{0}` panicked: this is an error in gptjc, please report it")]
    Panicked(String),
    /// A streamed weight cannot be read.
    #[error(
        "cannot read tensor `{tensor}` from `{}`: {source}; check the disk, or copy or download the file again",
        file.display()
    )]
    Read {
        /// The tensor.
        tensor: String,
        /// The file that it is in.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Somebody raised the stop flag.
    #[error("entry `{0}` was stopped")]
    Stopped(String),
}

/// One bound entry point.
struct BoundEntry {
    name: String,
    /// For each NUMA node that has copies of weights, or once for all: a kernel for each step.
    kernels: Vec<Vec<Box<dyn Kernel>>>,
    /// Number of its loads.
    loads: u64,
    /// For each step, how many of them must be done before it.
    needs: Vec<u64>,
    /// Smallest bound of each extent among the entry's buffers.
    bounds: Extents,
}

impl BoundEntry {
    /// The kernels for threads of NUMA node `node`, by index among those with threads.
    fn kernels_of(&self, node: usize) -> &[Box<dyn Kernel>] {
        self.kernels.get(node).or(self.kernels.first()).map_or(&[], Vec::as_slice)
    }

    /// Number of steps.
    fn steps(&self) -> usize {
        self.kernels_of(0).len()
    }
}

/// A plan bound to memory.
struct Bound {
    // Dropped first: the kernels hold views of what follows.
    entries: Vec<BoundEntry>,
    named: HashMap<String, View>,
    /// Of every buffer, by index.
    views: Vec<View>,
    scratch: usize,
    /// Where in `persistent` buffers lie.
    kept: Vec<Range<usize>>,
    _arena: Region,
    persistent: Region,
    stream: Region,
    /// Of weights, by NUMA node.
    copies: Vec<Copies>,
    _weights: WeightStore,
}

/// A plan, ready to run.
pub struct Executor {
    team: Team,
    // Dropped before what it reads into.
    reader: Reader,
    bound: Arc<Bound>,
    plan: Plan,
    _read_ahead: ReadAhead,
}

impl Executor {
    /// Binds `plan` to fresh memory and to `weights`, with a team of `threads` threads on this machine.
    ///
    /// # Errors
    /// [`ExecutorError`] if the plan does not hold, a kernel or weight is missing, or memory or threads are refused.
    pub fn new(plan: Plan, weights: WeightStore, threads: usize) -> Result<Self, ExecutorError> {
        Self::on(&Topology::host(), plan, weights, threads)
    }

    /// As [`new`](Self::new), with the threads placed on `topology`.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn on(
        topology: &Topology,
        plan: Plan,
        weights: WeightStore,
        threads: usize,
    ) -> Result<Self, ExecutorError> {
        Self::stopped_by(topology, plan, weights, threads, Arc::default())
    }

    /// As [`on`](Self::on), with `stop` as its [stop flag](Self::stop_flag), which may be another executor's too.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn stopped_by(
        topology: &Topology,
        plan: Plan,
        weights: WeightStore,
        threads: usize,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, ExecutorError> {
        let placement = topology.place(threads);
        let is_copied = plan.buffers.iter().any(|buffer| buffer.copied);
        let spread = if is_copied || topology.pretended { Vec::new() } else { placement.nodes() };
        let read_ahead = weights.read_ahead(&plan, spread.clone());
        let (bound, reader) = {
            // For weights that are converted.
            let _policy = Interleaved::over(&spread);
            bind::bind(&plan, weights, &placement)?
        };
        let bound = Arc::new(bound);
        let reader = reader; // declared after what it reads into, so that it is dropped before on an error
        let team = Team::new(placement, &bound, &reader.stream, stop)?;
        Ok(Self { team, reader, bound, plan, _read_ahead: read_ahead })
    }

    /// What does not work as it might, and changes no result: one sentence each, for people.
    pub fn remarks(&self) -> Vec<String> {
        let refused = self.team.refused();
        refused.map(|error| format!("threads are not bound to cores: {error}")).into_iter().collect()
    }

    /// Raised, it ends the run under way after the step at which it is seen, with [`ExecutorError::Stopped`], and no other
    /// begins until it is taken back. What the run was to write is then undefined.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(self.team.stop_flag())
    }

    /// What was read of streamed weights since the executor was made, and what that cost.
    pub fn streamed(&self) -> Streamed {
        self.reader.stream.streamed()
    }

    /// Switches on or off that runs take the time of every step.
    pub fn record(&mut self, on: bool) {
        let steps = self.plan.entries.iter().map(|entry| entry.steps.len()).max().unwrap_or(0);
        self.team.clock.record(on, steps);
    }

    /// When the steps of the last run ran, in order; empty if that was not recorded.
    pub fn timings(&self) -> &[StepTiming] {
        self.team.clock.timings()
    }

    /// What steps took since the executor was made, to be looked at while it runs.
    pub fn step_totals(&self) -> Arc<StepTotals> {
        Arc::clone(self.team.clock.totals())
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// NUMA nodes that have copies of weights of their own; 0 if all read the same.
    pub fn weight_copies(&self) -> usize {
        self.bound.copies.len()
    }

    /// Threads of the team.
    pub fn threads(&self) -> usize {
        self.team.threads()
    }

    /// True if the plan has a buffer called `name`.
    pub fn has(&self, name: &str) -> bool {
        self.bound.named.contains_key(name)
    }

    fn view(&self, name: &str) -> Result<&View, ExecutorError> {
        self.bound.named.get(name).ok_or_else(|| ExecutorError::NoBuffer(name.to_owned()))
    }

    fn checked<T: Element>(&self, name: &str, elements: usize) -> Result<&View, ExecutorError> {
        let view = self.view(name)?;
        if view.ty().dtype != T::DTYPE || elements > view.ty().elements() {
            let found = format!("{elements} elements of {}", T::DTYPE);
            return Err(ExecutorError::Data { name: name.to_owned(), expected: view.ty().clone(), found });
        }
        Ok(view)
    }

    /// Writes the first elements of the buffer `name`; the rest is left alone.
    ///
    /// # Errors
    /// [`ExecutorError`] if there is no such buffer, it has another type, or `data` are too many.
    pub fn write<T: Element>(&mut self, name: &str, data: &[T]) -> Result<(), ExecutorError> {
        self.write_at(name, 0, data)
    }

    /// All elements of the buffer `name`.
    ///
    /// # Errors
    /// [`ExecutorError`] if there is no such buffer or it has another type.
    pub fn read<T: Element>(&mut self, name: &str) -> Result<Vec<T>, ExecutorError> {
        let elements = self.view(name)?.ty().elements();
        self.read_first(name, elements)
    }

    /// As [`write`](Self::write), from element `start` on.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn write_at<T: Element>(
        &mut self,
        name: &str,
        start: usize,
        data: &[T],
    ) -> Result<(), ExecutorError> {
        let view = self.checked::<T>(name, start.saturating_add(data.len()))?.clone();
        bind::copy_in(&mut self.team, view, start, data);
        Ok(())
    }

    /// The elements in `range` of the buffer `name`.
    ///
    /// # Errors
    /// As for [`read_first`](Self::read_first).
    pub fn read_range<T: Element>(
        &mut self,
        name: &str,
        range: Range<usize>,
    ) -> Result<Vec<T>, ExecutorError> {
        let view = self.checked::<T>(name, range.end)?.clone();
        Ok(bind::copy_out(&mut self.team, view, range))
    }

    /// The first `elements` elements of the buffer `name`.
    ///
    /// # Errors
    /// [`ExecutorError`] if there is no such buffer, it has another type, or it has fewer elements.
    pub fn read_first<T: Element>(&mut self, name: &str, elements: usize) -> Result<Vec<T>, ExecutorError> {
        self.read_range(name, 0..elements)
    }

    /// Runs the entry point called `name`.
    ///
    /// # Errors
    /// [`ExecutorError`] if there is no such entry point, the extents exceed the plan's bounds, a kernel panics, a
    /// streamed weight cannot be read, or the [stop flag](Self::stop_flag) is raised.
    pub fn run(&mut self, name: &str, extents: &Extents) -> Result<(), ExecutorError> {
        self.run_part(name, extents, Part { entry: 0, go_on: false, end: usize::MAX, may_stop: true })
    }

    /// Runs the entry point called `name` up to its step `end`, and not that step: from the first, or from where the last
    /// call for the same entry point ended, if nothing else ran since. The extents are those of that call; the stop flag is
    /// not heeded. Temporaries stay what they are until something else runs.
    ///
    /// # Errors
    /// As for [`run`](Self::run), but for the stop flag.
    pub fn run_until(&mut self, name: &str, extents: &Extents, end: usize) -> Result<(), ExecutorError> {
        self.run_part(name, extents, Part { entry: 0, go_on: true, end, may_stop: false })
    }

    /// Runs `part` of the entry point called `name`, whatever entry it has.
    fn run_part(&mut self, name: &str, extents: &Extents, part: Part) -> Result<(), ExecutorError> {
        let entry = self.bound.entries.iter().position(|entry| entry.name == name);
        let entry = entry.ok_or_else(|| ExecutorError::NoEntry(name.to_owned()))?;
        let bounds = &self.bound.entries[entry].bounds;
        let pairs = [
            ("slots", extents.slots, bounds.slots),
            ("labelled rows", extents.rows, bounds.rows),
            ("windows", extents.windows, bounds.windows),
            ("segments", extents.segments, bounds.segments),
        ];
        for (extent, found, bound) in pairs {
            // An entry point without a dimension of this kind takes any extent of it.
            if bound > 0 && found > bound {
                return Err(ExecutorError::Extent { extent, found, bound });
            }
        }
        match self.team.run(Part { entry, ..part }, extents) {
            End::Done => Ok(()),
            End::Panicked => Err(ExecutorError::Panicked(name.to_owned())),
            End::Stopped => Err(ExecutorError::Stopped(name.to_owned())),
            End::Starved => {
                let error = self.reader.stream.take_error();
                Err(error.unwrap_or_else(|| ExecutorError::Panicked(name.to_owned())))
            }
        }
    }
}

#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;
