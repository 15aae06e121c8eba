//! `gptjc bench step`: training steps of a made-up model.

use super::model::{self, SyntheticModel};
use super::step_report::{Profile, StepReport};
use super::{giga, threads};
use crate::commands::compile;
use crate::commands::weights::{self, Needed};
use crate::console::Console;
use crate::error::CliError;
use crate::flags::values::human_bytes;
use crate::flags::{LoraFlags, StepFlags};
use crate::settings;
use gptjc_compiler::cost::CostModel;
use gptjc_compiler::{explain, work};
use gptjc_graphs::models::gptj::config;
use gptjc_graphs::plan::{CompileOptions, Isa, ModelConfig, Packing, Plan, Precision};
use gptjc_graphs::shape::Extents;
use gptjc_runtime::bench::isolated::Inputs;
use gptjc_runtime::bench::trace::chrome_trace;
use gptjc_runtime::bench::{median, peak, step};
use gptjc_runtime::data::window::Window;
use gptjc_runtime::files::atomic::write_bytes;
use gptjc_runtime::machine;
use gptjc_runtime::train::{Start, TrainOptions, Trainer};
use std::path::Path;
use std::sync::Arc;

/// Runs the command.
pub(crate) fn run(flags: &StepFlags, console: Console) -> Result<(), CliError> {
    let (model, threads) = (model_config(flags)?, threads(&flags.measure));
    let plan = compile::plan(&options(flags, model)?)?;
    let work = &flags.work;
    let segment = work.segment.unwrap_or(work.sequence);
    let windows = model::windows(work.windows, work.sequence, segment, work.labelled_share, model.vocab_size);
    let expected = Expected::of(&plan, &windows);
    if !flags.measure.json {
        // Written down before anything is measured.
        console.line(&expected.line(&plan));
    }
    if flags.predict_only {
        return Ok(());
    }
    let synthetic = match &flags.model.model {
        Some(_) => None,
        None => Some(SyntheticModel::new(&model, threads)?),
    };
    let made = synthetic.as_ref().map(SyntheticModel::path);
    let directory = made.as_deref().or(flags.model.model.as_deref()).unwrap_or(Path::new("."));
    let checkpoint = weights::open(directory, &model, Needed::of(&plan), console)?;
    let train = TrainOptions {
        per_device_train_batch_size: work.windows as usize,
        threads,
        ..TrainOptions::default()
    };
    let mut trainer = Trainer::new(plan, Arc::new(checkpoint), Start::Fresh, train)
        .map_err(|source| CliError::Train(source.into()))?;
    let report = measure(flags, &mut trainer, &windows, expected)?;
    if let (Some(file), Some(profile)) = (&flags.trace, &report.profile) {
        let trace = chrome_trace(&profile.spans(trainer.plan()));
        write_bytes(file, trace.to_string().as_bytes())?;
    }
    if flags.measure.json {
        return console.json(&report.json());
    }
    report.lines().iter().for_each(|line| console.line(line));
    Ok(())
}

fn measure(
    flags: &StepFlags,
    trainer: &mut Trainer,
    windows: &[Window],
    expected: Expected,
) -> Result<StepReport, CliError> {
    let failed = |source: gptjc_runtime::train::TrainError| CliError::Train(source.into());
    let isa = trainer.plan().options.target.isa.parse().unwrap_or(Isa::Portable);
    let reference = peak::reference(isa, flags.model.precision == Precision::Bf16);
    let rounds = step::rounds(trainer, windows, reference, flags.measure.rounds as usize).map_err(failed)?;
    // Before the profile, whose buffers are none of a training run's.
    let memory = step::peak_memory();
    let timings = match flags.no_profile {
        true => None,
        false => Some(step::profile(trainer, windows).map_err(failed)?),
    };
    let plan = trainer.plan();
    let work = step_work(plan, windows);
    let shares: Vec<f64> =
        rounds.seconds.iter().zip(&rounds.peaks).map(|(seconds, peak)| work / seconds / peak).collect();
    let rounds_done = rounds.seconds.len().max(1);
    Ok(StepReport {
        isa: isa.name(),
        threads: trainer.options().threads,
        micro_batch: plan.options.micro_batch,
        tokens: tokens(windows),
        labelled: labelled(windows),
        seconds: median(&rounds.seconds).unwrap_or_default(),
        rounds: rounds.seconds,
        first_seconds: rounds.first_seconds,
        streamed_bytes: rounds.streamed.bytes / rounds_done as u64,
        waited: rounds.streamed.stall.as_secs_f64() / rounds_done as f64,
        peak: median(&rounds.peaks),
        peak_name: reference.map(gptjc_runtime::isa::peak::Loop::name),
        share_of_peak: median(&shares),
        work,
        loss: rounds.loss,
        predicted_seconds: expected.seconds,
        target_peak: expected.peak,
        predicted: plan.prediction,
        memory,
        profile: timings.map(|timings| Profile::new(plan, timings, micro_batches(plan, windows))),
    })
}

