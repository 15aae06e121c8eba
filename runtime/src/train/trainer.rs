//! One optimizer step at a time.

use super::hyper_parameters::hyper_parameters;
use super::parameters::{self, Start};
use super::{NotFiniteStep, StopFlag, TrainError, TrainOptions};
use crate::data::micro_batch::MicroBatch;
use crate::data::window::Window;
use crate::executor::{Executor, WeightStore};
use crate::ranks::Ranks;
use crate::topology::{Pretended, Topology};
use crate::weights::Checkpoint;
use gptjc_graphs::plan::{Memory, Plan};
use gptjc_graphs::shape::Extents;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// What an optimizer step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Index of the step, from 1.
    pub step: u64,
    /// Mean loss over the labelled tokens of the step.
    pub loss: f32,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f32,
    /// Learning rate that the step used.
    pub learning_rate: f64,
    /// Token slots that were computed.
    pub tokens: usize,
    /// Of them, those with a label.
    pub labelled: usize,
    /// Seconds from the first micro-batch (of this process, if the step was resumed) to the new parameters.
    pub seconds: f64,
}

/// A bound plan in training.
pub struct Trainer {
    executor: Executor,
    checkpoint: Arc<Checkpoint>,
    options: TrainOptions,
    batch: MicroBatch,
    done: u64,
    /// Who trains together.
    pub(super) ranks: Ranks,
}

impl Trainer {
    /// Binds `plan` to the weights of `checkpoint` and to parameters from `start`.
    ///
    /// # Errors
    /// [`TrainError`] if checkpoint or adapter are not what the plan was compiled for, or memory is refused.
    pub fn new(
        plan: Plan,
        checkpoint: Arc<Checkpoint>,
        start: Start,
        options: TrainOptions,
    ) -> Result<Self, TrainError> {
        check_step_windows(&plan, &options)?;
        checkpoint.check(&parameters::checkpoint_specs(&plan))?;
        let initial = parameters::initial(&plan, &checkpoint, start, options.seed)?;
        let compile = &plan.options;
        let batch = MicroBatch::with_capacity(compile.micro_batch as usize, compile.max_seq_length as usize);
        let weights = WeightStore::new(Arc::clone(&checkpoint));
        let topology = options.topology.map_or_else(Topology::host, Pretended::topology);
        let mut executor = Executor::on(&topology, plan, weights, options.threads)?;
        for (name, values) in initial {
            executor.write(&name, &values)?;
        }
        executor.run("setup", &Extents::default())?;
        Ok(Self { executor, checkpoint, options, batch, done: 0, ranks: Ranks::alone() })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        self.executor.plan()
    }

