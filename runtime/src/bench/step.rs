//! Training steps, timed as a whole and step by step.

use super::peak;
use crate::data::window::Window;
use crate::executor::{StepTiming, Streamed};
use crate::isa::peak::Loop;
use crate::train::{TrainError, Trainer};
use gptjc_graphs::shape::Extents;
use std::fs;
use std::time::{Duration, Instant};

/// How long the peak is measured before and after every round.
const PEAK_TIME: Duration = Duration::from_millis(50);
/// Learning rate of the steps, of which nothing is kept.
const LEARNING_RATE: f64 = 1e-4;

/// What rounds of optimizer steps took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepRounds {
    /// Seconds of each step.
    pub seconds: Vec<f64>,
    /// FLOP/s of the peak around each step, if there is a loop to measure it.
    pub peaks: Vec<f64>,
    /// Seconds of the step before them, which finds pages and caches as they were left.
    pub first_seconds: f64,
    /// What the steps read of streamed weights, and how long they waited for it: of all rounds.
    pub streamed: Streamed,
    /// Loss of the last step.
    pub loss: f32,
}

/// Runs an optimizer step over `windows` to warm up and then `rounds` of them, each between two measurements of the peak
/// of `reference`.
///
/// # Errors
/// [`TrainError`] if a step cannot run.
pub fn rounds(
    trainer: &mut Trainer,
    windows: &[Window],
    reference: Option<Loop>,
    rounds: usize,
) -> Result<StepRounds, TrainError> {
    let windows: Vec<&Window> = windows.iter().collect();
    let threads = trainer.options().threads;
    let measure_peak = || reference.map(|one| peak::measure(one, threads, PEAK_TIME));
    let begun = Instant::now();
    trainer.step(&windows, LEARNING_RATE)?;
    let mut found = StepRounds { first_seconds: begun.elapsed().as_secs_f64(), ..StepRounds::default() };
    let streamed = trainer.executor().streamed();
    let mut before = measure_peak();
    for _ in 0..rounds {
        let begun = Instant::now();
        found.loss = trainer.step(&windows, LEARNING_RATE)?.loss;
        found.seconds.push(begun.elapsed().as_secs_f64());
        let after = measure_peak();
        found.peaks.extend(before.zip(after).map(|(before, after)| (before + after) / 2.0));
        before = after;
    }
    let after = trainer.executor().streamed();
    found.streamed =
        Streamed { bytes: after.bytes - streamed.bytes, stall: after.stall.saturating_sub(streamed.stall) };
    Ok(found)
}

/// When the steps of the first micro-batch of `windows` ran, and those of `apply` after it. What training would make of
/// it is lost: this comes last.
///
/// # Errors
/// [`TrainError`] if a step cannot run.
pub fn profile(trainer: &mut Trainer, windows: &[Window]) -> Result<Vec<StepTiming>, TrainError> {
    let micro_batch = trainer.plan().options.micro_batch.max(1) as usize;
    let first: Vec<&Window> = windows.iter().take(micro_batch).collect();
    trainer.executor().record(true);
    trainer.accumulate(&first)?;
    let mut timings = trainer.executor().timings().to_vec();
    trainer.executor().run("apply", &Extents::default())?;
    timings.extend(trainer.executor().timings());
    trainer.executor().record(false);
    Ok(timings)
}

/// The most memory that this process has had in use at a time, in bytes.
pub fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Lets [`peak_memory`] count from what is in use now. Where the system does not allow that, the peak stays as it was.
pub fn reset_peak_memory() {
    // 5 resets the mark and nothing else (proc_pid_clear_refs(5)).
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Kinds of kernels, by what they cost: the op of a kernel, and the name of its kind.
pub fn family(op: &str) -> &'static str {
    match op {
        "projection" | "projection_grad" | "matmul" | "window_matmul" => "matrix products",
        "adapter_down" | "adapter_up_grad" | "adapter_grad" => "adapters",
        "attention" | "attention_grad" => "attention",
        "vocab_loss" | "cross_entropy" | "cross_entropy_grad" => "vocabulary and loss",
        "layer_norm" | "layer_norm_grad" | "layer_norm_param_grad" => "layer norm",
        "sum_squares" | "clip_scale" | "adamw" | "tree_accumulate" | "tree_finish" | "window_sum" => {
            "sums and optimizer"
        }
        _ if op.starts_with("segment_") || op.starts_with("masked_softmax") || op == "rotary" => "attention",
        _ => "element-wise and rows",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_the_op() {
        assert_eq!(family("projection_grad"), "matrix products");
        assert_eq!(family("masked_softmax_grad"), "attention");
        assert_eq!(family("gelu_tanh"), "element-wise and rows");
        assert_eq!(family("adamw"), "sums and optimizer");
    }

    #[test]
    fn this_process_has_had_memory() {
        assert!(peak_memory().unwrap() > 1 << 20);
    }
}