fn labelled(windows: &[Window]) -> usize {
    windows.iter().flat_map(|window| &window.targets).filter(|target| target.is_some()).count()
}

fn tokens(windows: &[Window]) -> usize {
    windows.iter().map(|window| window.tokens.len()).sum()
}

/// What the compiler expects of a step over windows with as many labels as they have.
#[derive(Clone, Copy, Debug)]
struct Expected {
    seconds: f64,
    /// FLOP/s that this counts on for products with the model's weights.
    peak: f64,
}

impl Expected {
    fn of(plan: &Plan, windows: &[Window]) -> Self {
        let share = labelled(windows) as f64 / tokens(windows).max(1) as f64;
        let bf16 = plan.options.precision() == Precision::Bf16;
        Self {
            seconds: explain::step_seconds(plan, share).unwrap_or_default(),
            peak: CostModel::new(&plan.options.target).peak(bf16),
        }
    }

    /// In words.
    fn line(&self, plan: &Plan) -> String {
        format!(
            "predicted: {:.3} s a step at {} GFLOP/s, {} of memory at the peak",
            self.seconds,
            giga(self.peak),
            human_bytes(plan.prediction.peak_bytes)
        )
    }
}

/// Runs of `micro_step` in an optimizer step.
fn micro_batches(plan: &Plan, windows: &[Window]) -> usize {
    windows.len().div_ceil(plan.options.micro_batch.max(1) as usize)
}

/// FLOPs of an optimizer step over `windows`, nothing counted that is only computed again.
fn step_work(plan: &Plan, windows: &[Window]) -> f64 {
    let flops = |entry: &str, extents: &Extents, segments: &[usize]| -> u64 {
        plan.entry(entry).map_or(0, |entry| work::flops_at(plan, entry, extents, segments).iter().sum())
    };
    let mut total = flops("apply", &Extents::default(), &[]);
    for chunk in windows.chunks(plan.options.micro_batch.max(1) as usize) {
        let extents = Inputs::new(chunk, 0).extents;
        let segments: Vec<usize> =
            chunk.iter().flat_map(|window| window.segments.iter().map(|&length| length as usize)).collect();
        total += flops("micro_step", &extents, &segments);
    }
    // Of the whole, with every extent at its bound.
    let again = plan.prediction.recomputed_flops as f64 / plan.prediction.flops.max(1) as f64;
    total as f64 * (1.0 - again)
}

fn model_config(flags: &StepFlags) -> Result<ModelConfig, CliError> {
    let path = match (&flags.model.model, &flags.model.config) {
        (Some(model), _) => model.join("config.json"),
        (None, Some(config)) => config.clone(),
        (None, None) => {
            let shape = &flags.model;
            if shape.heads > shape.width || !shape.width.is_multiple_of(shape.heads) {
                return Err(CliError::Usage {
                    what: format!("--width {} is not a multiple of --heads {}", shape.width, shape.heads),
                    advice: "give another --heads".to_owned(),
                });
            }
            let layers = shape.layers.unwrap_or(2);
            return Ok(model::config(layers, shape.width, shape.heads, shape.vocabulary));
        }
    };
    let json =
        std::fs::read_to_string(&path).map_err(|source| CliError::Read { path: path.clone(), source })?;
    let parsed = config::parse(&json).map_err(|source| CliError::Config { path, source: source.into() })?;
    Ok(ModelConfig { n_layer: flags.model.layers.unwrap_or(parsed.n_layer), ..parsed })
}

fn options(flags: &StepFlags, model: ModelConfig) -> Result<CompileOptions, CliError> {
    let work = &flags.work;
    let mut target = machine::host();
    if let Some(isa) = work.variant {
        target.isa = isa.name().to_owned();
    }
    let mut options = settings::defaults(model, target, None);
    options.precision = flags.model.precision.into();
    options.max_seq_length = work.sequence;
    if work.segment.is_some_and(|segment| segment < work.sequence) {
        // Otherwise a plan has one segment a window.
        options.packing = Packing::Segments.into();
    }
    options.per_device_train_batch_size = work.windows;
    options.step_windows = work.windows;
    options.memory_budget = work.memory_budget.unwrap_or(0);
    options.micro_batch = work.micro_batch.unwrap_or(0);
    let typed = LoraFlags {
        lora_rank: Some(work.rank),
        lora_alpha: Some(2.0 * work.rank as f64),
        lora_dropout: Some(work.dropout),
        lora_target_modules: Some(work.targets.clone()),
        ..LoraFlags::default()
    };
    if let Some(lora) = &mut options.lora {
        settings::overlay_lora(&typed, lora, model.n_layer)?;
    }
    Ok(options)
}
