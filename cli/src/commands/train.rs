//! `gptjc train` and `gptjc finetune`: a plan, made or read, run on data.

use super::data::{TextPath, TrainSource, WindowShape};
use super::model::load_adapter;
use super::run::{Run, failed};
use super::weights::{self, Needed};
use super::{Outcome, compile, data, evaluation, output, ranks, run, run_facts};
use crate::console::Console;
use crate::error::CliError;
use crate::flags::{CompileFlags, JobFlags};
use crate::numbers::thousands;
use crate::settings::{self, StepShape};
use gptjc_graphs::plan::{Buffer, Memory, Plan};
use gptjc_runtime::adapter::Adapter;
use gptjc_runtime::machine;
use gptjc_runtime::ranks::{Ranks, Seat};
use gptjc_runtime::topology::{Pretended, Topology};
use gptjc_runtime::train::{Evaluator, Start, TrainOptions, Trainer};
use std::path::Path;
use std::sync::Arc;

/// Runs the command, with the plan in the file `plan` or with one that it compiles, on all ranks.
pub(crate) fn run(job: &JobFlags, plan: Option<&Path>, console: Console) -> Result<Outcome, CliError> {
    let Some(ranks) = ranks::join()? else { return Ok(Outcome::Done) };
    let console = if ranks.is_first() { console } else { console.silent() };
    ranks::end(&ranks, run_on(&ranks, job, plan, console))
}

/// Runs the command on one of `ranks`.
fn run_on(ranks: &Ranks, job: &JobFlags, plan: Option<&Path>, console: Console) -> Result<Outcome, CliError> {
    ranks.wait_at_most(ranks::patience(ranks::PREPARING.saturating_mul(job.run.rank_timeout)));
    let seat = ranks::seat(ranks, console)?;
    judge_flags(job, console)?;
    let model_dir = settings::model_dir(&job.compile.model)?;
    evaluation::check(job, console)?;
    let report_to = job.logging.report_to()?;
    let sources = data::find(&job.data, evaluation::wanted(job)?, console)?;
    let adapter =
        job.run.adapter.as_deref().map(|path| Ok::<_, CliError>((path, load_adapter(path)?))).transpose()?;
    let mut flags = job.compile.clone();
    flags.window.ranks = ranks.count() as u64;
    let flags = flags_of_data(flags, &sources.train, plan.is_some(), console)?;
    let adapter_of = adapter.as_ref().map(|(path, adapter)| (*path, adapter));
    let topology = job.run.topology.map_or_else(Topology::host, Pretended::topology);
    let (plan, step) = plan_and_step(&flags, plan, adapter_of, &seat, &topology)?;
    let prepare = || {
        let writes = ranks.is_first();
        let lock = writes.then(|| output::prepare(&job.output, job.checkpoint.resume())).transpose()?;
        let saved = run::find(&job.checkpoint, &job.output.output_dir, console)?;
        let checkpoint = weights::open(model_dir, &plan.options.model, Needed::of(&plan), console)?;
        Ok((lock, saved, checkpoint))
    };
    let (_lock, saved, checkpoint) = ranks::first_then_others(ranks, prepare)?;

    let in_order = matches!(sources.train, TrainSource::Tokens(..));
    let options = train_options(job, step, in_order, seat.threads(topology.threads()));
    let threads = options.threads;
    let text = TextPath::new(&job.data, model_dir, WindowShape::of(&plan.options), threads, console);
    let windows = text.training(&sources.train)?;
    let validation = sources.validation.as_deref().map(|path| text.validation(path)).transpose()?;
    let evaluator = |validation| evaluation::evaluator(&job.evaluation, &text, validation, &plan, console);
    let mut evaluator = validation.map(evaluator).transpose()?;
    let facts = run_facts::facts(job, model_dir, &plan, step, threads);

    console.line(&compile::summary(&plan));
    console.line(&trainable(&plan));
    compile::note_partial(&plan.options, console);
    let start = match adapter {
        Some((path, adapter)) => Start::Adapter(adapter, path.display().to_string()),
        None => Start::Fresh,
    };
    let mut trainer = Trainer::new(plan, Arc::new(checkpoint), start, options).map_err(failed)?;
    trainer.join(ranks.clone());
    trainer.executor().remarks().iter().for_each(|remark| console.note(remark));
    let run = Run {
        trainer: &mut trainer,
        windows: &windows,
        evaluator: evaluator.as_mut().map(|evaluator| evaluator as &mut dyn Evaluator),
        policy: evaluation::policy(job),
        flags: &job.checkpoint,
        output_dir: &job.output.output_dir,
        report_to,
        facts,
        patience: ranks::patience(job.run.rank_timeout),
        console,
    };
    run.go(saved)
}

