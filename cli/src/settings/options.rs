//! Typed flags over what holds without them.

use super::target;
use crate::error::CliError;
use crate::flags::compile::{ACCUMULATION, ALPHA, BATCH, DROPOUT, RANK, SEQUENCE, TARGETS};
use crate::flags::{CompileFlags, LoraFlags, ModelFlags, WindowFlags};
use gptjc_graphs::models::gptj::names::Projection;
use gptjc_graphs::plan::{CompileOptions, LoraOptions, ModelConfig, Packing, Precision, Target, Trainable};
use gptjc_runtime::adapter::Adapter;

/// The windows of an optimizer step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StepShape {
    /// Windows of a batch.
    pub(crate) batch: u64,
    /// Batches of a step.
    pub(crate) accumulation: u64,
}

impl StepShape {
    /// What `flags` say, and otherwise what `options` were made for.
    pub(crate) fn new(flags: &WindowFlags, options: &CompileOptions) -> Self {
        let old = options.per_device_train_batch_size.max(1);
        Self {
            batch: flags.per_device_train_batch_size.unwrap_or(old),
            accumulation: flags.gradient_accumulation_steps.unwrap_or((options.step_windows / old).max(1)),
        }
    }

    /// Windows of a step.
    pub(crate) fn windows(self) -> u64 {
        self.batch.saturating_mul(self.accumulation)
    }
}

/// What is compiled when no flag is given: the settings of `adapter`, if there is one, and the documented defaults.
pub(crate) fn defaults(model: ModelConfig, target: Target, adapter: Option<&Adapter>) -> CompileOptions {
    CompileOptions {
        model,
        lora: Some(adapter.map_or_else(default_lora, lora_of)),
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

fn default_lora() -> LoraOptions {
    LoraOptions {
        rank: RANK,
        alpha: ALPHA,
        dropout: DROPOUT,
        targets: in_model_order(&TARGETS.map(str::to_owned)),
        use_rslora: false,
    }
}

/// The settings of an adapter; its tensors say which modules it is on.
fn lora_of(adapter: &Adapter) -> LoraOptions {
    let targets: Vec<String> = adapter.target_names().into_iter().map(str::to_owned).collect();
    LoraOptions {
        rank: adapter.config.r as u64,
        alpha: adapter.config.lora_alpha,
        dropout: adapter.config.lora_dropout,
        targets: in_model_order(&targets),
        use_rslora: adapter.config.use_rslora,
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
        options.lora.get_or_insert_with(default_lora);
    }
    overlay_lora(&flags.lora, options)
}

fn overlay_windows(flags: &WindowFlags, options: &mut CompileOptions) -> Result<(), CliError> {
    let step = StepShape::new(flags, options);
    let before = (options.step_windows, options.max_seq_length, options.memory_budget);
    options.per_device_train_batch_size = step.batch;
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
    lora.rank = flags.lora_rank.unwrap_or(lora.rank);
    lora.alpha = flags.lora_alpha.unwrap_or(lora.alpha);
    lora.dropout = flags.lora_dropout.unwrap_or(lora.dropout);
    lora.use_rslora = flags.use_rslora.unwrap_or(lora.use_rslora);
    if let Some(targets) = &flags.lora_target_modules {
        lora.targets = in_model_order(targets);
    }
    Ok(())
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

/// Names of projections in the model's order, each once, then those that no model has.
pub(crate) fn in_model_order(typed: &[String]) -> Vec<String> {
    let mut names: Vec<&str> =
        typed.iter().flat_map(|name| name.split_whitespace()).filter(|name| !name.is_empty()).collect();
    let known = Projection::ALL.map(Projection::name);
    if names.contains(&"all-linear") {
        names.retain(|&name| name != "all-linear");
        names.extend(known);
    }
    let mut ordered: Vec<String> = Vec::with_capacity(names.len());
    let unknown = names.iter().copied().filter(|name| !known.contains(name));
    for name in known.into_iter().filter(|name| names.contains(name)).chain(unknown) {
        if !ordered.iter().any(|other| other == name) {
            ordered.push(name.to_owned());
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_stand_in_the_models_order() {
        let order =
            |names: &[&str]| in_model_order(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(
            order(&["q_proj", "v_proj", "k_proj", "out_proj"]),
            ["q_proj", "k_proj", "v_proj", "out_proj"]
        );
        assert_eq!(order(&["v_proj q_proj", "", "v_proj"]), ["q_proj", "v_proj"]);
        assert_eq!(order(&["all-linear"]), ["q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out"]);
        assert_eq!(order(&["c_attn", "fc_out"]), ["fc_out", "c_attn"]);
        assert!(order(&[""]).is_empty());
    }
}
