//! Typed flags over what holds without them.

use super::{lora, target};
use crate::error::CliError;
use crate::flags::compile::{ACCUMULATION, BATCH, SEQUENCE};
use crate::flags::{CompileFlags, LoraFlags, ModelFlags, WindowFlags};
use gptjc_graphs::plan::{CompileOptions, ModelConfig, Packing, Precision, Target, Trainable};
use gptjc_runtime::adapter::Adapter;

/// The windows of an optimizer step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StepShape {
    /// Windows of a batch of all ranks: what the data are counted in.
    pub(crate) batch: u64,
    /// Batches of a step.
    pub(crate) accumulation: u64,
    /// Windows that a rank computes at a time at most.
    pub(crate) most_at_a_time: u64,
}

impl StepShape {
    /// What `flags` say, and otherwise what `options` were made for.
    ///
    /// A step of `--global-batch-size` windows is a batch of that many, if nothing is said of batches: gradients are
    /// summed window by window, so that it need not be a multiple of what is computed at a time.
    ///
    /// # Errors
    /// [`CliError::Usage`] if the three flags contradict each other.
    pub(crate) fn new(flags: &WindowFlags, options: &CompileOptions) -> Result<Self, CliError> {
        let (old, ranks) = (options.per_device_train_batch_size.max(1), flags.ranks.max(1));
        let (own, accumulation) = (flags.per_device_train_batch_size, flags.gradient_accumulation_steps);
        // Batches of all ranks together from here on.
        let (all_old, all_own) = (old.saturating_mul(ranks), own.map(|batch| batch.saturating_mul(ranks)));
        let of_ranks = if ranks > 1 { format!(" on {ranks} ranks") } else { String::new() };
        let (batch, accumulation) = match (flags.global_batch_size, (all_own, accumulation)) {
            (None, (batch, accumulation)) => (
                batch.unwrap_or(all_old),
                accumulation.unwrap_or_else(|| (options.step_windows / all_old).max(1)),
            ),
            (Some(windows), (None, None)) => {
                let most_at_a_time = windows.div_ceil(ranks).min(old);
                return Ok(Self { batch: windows, accumulation: 1, most_at_a_time });
            }
            (Some(windows), (Some(batch), None)) => {
                (batch, parts(windows, &format!("{BATCH_FLAG} {}{of_ranks}", batch / ranks), batch)?)
            }
            (Some(windows), (None, Some(steps))) => {
                (parts(windows, &format!("{ACCUMULATION_FLAG} {steps}"), steps)?, steps)
            }
            (Some(windows), (Some(batch), Some(steps))) if windows == batch.saturating_mul(steps) => {
                (batch, steps)
            }
            (Some(windows), (Some(batch), Some(steps))) => {
                return Err(CliError::Usage {
                    what: format!(
                        "--global-batch-size {windows} contradicts {BATCH_FLAG} {}{of_ranks} times {ACCUMULATION_FLAG} \
                         {steps}, which is {}",
                        batch / ranks,
                        batch.saturating_mul(steps)
                    ),
                    advice: "give two of the three".to_owned(),
                });
            }
        };
        Ok(Self { batch, accumulation, most_at_a_time: batch.div_ceil(ranks) })
    }

    /// Windows of a step.
    pub(crate) fn windows(self) -> u64 {
        self.batch.saturating_mul(self.accumulation)
    }
}

const BATCH_FLAG: &str = "--per-device-train-batch-size";
const ACCUMULATION_FLAG: &str = "--gradient-accumulation-steps";

/// The parts of `size`, which is that of `flag`, that `windows` are.
fn parts(windows: u64, flag: &str, size: u64) -> Result<u64, CliError> {
    if windows.is_multiple_of(size) {
        return Ok(windows / size);
    }
    let name = flag.split(' ').next().unwrap_or(flag);
    Err(CliError::Usage {
        what: format!("--global-batch-size {windows} contradicts {flag}, of which it is no multiple"),
        advice: format!(
            "give a multiple of {size}, or leave {name} out: a step may have any number of windows"
        ),
    })
}