    /// The options of the run.
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }

    /// The checkpoint that was bound.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The checkpoint that was bound, to be kept.
    pub fn shared_checkpoint(&self) -> Arc<Checkpoint> {
        Arc::clone(&self.checkpoint)
    }

    /// The executor, to read buffers by name.
    pub fn executor(&mut self) -> &mut Executor {
        &mut self.executor
    }

    /// Optimizer steps done.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// The flag that ends a micro-batch or an evaluation at the next step of the plan. Raised, it also keeps the next from
    /// beginning; an optimizer step that is being applied is finished.
    pub fn stop_flag(&self) -> StopFlag {
        StopFlag::new(self.executor.stop_flag())
    }

    /// Floating-point operations of training on a token, by the estimate that Hugging Face's Trainer logs: 6 for each
    /// parameter that is not an embedding.
    pub fn flops_per_token(&self) -> f64 {
        let plan = self.plan();
        let steps = plan.entries.iter().flat_map(|entry| &entry.steps);
        let embedded = steps.filter(|step| step.kernel.starts_with("embedding-"));
        let tables: Vec<&str> = embedded
            .filter_map(|step| plan.buffers.get(*step.operands.first()? as usize))
            .map(|buffer| buffer.name.as_str())
            .collect();
        let counted = plan.frozen_tensors().chain(plan.buffers_in(Memory::Parameter));
        let counted = counted.filter(|buffer| !tables.contains(&buffer.name.as_str()));
        6.0 * counted.map(|buffer| buffer.elements() as f64).sum::<f64>()
    }

    /// One optimizer step at learning rate `rate` over `windows`, which are its windows 0, 1, ... in the order of every
    /// sum.
    ///
    /// # Errors
    /// [`TrainError`] if the step has no label, or its loss or gradient are not finite.
    pub fn step(&mut self, windows: &[&Window], rate: f64) -> Result<StepReport, TrainError> {
        let begun = Instant::now();
        self.accumulate(windows)?;
        Ok(StepReport { seconds: begun.elapsed().as_secs_f64(), ..self.apply(windows, rate)? })
    }

    /// Forward and backward of all `windows`, in micro-batches and by all ranks; returns token slots and labelled ones.
    ///
    /// # Errors
    /// As [`micro_step`](Self::micro_step); [`TrainError::Ranks`] if another rank failed.
    pub fn accumulate(&mut self, windows: &[&Window]) -> Result<(usize, usize), TrainError> {
        if !self.ranks.is_alone() {
            self.share_sums(windows, 0, &self.stop_flag())?;
            return Ok(count(windows));
        }
        let (mut tokens, mut labelled) = (0, 0);
        for range in self.micro_batches(0, windows.len()) {
            let extents = self.micro_step(&windows[range.clone()], range.start)?;
            tokens += extents.slots;
            labelled += extents.rows;
        }
        Ok((tokens, labelled))
    }

    /// The micro-batches of a step of `windows` windows, of which the first `done` are done.
    pub(super) fn micro_batches(&self, done: usize, windows: usize) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let mut first = done;
        while first < windows {
            let next = first + self.micro_batch_at(first, windows);
            ranges.push(first..next);
            first = next;
        }
        ranges
    }

    /// Windows of the micro-batch that begins at window `first` of a step of `windows` windows.
    ///
    /// A micro-batch never overwrites a sum that stands for windows before it: then a run that is stopped in the middle
    /// of one has lost nothing of them. Window i is joined with what stands at the levels of its trailing ones and written
    /// to the level above; while i stays below the next multiple of the largest power of two that divides `first`, no
    /// such level is one that `first` windows have filled. Micro-batches of a power of two keep to that by themselves.
    fn micro_batch_at(&self, first: usize, windows: usize) -> usize {
        let bound = (self.plan().options.micro_batch as usize).max(1);
        let aligned = if first == 0 { bound } else { 1 << first.trailing_zeros().min(usize::BITS - 2) };
        bound.min(aligned).min(windows.saturating_sub(first))
    }

    /// Forward and backward of one micro-batch, whose first window is window `first` of the optimizer step; returns what
    /// it has of each extent.
    ///
    /// # Errors
    /// [`TrainError::Executor`] if the plan has no room for it, or is [stopped](TrainError::is_stop): then the sums of the
    /// windows before `first` are as they were, and the same micro-batch may be run again.
    pub fn micro_step(&mut self, windows: &[&Window], first: usize) -> Result<Extents, TrainError> {
        let extents = self.prepare(windows, first)?;
        self.executor.run("micro_step", &extents)?;
        Ok(extents)
    }

    /// Writes what a micro-batch needs, whose first window is window `first` of the optimizer step.
    pub(super) fn prepare(&mut self, windows: &[&Window], first: usize) -> Result<Extents, TrainError> {
        let extents = self.load(windows)?;
        let seed = self.options.seed;
        let counter = [seed as u32, (seed >> 32) as u32, self.done as u32, first as u32];
        self.executor.write("counter", &counter.map(|word| word.cast_signed()))?;
        Ok(extents)
    }

    /// The first step of `apply` that changes a parameter; those before it make the loss and the gradient's norm.
    pub(super) fn updates(&self) -> usize {
        let steps = self.plan().entry("apply").map_or(&[][..], |entry| &entry.steps);
        steps.iter().position(|step| step.kernel.starts_with("adamw-")).unwrap_or(steps.len())
    }

    /// The micro-batch that was loaded last.
    pub(super) fn batch(&self) -> &MicroBatch {
        &self.batch
    }

    /// The next optimizer step is the one behind the first `done`.
    pub(super) fn resume_at(&mut self, done: u64) {
        self.done = done;
    }

    /// Ends the optimizer step whose `windows` were accumulated: new parameters at learning rate `rate`. The report's
    /// `seconds` are those of this call.
    ///
    /// # Errors
    /// [`TrainError`] if the step has no label, or its loss or gradient are not finite.
    pub fn apply(&mut self, windows: &[&Window], rate: f64) -> Result<StepReport, TrainError> {
        let begun = Instant::now();
        let step = self.done + 1;
        let (tokens, labelled) = count(windows);
        if labelled == 0 {
            return Err(TrainError::NoLabels { step, windows: windows.len() });
        }
        // Ranks have joined all nodes of the step to one.
        let nodes = if self.ranks.is_alone() { windows.len() } else { 1 };
        self.executor.write("totals", &[nodes as i32, labelled as i32])?;
        self.executor.write("hyper", &hyper_parameters(&self.options, self.done, rate))?;
        // What the update needs is there before it, so that a step that went wrong changes nothing.
        let updates = self.updates();
        self.executor.run_until("apply", &Extents::default(), updates)?;
        let loss_sum = self.executor.read::<f32>("loss")?[0];
        let loss = (f64::from(loss_sum) / labelled as f64) as f32;
        let grad_norm = self.executor.read::<f32>("grad_norm")?[0];
        for (what, value) in [("the loss", loss), ("the gradient's norm", grad_norm)] {
            if !value.is_finite() {
                // Each rank by itself, over all windows.
                self.executor.write("totals", &[windows.len() as i32, labelled as i32])?;
                let origin = self.find_origin(windows)?;
                let windows = Vec::new();
                return Err(TrainError::NotFinite(Box::new(NotFiniteStep {
                    step,
                    what,
                    value,
                    windows,
                    origin,
                })));
            }
        }
        self.executor.run_until("apply", &Extents::default(), usize::MAX)?;
        self.done += 1;
        let seconds = begun.elapsed().as_secs_f64();
        Ok(StepReport { step, loss, grad_norm, learning_rate: rate, tokens, labelled, seconds })
    }

    /// Writes `windows` as a micro-batch into the plan's buffers.
    pub(crate) fn load(&mut self, windows: &[&Window]) -> Result<Extents, TrainError> {
        self.batch.pack(windows);
        write_batch(&mut self.executor, &self.batch)
    }

    /// Writes a micro-batch into the plan's buffers.
    pub(crate) fn write_batch(&mut self, batch: &MicroBatch) -> Result<Extents, TrainError> {
        write_batch(&mut self.executor, batch)
    }
}

