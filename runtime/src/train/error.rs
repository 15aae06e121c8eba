//! What can go wrong in a training run.

use super::NotFiniteStep;
use super::checkpoint::CheckpointError;
use crate::adapter::AdapterError;
use crate::data::sampler::SamplerError;
use crate::evaluate::EvaluateError;
use crate::executor::ExecutorError;
use crate::files::FileError;
use crate::ranks::RanksError;
use crate::weights::WeightsError;

/// A run that cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The plan cannot be bound or run.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The checkpoint is not what the plan was compiled for.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The adapter is not what the plan was compiled for.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The steps of the run cannot be counted.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The adapter was made with other settings than the plan.
    #[error(
        "{setting}: the plan was compiled for {plan}, the adapter has {adapter}; compile with the adapter's value"
    )]
    AdapterSetting {
        /// Name of the setting.
        setting: &'static str,
        /// The plan's value.
        plan: String,
        /// The adapter's value.
        adapter: String,
    },
    /// An adapter for a plan that trains all parameters.
    #[error(
        "the plan trains all parameters and has no adapter; compile with --trainable lora to start from one"
    )]
    NoAdapterInPlan,
    /// A batch that the plan has no room for.
    #[error(
        "an optimizer step of {found} windows (batch times accumulation), the plan was compiled for at most {bound}; \
         compile again with these --per-device-train-batch-size and --gradient-accumulation-steps"
    )]
    StepWindows {
        /// Windows asked for.
        found: usize,
        /// Windows that the plan takes.
        bound: usize,
    },
    /// A step without any label.
    #[error(
        "optimizer step {step}: none of its {windows} windows has a labelled token, so there is no loss; \
         check the data, or raise --max-seq-length so that targets are not cut off"
    )]
    NoLabels {
        /// Index of the step, from 1.
        step: u64,
        /// Windows of the step.
        windows: usize,
    },
    /// A loss or a gradient that is no number.
    #[error("{0}")]
    NotFinite(Box<NotFiniteStep>),
    /// A parameter that is no number any more.
    #[error(
        "after optimizer step {step}, parameter `{name}` is not finite at {index:?}: it is not saved, and checkpoints before \
         it are whole; lower the learning rate"
    )]
    ParameterNotFinite {
        /// Optimizer steps done.
        step: u64,
        /// The parameter.
        name: String,
        /// Index of its first such element.
        index: Vec<usize>,
    },
    /// A checkpoint cannot be written or resumed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The model directory cannot be copied from.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An evaluation does not come to its end.
    #[error("cannot evaluate")]
    Evaluate(#[from] EvaluateError),
    /// Another rank failed, or does not answer.
    #[error(transparent)]
    Ranks(#[from] RanksError),
    /// The trained tensors cannot be written as safetensors.
    #[error("cannot write the trained tensors: {0}")]
    Safetensors(#[from] safetensors::SafeTensorError),
}

impl TrainError {
    /// True if nothing went wrong: somebody raised the stop flag while the plan ran.
    pub fn is_stop(&self) -> bool {
        matches!(self, Self::Executor(ExecutorError::Stopped(_)))
    }
}