/// What is compiled when no flag is given: the settings of `adapter`, if there is one, and the documented defaults.
pub(crate) fn defaults(model: ModelConfig, target: Target, adapter: Option<&Adapter>) -> CompileOptions {
    CompileOptions {
        model,
        lora: Some(match adapter {
            Some(adapter) => lora::lora_of(adapter, model.n_layer),
            None => lora::default_lora(model.n_layer),
        }),
        precision: Precision::Bf16.into(),
        packing: Packing::Concat.into(),
        max_seq_length: SEQUENCE.min(model.n_positions),
        micro_batch: 0,
        per_device_train_batch_size: BATCH,
        memory_budget: 0,
        target,
        step_windows: BATCH * ACCUMULATION,
        // A plan that trains does not decode.
        decode_sequences: 0,
        decode_slots: 0,
    }
}

/// Puts what was typed into `options`.
///
/// # Errors
/// [`CliError::Flags`] if two flags exclude each other.
pub(crate) fn overlay(flags: &CompileFlags, options: &mut CompileOptions) -> Result<(), CliError> {
    overlay_windows(&flags.window, options)?;
    if let Some(precision) = precision(&flags.model)? {
        options.precision = precision.into();
    }
    if flags.model.trainable == Some(Trainable::All) {
        options.lora = None;
    }
    if flags.model.trainable == Some(Trainable::Lora) {
        let n_layer = options.model.n_layer;
        options.lora.get_or_insert_with(|| lora::default_lora(n_layer));
    }
    overlay_lora(&flags.lora, options)
}

fn overlay_windows(flags: &WindowFlags, options: &mut CompileOptions) -> Result<(), CliError> {
    let step = StepShape::new(flags, options)?;
    let before = (options.step_windows, options.max_seq_length, options.memory_budget);
    options.per_device_train_batch_size = step.most_at_a_time;
    options.step_windows = step.windows();
    options.max_seq_length = flags.max_seq_length.unwrap_or(options.max_seq_length);
    options.memory_budget = flags.memory_budget.unwrap_or(options.memory_budget);
    if (options.step_windows, options.max_seq_length, options.memory_budget) != before {
        // An old plan's micro-batch was chosen for what it was compiled for.
        options.micro_batch = 0;
    }
    if let Some(target) = &flags.target {
        options.target = target::named(target)?;
        options.micro_batch = 0;
    }
    options.micro_batch = flags.micro_batch.unwrap_or(options.micro_batch);
    if let Some(packing) = packing(flags)? {
        options.packing = packing.into();
    }
    Ok(())
}

fn overlay_lora(flags: &LoraFlags, options: &mut CompileOptions) -> Result<(), CliError> {
    let Some(lora) = &mut options.lora else {
        return match flags.first_given() {
            Some(flag) => {
                Err(CliError::Flags { first: flag.to_owned(), second: "--trainable all".to_owned() })
            }
            None => Ok(()),
        };
    };
    lora::overlay(flags, lora, options.model.n_layer)
}

/// `--precision`, or what `--bf16` says of it.
fn precision(flags: &ModelFlags) -> Result<Option<Precision>, CliError> {
    let of_bf16 = flags.bf16.map(|bf16| if bf16 { Precision::Bf16 } else { Precision::F32 });
    match (flags.precision, of_bf16) {
        (Some(precision), Some(other)) if precision != other => Err(CliError::Flags {
            first: format!("--precision {precision}"),
            second: format!("--bf16 {}", if other == Precision::Bf16 { "True" } else { "False" }),
        }),
        (precision, other) => Ok(precision.or(other)),
    }
}

/// `--packing`, or what `--dataset-concatenation` says of it.
pub(crate) fn packing(flags: &WindowFlags) -> Result<Option<Packing>, CliError> {
    match (flags.packing, flags.dataset_concatenation) {
        (Some(packing), Some(joined)) if joined != (packing == Packing::Concat) => Err(CliError::Flags {
            first: format!("--packing {packing}"),
            second: format!("--dataset-concatenation {}", if joined { "True" } else { "False" }),
        }),
        (Some(packing), _) => Ok(Some(packing)),
        (None, joined) => Ok(joined.map(|joined| if joined { Packing::Concat } else { Packing::Pad })),
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