/// Says what flags of the reference workflow come to, and what is odd about a schedule.
fn judge_flags(job: &JobFlags, console: Console) -> Result<(), CliError> {
    let verdicts = job.reference.verdicts()?;
    verdicts.notes.iter().for_each(|note| console.note(note));
    verdicts.warnings.iter().for_each(|warning| console.warn(warning));
    settings::check_schedule(&job.run)?.iter().for_each(|warning| console.warn(warning));
    Ok(())
}

/// The flags of compiling, with those that pre-tokenised batches settle.
fn flags_of_data(
    mut flags: CompileFlags,
    source: &TrainSource,
    has_plan: bool,
    console: Console,
) -> Result<CompileFlags, CliError> {
    let TrainSource::Tokens(path, batches) = source else { return Ok(flags) };
    let batch = batches.batch_size() as u64;
    let typed_batch = flags.window.per_device_train_batch_size.unwrap_or(batch);
    // A global batch that ranks share is divided among them as it can be, whatever the batches of the file.
    if flags.window.ranks <= 1 || flags.window.global_batch_size.is_none() {
        flags.window.per_device_train_batch_size = Some(typed_batch);
    }
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
    if flags.window.packing.is_some() || flags.window.dataset_concatenation.is_some() {
        console.warn("--packing: rows of --train-tokens are used as they are, each a window");
    }
    Ok(flags)
}

/// The plan in the file `path`, or one compiled for `flags`, and the windows of an optimizer step.
fn plan_and_step(
    flags: &CompileFlags,
    path: Option<&Path>,
    adapter: Option<(&Path, &Adapter)>,
    seat: &Seat,
    topology: &Topology,
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
    let machine = seat.share_of(machine::on(topology));
    let mut options = settings::defaults(model, machine, adapter.map(|(_, adapter)| adapter));
    settings::against_adapter(flags, &options, adapter)?;
    settings::overlay(flags, &mut options)?;
    let step = StepShape::new(&flags.window, &options)?;
    Ok((compile::plan(&options)?, step))
}

/// What is chosen when the plan is run.
fn train_options(job: &JobFlags, step: StepShape, in_order: bool, threads: usize) -> TrainOptions {
    let (flags, logging) = (&job.run, &job.logging);
    TrainOptions {
        learning_rate: flags.learning_rate,
        weight_decay: flags.weight_decay,
        beta1: flags.adam_beta1,
        beta2: flags.adam_beta2,
        epsilon: flags.adam_epsilon,
        max_grad_norm: flags.max_grad_norm,
        lr_scheduler_type: flags.lr_scheduler_type,
        warmup_steps: flags.warmup_steps,
        warmup_ratio: flags.warmup_ratio,
        per_device_train_batch_size: step.batch as usize,
        gradient_accumulation_steps: step.accumulation as usize,
        num_train_epochs: flags.num_train_epochs.unwrap_or(if in_order { 1.0 } else { 3.0 }),
        max_steps: u64::try_from(flags.max_steps).ok(),
        seed: flags.seed,
        logging: logging.cadence(),
        logging_first_step: logging.logging_first_step,
        eval: job.evaluation.cadence(logging.logging_steps),
        eval_on_start: job.evaluation.eval_on_start,
        save: job.checkpoint.cadence(),
        threads: flags.threads.unwrap_or(threads),
        topology: flags.topology,
        shuffle: !in_order,
    }
}

/// PEFT's line about the sizes of what is trained and of the whole.
fn trainable(plan: &Plan) -> String {
    let trained: u64 = plan.buffers_in(Memory::Parameter).map(Buffer::elements).sum();
    let all = trained + plan.frozen_tensors().map(Buffer::elements).sum::<u64>();
    let percent = 100.0 * trained as f64 / all.max(1) as f64;
    format!(
        "trainable params: {} || all params: {} || trainable%: {percent:.4}",
        thousands(trained),
        thousands(all)
    )
}
