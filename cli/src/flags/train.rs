//! Flags that are chosen when a plan is run.

use super::values;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use gptjc_runtime::topology::Pretended;
use gptjc_runtime::train::SchedulerKind;
use std::path::PathBuf;

/// The optimizer, its schedule and the length of the run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Training")]
pub(crate) struct RunFlags {
    /// Start from this PEFT adapter instead of a new one
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
    /// Learning rate after the warm-up, from which it goes on as --lr-scheduler-type says
    #[arg(long, value_name = "X", default_value = "5e-5", value_parser = values::not_negative)]
    pub(crate) learning_rate: f64,
    /// How the learning rate goes on after the warm-up, as in Hugging Face's Trainer
    #[arg(long, value_name = "KIND", default_value = "linear", ignore_case = true, value_parser = schedulers())]
    pub(crate) lr_scheduler_type: SchedulerKind,
    /// Optimizer steps of linear warm-up from 0; 0 leaves them to --warmup-ratio
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) warmup_steps: u64,
    /// Share of the run's optimizer steps that are warm-up, rounded up
    #[arg(long, value_name = "X", default_value = "0", value_parser = values::share_or_all)]
    pub(crate) warmup_ratio: f64,
    /// Passes over the data [default: 3, or 1 with --train-tokens]
    #[arg(long, value_name = "X", value_parser = values::positive)]
    pub(crate) num_train_epochs: Option<f64>,
    /// Optimizer steps, whatever the epochs; -1 for as many as the epochs have
    #[arg(long, value_name = "N", default_value = "-1", allow_negative_numbers = true, value_parser = values::steps_or_minus_one)]
    pub(crate) max_steps: i64,
    /// AdamW's decoupled weight decay
    #[arg(long, value_name = "X", default_value = "0", value_parser = values::not_negative)]
    pub(crate) weight_decay: f64,
    /// AdamW's decay of the first moment
    #[arg(long, value_name = "X", default_value = "0.9", value_parser = values::share)]
    pub(crate) adam_beta1: f64,
    /// AdamW's decay of the second moment
    #[arg(long, value_name = "X", default_value = "0.999", value_parser = values::share)]
    pub(crate) adam_beta2: f64,
    /// AdamW's epsilon
    #[arg(long, value_name = "X", default_value = "1e-8", value_parser = values::not_negative)]
    pub(crate) adam_epsilon: f64,
    /// Clip the global norm of the gradient to this; 0 for no clipping
    #[arg(long, value_name = "X", default_value = "1", value_parser = values::not_negative)]
    pub(crate) max_grad_norm: f64,
    /// Seed of new adapters, of dropout and of the order of the data
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub(crate) seed: u64,
    /// Threads; changes no result [default: the cores that this process may use]
    #[arg(long, value_name = "N", value_parser = values::threads)]
    pub(crate) threads: Option<usize>,
    /// Pretend so many sockets of so many cores, such as 2x1: for tests, changes no result
    #[arg(long, value_name = "SxC", value_parser = values::topology, hide = true)]
    pub(crate) topology: Option<Pretended>,
    /// Under mpirun: seconds to wait for a rank before it counts as hung, which ends the run; six times as long before the
    /// first step; 0 for no end
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(crate) rank_timeout: u64,
    /// Evaluate after training [default: True if --validation-file is given]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", value_parser = values::boolean)]
    pub(crate) do_eval: Option<bool>,
}

/// A parser of names of schedules, which `--help` lists.
fn schedulers() -> impl TypedValueParser<Value = SchedulerKind> {
    let names = PossibleValuesParser::new(SchedulerKind::ALL.map(SchedulerKind::name));
    names.try_map(|name| name.to_ascii_lowercase().parse::<SchedulerKind>())
}

/// What a run writes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputFlags {
    /// Directory for the adapter (or, with --trainable all, the model) and trainer_state.json
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: PathBuf,
    /// Write into --output-dir even if it is not empty; files of other names stay
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "false", default_missing_value = "true",
        value_parser = values::boolean)]
    pub(crate) overwrite_output_dir: bool,
}