/// Token slots of `windows`, and those with a label.
fn count(windows: &[&Window]) -> (usize, usize) {
    let tokens = windows.iter().map(|window| window.tokens.len()).sum();
    (tokens, windows.iter().map(|window| window.labelled()).sum())
}

fn write_batch(executor: &mut Executor, batch: &MicroBatch) -> Result<Extents, TrainError> {
    let fields: [(&str, &[i32]); 8] = [
        ("tokens", &batch.tokens),
        ("position", &batch.positions),
        ("segment", &batch.segment),
        ("segment_table", batch.segment_table.as_flattened()),
        ("window_table", batch.window_table.as_flattened()),
        ("labelled", &batch.labelled),
        ("labels", &batch.labels),
        ("row_table", batch.row_table.as_flattened()),
    ];
    // A plan has no buffer for what none of its steps reads: a table of windows, where only labelled rows are summed.
    for (name, values) in fields {
        if executor.has(name) {
            executor.write(name, values)?;
        }
    }
    Ok(Extents {
        slots: batch.tokens.len(),
        rows: batch.labelled.len(),
        windows: batch.window_table.len(),
        segments: batch.segment_table.len(),
    })
}

fn check_step_windows(plan: &Plan, options: &TrainOptions) -> Result<(), TrainError> {
    let found = options.per_device_train_batch_size * options.gradient_accumulation_steps;
    // The tree has one level for each bit of the number of windows.
    let bound = (1usize << plan.options.tree_levels()) - 1;
    if found > bound { Err(TrainError::StepWindows { found, bound }) } else { Ok(()) }
}
