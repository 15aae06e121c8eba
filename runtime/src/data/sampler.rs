//! Which windows each optimizer step takes, in which order.
//!
//! Does: shuffle the windows anew every epoch, count steps as Hugging Face's `Trainer` does, hand out steps one by one
//! from any point. The order is a function of (seed, epoch) alone: not of ranks, threads, micro-batches or of where
//! training was resumed.
//!
//! Does not: split a step into micro-batches or over ranks; the plan and the training loop do. The shuffle is not
//! PyTorch's, whose generator this does not imitate.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use thiserror::Error;

/// How long to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Duration {
    /// `--num-train-epochs`, fractions allowed.
    Epochs(f64),
    /// `--max-steps`: optimizer steps, whatever the number of epochs.
    Steps(u64),
}

/// What determines order and number of steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerOptions {
    /// Windows of an epoch.
    pub windows: usize,
    /// Windows of one batch: `per_device_train_batch_size`, times the number of data-parallel ranks.
    pub batch: usize,
    /// Batches of an optimizer step (`gradient_accumulation_steps`).
    pub accumulation: usize,
    /// Seed of the shuffle.
    pub seed: u64,
    /// False to take the windows in the order given, every epoch.
    pub shuffle: bool,
    /// How long to train.
    pub duration: Duration,
}

/// Options, or a point, that make no sense.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
pub enum SamplerError {
    /// A count that must be at least 1.
    #[error("{what} is 0, expected at least 1")]
    Zero {
        /// The option.
        what: &'static str,
    },
    /// More windows than an index holds.
    #[error("{0} windows are more than one epoch can have ({max}); use --max-train-samples", max = u32::MAX)]
    TooManyWindows(usize),
    /// The number of epochs is not a positive number.
    #[error("the number of epochs is {0}, expected a positive number")]
    Epochs(f64),
    /// A point to resume from that training never reaches.
    #[error(
        "cannot go on at epoch {epoch}, step {step}: with this data and batch size an epoch has {steps_per_epoch} steps and training {total_steps}; was the checkpoint made with other data, batch size or accumulation?"
    )]
    NoSuchStep {
        /// Epoch, from 0.
        epoch: u64,
        /// Optimizer step inside the epoch, from 0.
        step: u64,
        /// Steps of an epoch.
        steps_per_epoch: u64,
        /// Steps of the whole training.
        total_steps: u64,
    },
}

/// One optimizer step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerStep<'a> {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Step inside the epoch, from 0.
    pub step: u64,
    /// Step of the whole training, from 0.
    pub global_step: u64,
    /// Windows of the step, in global order: the order of the leaves of every sum over windows.
    pub windows: &'a [u32],
    /// Epochs done after this step, as Hugging Face logs it: whole epochs plus the share of the batches.
    pub epoch_after: f64,
}

/// Hands out optimizer steps.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplerOptions,
    steps_per_epoch: u64,
    total_steps: u64,
    next: u64,
    order: Vec<u32>,
    order_epoch: Option<u64>,
}

/// Batches of an epoch; the last one may be short and is kept.
pub fn batches_per_epoch(windows: usize, batch: usize) -> u64 {
    windows.div_ceil(batch.max(1)) as u64
}

/// Optimizer steps of an epoch as Hugging Face counts them: a last step of fewer batches counts.
pub fn steps_per_epoch(windows: usize, batch: usize, accumulation: usize) -> u64 {
    batches_per_epoch(windows, batch).div_ceil(accumulation.max(1) as u64).max(1)
}

/// Order of `windows` windows in an epoch: a function of its arguments alone.
///
/// Fisher-Yates with ChaCha8, stream `epoch`. Written out here, because a library's shuffle may change with
/// its version, and with it the order of a training that is resumed.
pub fn epoch_order(windows: u32, seed: u64, epoch: u64) -> Vec<u32> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut random = ChaCha8Rng::from_seed(key);
    random.set_stream(epoch);
    let mut order: Vec<u32> = (0..windows).collect();
    for last in (1..windows).rev() {
        order.swap(last as usize, below(&mut random, last + 1) as usize);
    }
    order
}

