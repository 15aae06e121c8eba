//! Work and time of a whole job.
//!
//! FLOPs are counted again for each share of labelled positions, because lm_head, the loss and much of the last block
//! run on labelled rows only. Predicted seconds are for the plan's bounds, every position labelled; those of a step that
//! does less work are less by the same factor.

use super::costs::Cost;
use super::facts::TargetFacts;
use gptjc_graphs::ops::Op;
use gptjc_graphs::plan::{CompileOptions, EntryPoint, KernelId, Plan, Step};
use gptjc_graphs::shape::{Extent, TensorType};
use serde::Serialize;

/// The size of a job.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Job {
    /// Windows of an epoch, all full.
    pub windows: u64,
    /// Passes over them.
    pub epochs: f64,
    /// Share of positions with a label where prompts are masked.
    pub labelled_share: f64,
}

/// Work and time of a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobReport {
    /// The size that was asked for.
    #[serde(flatten)]
    pub job: Job,
    /// Tokens of all windows of all epochs.
    pub tokens: u64,
    /// Optimizer steps.
    pub optimizer_steps: u64,
    /// Micro-batches of all optimizer steps.
    pub micro_steps: u64,
    /// The job with every position labelled, and with masked prompts.
    pub cases: Vec<JobCase>,
}

/// The job with a share of positions labelled.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobCase {
    /// Share of positions with a label.
    pub labelled_share: f64,
    /// Floating-point operations of a token, nothing recomputed: attention, and everything else.
    pub flops_per_token: f64,
    /// Those of attention.
    pub attention_flops_per_token: f64,
    /// Those that are done a second time, to save memory; not part of the others.
    pub recomputed_flops_per_token: f64,
    /// Floating-point operations of the whole job, nothing recomputed.
    pub flops: f64,
    /// Predicted seconds of a full optimizer step.
    pub step_seconds: f64,
    /// Predicted tokens a second.
    pub tokens_per_second: f64,
    /// Predicted seconds of the whole job.
    pub seconds: f64,
    /// The same in hours.
    pub hours: f64,
    /// Work a second, as a share of the target's peak.
    pub share_of_peak: f64,
}

/// FLOPs and seconds of a run of an entry point.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    flops: f64,
    attention_flops: f64,
    seconds: f64,
}

/// The types of buffers, with `share` of the labelled rows in use.
fn types(plan: &Plan, buffers: &[u32], share: f64) -> Option<Vec<TensorType>> {
    let of = |&id: &u32| {
        let mut ty = plan.buffers.get(id as usize)?.ty().ok()?;
        for dim in ty.dims.iter_mut().filter(|dim| dim.extent == Extent::Rows) {
            dim.bound = ((dim.bound as f64 * share).round() as usize).max(1);
        }
        Some(ty)
    };
    buffers.iter().map(of).collect()
}

/// FLOPs of a step with `share` of the positions labelled; those at the bounds if the step cannot be read.
fn flops(plan: &Plan, step: &Step, share: f64) -> u64 {
    let count = || {
        let id = KernelId::parse(&step.kernel)?;
        let op = Op::from_parts(&id.op, &step.attributes()).ok()??;
        let (operands, results) = (types(plan, &step.operands, share)?, types(plan, &step.results, share)?);
        let (operands, results): (Vec<_>, Vec<_>) = (operands.iter().collect(), results.iter().collect());
        Some(op.flops(&operands, &results))
    };
    if share >= 1.0 { step.flops } else { count().unwrap_or(step.flops) }
}

fn work(plan: &Plan, entry: &EntryPoint, share: f64) -> Work {
    let mut work = Work::default();
    for step in &entry.steps {
        let flops = flops(plan, step, share) as f64;
        work.flops += flops;
        if step.module.ends_with(".attn") {
            work.attention_flops += flops;
        }
        let part = if step.flops > 0 { flops / step.flops as f64 } else { 1.0 };
        work.seconds += step.seconds * part;
    }
    // Waiting for loads is what the entry point takes beyond its steps; it is never done before they are read.
    work.seconds += (entry.seconds - Cost::sum(&entry.steps).seconds).max(0.0);
    let reading = entry.read_bytes as f64 / TargetFacts::of(&plan.options.target).disk_bandwidth.max(1.0);
    work.seconds = work.seconds.max(reading);
    work
}

/// Of `micro_step` and of `apply`.
fn works(plan: &Plan, share: f64) -> (Work, Work) {
    let of = |name: &str| plan.entry(name).map(|entry| work(plan, entry, share)).unwrap_or_default();
    (of("micro_step"), of("apply"))
}

/// Seconds of an optimizer step with all of its windows.
fn full_step(options: &CompileOptions, micro_step: &Work, apply: &Work) -> f64 {
    let micro_batches = options.step_windows as f64 / options.micro_batch.max(1) as f64;
    micro_batches * micro_step.seconds + apply.seconds
}

fn case(plan: &Plan, report: &JobReport, share: f64) -> JobCase {
    let (micro_step, apply) = works(plan, share);
    let options = &plan.options;
    let slots = (options.micro_batch * options.max_seq_length).max(1) as f64;
    let micro_steps = options.step_windows.div_ceil(options.micro_batch.max(1)) as f64;
    // A micro-batch that is not full takes the part of the time that it is full.
    let micro_batches = report.tokens as f64 / slots;
    let recomputed = plan.prediction.recomputed_flops as f64 / micro_steps.max(1.0);
    let flops_per_token = (micro_step.flops - recomputed) / slots;
    let seconds = micro_batches * micro_step.seconds + report.optimizer_steps as f64 * apply.seconds;
    let flops = flops_per_token * report.tokens as f64 + report.optimizer_steps as f64 * apply.flops;
    let target = TargetFacts::of(&options.target);
    let per_second = |amount: f64| if seconds > 0.0 { amount / seconds } else { 0.0 };
    JobCase {
        labelled_share: share,
        flops_per_token,
        attention_flops_per_token: micro_step.attention_flops / slots,
        recomputed_flops_per_token: recomputed / slots,
        flops,
        step_seconds: full_step(options, &micro_step, &apply),
        tokens_per_second: per_second(report.tokens as f64),
        seconds,
        hours: seconds / 3600.0,
        share_of_peak: per_second(flops) / target.peak_bf16.max(1.0),
    }
}

/// Predicted seconds of a full optimizer step with so many of the positions labelled; none for a plan that does not train.
pub fn step_seconds(plan: &Plan, labelled_share: f64) -> Option<f64> {
    plan.entry("micro_step")?;
    let (micro_step, apply) = works(plan, labelled_share);
    Some(full_step(&plan.options, &micro_step, &apply))
}

pub(super) fn of(plan: &Plan, job: &Job) -> Option<JobReport> {
    plan.entry("micro_step")?;
    let options = &plan.options;
    let windows = (job.windows as f64 * job.epochs).round() as u64;
    let steps_of_epoch = job.windows as f64 / options.step_windows.max(1) as f64;
    let mut report = JobReport {
        job: *job,
        tokens: windows * options.max_seq_length,
        optimizer_steps: (steps_of_epoch.ceil() * job.epochs).ceil() as u64,
        micro_steps: windows.div_ceil(options.micro_batch.max(1)),
        cases: Vec::new(),
    };
    let mut shares = vec![1.0, job.labelled_share];
    shares.dedup();
    report.cases = shares.into_iter().map(|share| case(plan, &report, share)).collect();
    Some(report)
}
