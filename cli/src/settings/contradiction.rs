//! Flags against what a plan, or an adapter, has settled.

use crate::error::{CliError, Lines};
use crate::flags::{CompileFlags, WindowFlags};
use crate::settings::{StepShape, overlay};
use gptjc_graphs::plan::{CompileOptions, ModelConfig, Plan};
use gptjc_runtime::adapter::Adapter;
use miette::Diagnostic;
use std::fmt;
use std::path::{Path, PathBuf};

/// Every flag that contradicts what is settled.
#[derive(Debug, thiserror::Error, Diagnostic, PartialEq, Eq)]
#[error("what is given contradicts the {by} `{}`:{}", path.display(), Lines(found))]
#[diagnostic(help("{advice}"))]
pub(crate) struct Contradictions {
    by: &'static str,
    path: PathBuf,
    found: Vec<String>,
    advice: &'static str,
}

/// Compares what was typed with what is settled, name by name.
struct Comparison {
    by: &'static str,
    found: Vec<String>,
}

impl Comparison {
    fn with(by: &'static str) -> Self {
        Self { by, found: Vec::new() }
    }

    fn add(&mut self, what: &str, typed: impl fmt::Display, settled: impl fmt::Display) {
        let (typed, settled) = (typed.to_string(), settled.to_string());
        if typed != settled {
            self.found.push(format!("{what}: given {typed}, the {} has {settled}", self.by));
        }
    }

    fn model(&mut self, typed: &ModelConfig, settled: &ModelConfig) {
        let sizes = [
            ("n_layer", typed.n_layer, settled.n_layer),
            ("n_embd", typed.n_embd, settled.n_embd),
            ("n_head", typed.n_head, settled.n_head),
            ("rotary_dim", typed.rotary_dim, settled.rotary_dim),
            ("n_inner", typed.n_inner, settled.n_inner),
            ("vocab_size", typed.vocab_size, settled.vocab_size),
            ("n_positions", typed.n_positions, settled.n_positions),
        ];
        for (name, typed, settled) in sizes {
            self.add(&format!("config.json: {name}"), typed, settled);
        }
        let epsilons = (typed.layer_norm_epsilon, settled.layer_norm_epsilon);
        self.add("config.json: layer_norm_epsilon", epsilons.0, epsilons.1);
    }

    fn options(&mut self, typed: &CompileOptions, settled: &CompileOptions) {
        self.model(&typed.model, &settled.model);
        self.add("--trainable", typed.trainable(), settled.trainable());
        self.lora(typed, settled);
        self.add("--precision", typed.precision(), settled.precision());
        self.add("--packing", typed.packing(), settled.packing());
        self.add("--max-seq-length", typed.max_seq_length, settled.max_seq_length);
        self.add("--target", &typed.target.name, &settled.target.name);
        self.add("--memory-budget", typed.memory_budget, settled.memory_budget);
        self.add("--micro-batch", typed.micro_batch, settled.micro_batch);
    }

    fn lora(&mut self, typed: &CompileOptions, settled: &CompileOptions) {
        let (Some(typed), Some(settled)) = (&typed.lora, &settled.lora) else { return };
        self.add("--lora-rank", typed.rank, settled.rank);
        self.add("--lora-alpha", typed.alpha, settled.alpha);
        self.add("--lora-dropout", typed.dropout, settled.dropout);
        self.add("--lora-target-modules", typed.described(","), settled.described(","));
        self.add("--use-rslora", typed.use_rslora, settled.use_rslora);
    }

    fn finish(self, path: &Path, advice: &'static str) -> Result<(), Contradictions> {
        let Self { by, found } = self;
        let path = path.to_owned();
        if found.is_empty() { Ok(()) } else { Err(Contradictions { by, path, found, advice }) }
    }
}

/// Refuses flags, and a model, that contradict `plan`; returns the windows of a step.
///
/// # Errors
/// [`Contradictions`] with every flag that has another value than the plan.
pub(crate) fn against_plan(
    flags: &CompileFlags,
    model: ModelConfig,
    plan: &Plan,
    path: &Path,
) -> Result<StepShape, CliError> {
    let settled = &plan.options;
    // Batch and accumulation are chosen when a plan is run, up to a bound; the rest of `flags` is compared.
    let step = StepShape::new(&flags.window, settled)?;
    let mut typed = settled.clone();
    typed.model = model;
    let mut comparison = Comparison::with("plan");
    if let (None, Some(flag)) = (&settled.lora, flags.lora.first_given()) {
        comparison.add(flag, "a value", "none: it trains all parameters");
    } else {
        overlay(flags, &mut typed)?;
    }
    typed.micro_batch = flags.window.micro_batch.unwrap_or(settled.micro_batch);
    comparison.options(&typed, settled);
    if step.windows() > settled.step_windows {
        let at_most = format!("at most {}", settled.step_windows);
        match flags.window.global_batch_size {
            Some(windows) => comparison.add("--global-batch-size", windows, at_most),
            None => {
                let what = "--per-device-train-batch-size times --gradient-accumulation-steps";
                let product = format!("{} x {} = {}", step.batch, step.accumulation, step.windows());
                comparison.add(what, product, at_most);
            }
        }
    }
    let advice = "give what the plan was compiled for, or compile another: `gptjc compile --from OLD.plan FLAGS -o NEW.plan`";
    comparison.finish(path, advice)?;
    Ok(step)
}

/// Refuses flags that would give `adapter` another meaning. Its dropout may change: that is a matter of training.
///
/// # Errors
/// [`Contradictions`] with every flag that has another value than the adapter.
pub(crate) fn against_adapter(
    flags: &CompileFlags,
    defaults: &CompileOptions,
    adapter: Option<(&Path, &Adapter)>,
) -> Result<(), CliError> {
    let Some((path, _)) = adapter else { return Ok(()) };
    let mut typed = defaults.clone();
    overlay(&CompileFlags { window: WindowFlags::default(), ..flags.clone() }, &mut typed)?;
    if let (Some(typed), Some(settled)) = (&mut typed.lora, &defaults.lora) {
        typed.dropout = settled.dropout;
    }
    let mut comparison = Comparison::with("adapter");
    comparison.add("--trainable", typed.trainable(), defaults.trainable());
    comparison.lora(&typed, defaults);
    let advice = "leave these flags out: without them the adapter's own settings are taken";
    Ok(comparison.finish(path, advice)?)
}
