//! `gptjc train` and `gptjc finetune`: a plan, made or read, run on data.

use super::data::{TextPath, TrainSource};
use super::progress::Progress;
use super::weights::{self, Needed};
use super::{compile, data, output};
use crate::console::Console;
use crate::error::CliError;
use crate::flags::values::human_bytes;
use crate::flags::{CompileFlags, JobFlags, RunFlags};
use crate::settings::{self, StepShape};
use gptjc_graphs::plan::{Memory, Plan};
use gptjc_runtime::adapter::Adapter;
use gptjc_runtime::data::window::Window;
use gptjc_runtime::machine;
use gptjc_runtime::topology::{Pretended, Topology};
use gptjc_runtime::train::{
    DATA_ORDER_FILE, DataOrder, LogEntry, Start, TRAINER_STATE_FILE, TrainOptions, Trainer, TrainerState,
    train,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Runs the command, with the plan in the file `plan` or with one that it compiles.
pub(crate) fn run(job: &JobFlags, plan: Option<&Path>, console: Console) -> Result<(), CliError> {
    let verdicts = job.reference.verdicts()?;
    verdicts.notes.iter().for_each(|note| console.note(note));
    verdicts.warnings.iter().for_each(|warning| console.warn(warning));
    let model_dir = settings::model_dir(&job.compile.model)?;
    let sources = data::find(&job.data, job.run.do_eval, console)?;
    let adapter = job.run.adapter.as_deref().map(|path| load_adapter(path).map(|adapter| (path, adapter)));
    let adapter = adapter.transpose()?;
    let flags = flags_of_data(&job.compile, &sources.train, plan.is_some(), console)?;
    let (plan, step) = plan_and_step(&flags, plan, adapter.as_ref().map(|(path, adapter)| (*path, adapter)))?;
    let checkpoint = weights::open(model_dir, &plan.options.model, Needed::of(&plan), console)?;
    output::prepare(&job.output)?;

    let options = train_options(&job.run, step, matches!(sources.train, TrainSource::Tokens(..)));
    let threads = options.threads;
    let compile_options = plan.options.clone();
    let text = TextPath { flags: &job.data, model_dir, options: &compile_options, threads, console };
    let windows = text.training(&sources.train)?;
    let validation = sources.validation.as_deref().map(|path| text.validation(path)).transpose()?;

    console.line(&compile::summary(&plan));
    console.line(&trainable(&plan));
    let start = match adapter {
        Some((path, adapter)) => Start::Adapter(adapter, path.display().to_string()),
        None => Start::Fresh,
    };
    let mut trainer = Trainer::new(plan, Arc::new(checkpoint), start, options)
        .map_err(|source| CliError::Train(source.into()))?;
    trainer.executor().remarks().iter().for_each(|remark| console.note(remark));
    let mut state = run_training(&mut trainer, &windows, console)?;
    trainer.save(&job.output.output_dir).map_err(|source| CliError::Train(source.into()))?;
    state.save(&job.output.output_dir.join(TRAINER_STATE_FILE))?;
    let order = DataOrder::after(trainer.options(), windows.len(), state.global_step);
    let order = order.map_err(|source| CliError::Train(source.into()))?;
    order.save(&job.output.output_dir.join(DATA_ORDER_FILE))?;
    if let Some(windows) = validation {
        // What was trained is safe by now, whatever happens here.
        evaluate(&mut trainer, &windows, &mut state, console)?;
        state.save(&job.output.output_dir.join(TRAINER_STATE_FILE))?;
    }
    console.line(&format!("wrote {}", job.output.output_dir.display()));
    Ok(())
}

fn load_adapter(path: &Path) -> Result<Adapter, CliError> {
    Adapter::load(path).map_err(|source| CliError::Adapter { path: path.to_owned(), source: source.into() })
}

/// The flags of compiling, with those that pre-tokenised batches settle.
fn flags_of_data(
    typed: &CompileFlags,
    source: &TrainSource,
    has_plan: bool,
    console: Console,
) -> Result<CompileFlags, CliError> {
    let mut flags = typed.clone();
    let TrainSource::Tokens(path, batches) = source else { return Ok(flags) };
    let batch = batches.batch_size() as u64;
    let typed_batch = *flags.window.per_device_train_batch_size.get_or_insert(batch);
    if typed_batch != batch {
        return Err(CliError::Usage {
            what: format!(
                "--per-device-train-batch-size {typed_batch} contradicts `{}`, which has batches of {batch}",
                path.display()
            ),
            advice: format!("leave it out, or give {batch}"),
        });
    }
    if !has_plan {
        flags.window.max_seq_length.get_or_insert(batches.sequence_length() as u64);
    }
    if typed.window.packing.is_some() || typed.window.dataset_concatenation.is_some() {
        console.warn("--packing: rows of --train-tokens are used as they are, each a window");
    }
    Ok(flags)
}

/// The plan in the file `path`, or one compiled for `flags`, and the windows of an optimizer step.
fn plan_and_step(
    flags: &CompileFlags,
    path: Option<&Path>,
    adapter: Option<(&Path, &Adapter)>,
) -> Result<(Plan, StepShape), CliError> {
    let model = settings::model_config(&flags.model)?;
    if let Some(path) = path {
        let plan = settings::read_plan(path)?;
        if plan.entry("micro_step").is_none() {
            return Err(CliError::Usage {
                what: format!("the plan `{}` is for decoding and cannot train", path.display()),
                advice: "compile one for training with `gptjc compile`".to_owned(),
            });
        }
        let step = settings::against_plan(flags, model, &plan, path)?;
        return Ok((plan, step));
    }
    let mut options = settings::defaults(model, machine::host(), adapter.map(|(_, adapter)| adapter));
    settings::against_adapter(flags, &options, adapter)?;
    settings::overlay(flags, &mut options)?;
    let step = StepShape::new(&flags.window, &options);
    Ok((compile::plan(&options)?, step))
}

/// What is chosen when the plan is run.
fn train_options(flags: &RunFlags, step: StepShape, in_order: bool) -> TrainOptions {
    TrainOptions {
        learning_rate: flags.learning_rate,
        weight_decay: flags.weight_decay,
        beta1: flags.adam_beta1,
        beta2: flags.adam_beta2,
        epsilon: flags.adam_epsilon,
        max_grad_norm: flags.max_grad_norm,
        warmup_steps: flags.warmup_steps,
        per_device_train_batch_size: step.batch as usize,
        gradient_accumulation_steps: step.accumulation as usize,
        num_train_epochs: flags.num_train_epochs.unwrap_or(if in_order { 1.0 } else { 3.0 }),
        max_steps: u64::try_from(flags.max_steps).ok(),
        seed: flags.seed,
        logging_steps: flags.logging_steps,
        threads: flags
            .threads
            .unwrap_or_else(|| flags.topology.map_or_else(Topology::host, Pretended::topology).threads()),
        topology: flags.topology,
        shuffle: !in_order,
    }
}

/// PEFT's line about the sizes of what is trained and of the whole.
fn trainable(plan: &Plan) -> String {
    let elements =
        |buffer: &gptjc_graphs::plan::Buffer| -> u64 { buffer.dims.iter().map(|dim| dim.bound).product() };
    let trained: u64 = plan.buffers_in(Memory::Parameter).map(elements).sum();
    let all = trained + plan.frozen_tensors().map(elements).sum::<u64>();
    let percent = 100.0 * trained as f64 / all.max(1) as f64;
    format!(
        "trainable params: {} || all params: {} || trainable%: {percent:.4}",
        with_commas(trained),
        with_commas(all)
    )
}

fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn run_training(
    trainer: &mut Trainer,
    windows: &[Window],
    console: Console,
) -> Result<TrainerState, CliError> {
    let started = Instant::now();
    let mut progress = Progress::new(console);
    let state = train(trainer, windows, &mut progress);
    progress.finish();
    let state = state.map_err(|source| CliError::Train(source.into()))?;
    console.line(&format!("{} steps in {:.1} s", state.global_step, started.elapsed().as_secs_f64()));
    let streamed = trainer.executor().streamed();
    if streamed.bytes > 0 {
        let (bytes, stall) = (human_bytes(streamed.bytes), streamed.stall.as_secs_f64());
        console.line(&format!("{bytes} of weights were read meanwhile; steps waited {stall:.1} s for them"));
    }
    Ok(state)
}

/// Evaluates, and adds the loss to the log as Hugging Face's Trainer does.
fn evaluate(
    trainer: &mut Trainer,
    windows: &[Window],
    state: &mut TrainerState,
    console: Console,
) -> Result<(), CliError> {
    let started = Instant::now();
    let windows: Vec<&Window> = windows.iter().collect();
    let found = trainer.evaluate(&windows).map_err(|source| CliError::Train(source.into()))?;
    let seconds = started.elapsed().as_secs_f64();
    console.line(&format!(
        "eval_loss {:.4} over {} labelled tokens of {} rows, {seconds:.1} s",
        found.loss,
        found.labelled,
        windows.len()
    ));
    let other = BTreeMap::from([
        ("eval_loss".to_owned(), found.loss.into()),
        ("eval_runtime".to_owned(), seconds.into()),
    ]);
    state.log_history.push(LogEntry {
        epoch: state.epoch.unwrap_or_default(),
        step: state.global_step,
        other,
        ..LogEntry::default()
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (6051177504, "6,051,177,504")];
        for (number, text) in cases {
            assert_eq!(with_commas(number), text);
        }
    }
}
