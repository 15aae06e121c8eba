//! What is decided when a run starts, not when its plan is compiled.

use super::{Cadence, SchedulerKind};
use crate::data::sampler::{Duration, SamplerOptions};
use crate::topology::{Pretended, Topology};

/// Options of a training run; the names are those of Hugging Face's `TrainingArguments`.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOptions {
    /// Learning rate at the end of the warm-up.
    pub learning_rate: f64,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// AdamW's decay of the first moment.
    pub beta1: f64,
    /// AdamW's decay of the second moment.
    pub beta2: f64,
    /// AdamW's epsilon.
    pub epsilon: f64,
    /// The gradient's global norm is clipped to this; 0 or less for no clipping.
    pub max_grad_norm: f64,
    /// How the learning rate goes on after the warm-up.
    pub lr_scheduler_type: SchedulerKind,
    /// Optimizer steps of linear warm-up; 0 leaves them to `warmup_ratio`.
    pub warmup_steps: u64,
    /// Share of the run's optimizer steps that are warm-up, rounded up, if `warmup_steps` is 0.
    pub warmup_ratio: f64,
    /// Windows of a batch.
    pub per_device_train_batch_size: usize,
    /// Batches of an optimizer step.
    pub gradient_accumulation_steps: usize,
    /// Passes over the data.
    pub num_train_epochs: f64,
    /// Optimizer steps; overrides the epochs.
    pub max_steps: Option<u64>,
    /// Seed of the adapters' initialisation, of dropout and of the order of the data.
    pub seed: u64,
    /// When the log gets an entry.
    pub logging: Cadence,
    /// Whether it gets one after the first step in any case.
    pub logging_first_step: bool,
    /// When the model is evaluated.
    pub eval: Cadence,
    /// Whether it is evaluated before the first step.
    pub eval_on_start: bool,
    /// When a checkpoint is written; by steps, one is written at the end as well.
    pub save: Cadence,
    /// Threads, the caller's included.
    pub threads: usize,
    /// Sockets and cores to pretend, for tests; none for those of this machine.
    pub topology: Option<Pretended>,
    /// A new order of the windows every epoch; false for the order given.
    pub shuffle: bool,
}

impl TrainOptions {
    /// The options of the sampler of a run over `windows` windows.
    pub fn sampler(&self, windows: usize) -> SamplerOptions {
        SamplerOptions {
            windows,
            batch: self.per_device_train_batch_size,
            accumulation: self.gradient_accumulation_steps,
            seed: self.seed,
            shuffle: self.shuffle,
            duration: match self.max_steps {
                Some(steps) => Duration::Steps(steps),
                None => Duration::Epochs(self.num_train_epochs),
            },
        }
    }
}

impl Default for TrainOptions {
    /// The defaults of the reference workflow.
    fn default() -> Self {
        Self {
            learning_rate: 5e-5,
            weight_decay: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            max_grad_norm: 1.0,
            lr_scheduler_type: SchedulerKind::Linear,
            warmup_steps: 0,
            warmup_ratio: 0.0,
            per_device_train_batch_size: 8,
            gradient_accumulation_steps: 1,
            num_train_epochs: 3.0,
            max_steps: None,
            seed: 42,
            logging: Cadence::Steps(500),
            logging_first_step: false,
            eval: Cadence::Never,
            eval_on_start: false,
            save: Cadence::Never,
            threads: Topology::host().threads(),
            topology: None,
            shuffle: true,
        }
    }
}