/// A number below `bound`, all equally likely: draws that would favour the small ones are drawn again.
fn below(random: &mut ChaCha8Rng, bound: u32) -> u32 {
    let biased = bound.wrapping_neg() % bound; // 2^32 mod bound
    loop {
        let product = u64::from(random.next_u32()) * u64::from(bound);
        if product as u32 >= biased {
            return (product >> 32) as u32;
        }
    }
}

impl Sampler {
    /// A sampler before its first step.
    ///
    /// # Errors
    /// See [`SamplerError`].
    pub fn new(options: SamplerOptions) -> Result<Self, SamplerError> {
        let counts =
            [("windows", options.windows), ("batch", options.batch), ("accumulation", options.accumulation)];
        for (what, count) in counts {
            if count == 0 {
                return Err(SamplerError::Zero { what });
            }
        }
        let windows =
            u32::try_from(options.windows).map_err(|_| SamplerError::TooManyWindows(options.windows))?;
        let steps_per_epoch = steps_per_epoch(options.windows, options.batch, options.accumulation);
        let total_steps = match options.duration {
            Duration::Steps(0) => return Err(SamplerError::Zero { what: "max_steps" }),
            Duration::Steps(steps) => steps,
            Duration::Epochs(epochs) if epochs.is_finite() && epochs > 0.0 => {
                (epochs * steps_per_epoch as f64).ceil() as u64
            }
            Duration::Epochs(epochs) => return Err(SamplerError::Epochs(epochs)),
        };
        let order = (0..windows).collect();
        Ok(Self { options, steps_per_epoch, total_steps, next: 0, order, order_epoch: None })
    }

    /// Optimizer steps of an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.steps_per_epoch
    }

    /// Optimizer steps of the whole training.
    pub fn total_steps(&self) -> u64 {
        self.total_steps
    }

    /// Epoch and step inside it of the step that comes next, both from 0: what a checkpoint stores.
    pub fn position(&self) -> (u64, u64) {
        (self.next / self.steps_per_epoch, self.next % self.steps_per_epoch)
    }

    /// Goes to a point, so that [`Sampler::next_step`] gives that step next. The end of training is a point too.
    ///
    /// # Errors
    /// [`SamplerError::NoSuchStep`] if training never reaches it.
    pub fn seek(&mut self, epoch: u64, step: u64) -> Result<(), SamplerError> {
        let (steps_per_epoch, total_steps) = (self.steps_per_epoch, self.total_steps);
        let global = epoch.checked_mul(steps_per_epoch).and_then(|start| start.checked_add(step));
        match global {
            Some(global) if step < steps_per_epoch && global <= total_steps => {
                self.next = global;
                Ok(())
            }
            _ => Err(SamplerError::NoSuchStep { epoch, step, steps_per_epoch, total_steps }),
        }
    }

    /// The next optimizer step; `None` after the last. Allocates at the beginning of an epoch only.
    pub fn next_step(&mut self) -> Option<OptimizerStep<'_>> {
        if self.next >= self.total_steps {
            return None;
        }
        let (epoch, step) = self.position();
        if self.options.shuffle && self.order_epoch != Some(epoch) {
            self.order = epoch_order(self.order.len() as u32, self.options.seed, epoch);
            self.order_epoch = Some(epoch);
        }
        let global_step = self.next;
        self.next += 1;
        let SamplerOptions { windows, batch, accumulation, .. } = self.options;
        let size = batch.saturating_mul(accumulation);
        let start = (step as usize).saturating_mul(size).min(windows);
        let end = start.saturating_add(size).min(windows);
        let batches = batches_per_epoch(windows, batch);
        let batches_done = ((step + 1).saturating_mul(accumulation as u64)).min(batches);
        let epoch_after = epoch as f64 + batches_done as f64 / batches as f64;
        Some(OptimizerStep { epoch, step, global_step, windows: &self.order[start..end], epoch_after })
    }
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
