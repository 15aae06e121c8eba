//! What the job of the reference workflow would take on this machine: GPT-J-6B, 5,000 windows of 512 tokens, 3 epochs.
//!
//! Does: compile it, which reads no weights, and say what its plan predicts. Does not: measure anything.

use super::compile;
use crate::error::CliError;
use crate::flags::inspect::InspectJobFlags;
use crate::inspect::job;
use crate::numbers::{bytes, seconds, thousands};
use crate::settings;
use gptjc_compiler::{MemoryNeed, explain};
use gptjc_graphs::plan::ModelConfig;
use gptjc_runtime::machine;
use serde::Serialize;
use std::error::Error;
use std::fmt;

/// The sizes of GPT-J-6B.
const MODEL: ModelConfig = ModelConfig {
    n_layer: 28,
    n_embd: 4096,
    n_head: 16,
    rotary_dim: 64,
    n_inner: 16384,
    vocab_size: 50400,
    n_positions: 2048,
    layer_norm_epsilon: 1e-5,
};

/// Modules with an adapter in the reference workflow.
const TARGETS: [&str; 4] = ["q_proj", "k_proj", "v_proj", "out_proj"];

/// What the job would take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct LargeModel {
    /// Bytes of the checkpoint as it is published, in f32.
    download_bytes: u64,
    /// Bytes of its copy in bf16.
    converted_bytes: u64,
    /// Bytes of memory at the peak.
    memory_bytes: u64,
    /// Windows that are computed at a time.
    micro_batch: u64,
    /// Bytes of weights that are read from the checkpoint in each micro-batch.
    streamed_bytes: u64,
    /// Windows of the job, and windows of an optimizer step.
    windows: u64,
    step_windows: u64,
    /// Passes over the windows.
    epochs: f64,
    /// Seconds of an optimizer step, with as many labels as rows of MNLI have.
    step_seconds: f64,
    /// Seconds of the job.
    job_seconds: f64,
}

impl LargeModel {
    /// What the cost model predicts for this machine.
    ///
    /// # Errors
    /// [`CliError::Compile`] if it does not fit the machine's memory.
    pub(super) fn predict() -> Result<Self, CliError> {
        let mut options = settings::defaults(MODEL, machine::host(), None);
        if let Some(lora) = &mut options.lora {
            lora.targets = TARGETS.map(str::to_owned).to_vec();
        }
        let plan = compile::plan(&options)?;
        let failed = |source: gptjc_compiler::CompileError| CliError::Compile(source.into());
        let report = explain::report(&plan, None, &job(&InspectJobFlags::default())).map_err(failed)?;
        let parameters: u64 = plan.frozen_tensors().map(|buffer| buffer.elements()).sum();
        let of_job = report.job.as_ref();
        // The last case is that of masked prompts.
        let case = of_job.and_then(|found| found.cases.last());
        Ok(Self {
            download_bytes: 4 * parameters,
            converted_bytes: 2 * parameters,
            memory_bytes: MemoryNeed::of(&plan).total(),
            micro_batch: plan.options.micro_batch,
            streamed_bytes: plan.prediction.read_bytes,
            windows: of_job.map_or(0, |found| found.job.windows),
            step_windows: plan.options.step_windows,
            epochs: of_job.map_or(0.0, |found| found.job.epochs),
            step_seconds: case.map_or(0.0, |case| case.step_seconds),
            job_seconds: case.map_or(0.0, |case| case.seconds),
        })
    }
}

impl fmt::Display for LargeModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "disk {} to download it in f32, {} for its copy in bf16",
            bytes(self.download_bytes),
            bytes(self.converted_bytes)
        )?;
        write!(f, "memory {}, {} window(s) at a time", bytes(self.memory_bytes), self.micro_batch)?;
        match self.streamed_bytes {
            0 => writeln!(f, ", all weights in memory")?,
            streamed => writeln!(f, ", {} of weights read from disk for each step", bytes(streamed))?,
        }
        write!(
            f,
            "{} a step of {} windows of 512 tokens; {} for {} windows, {} epochs, prompts masked\n\
             (all of this is predicted by the compiler's cost model; `gptjc bench machine` makes it more exact)",
            seconds(self.step_seconds),
            self.step_windows,
            seconds(self.job_seconds),
            thousands(self.windows),
            self.epochs
        )
    }
}

/// The innermost cause, which says what is too little.
pub(super) fn why_not(error: &CliError) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prediction_says_what_it_is() {
        let predicted = LargeModel {
            download_bytes: 24_203_530_496,
            converted_bytes: 12_101_765_248,
            memory_bytes: 20 << 30,
            micro_batch: 8,
            streamed_bytes: 0,
            windows: 5000,
            step_windows: 8,
            epochs: 3.0,
            step_seconds: 90.0,
            job_seconds: 168_750.0,
        };
        let text = predicted.to_string();
        for part in [
            "disk 22.5",
            "memory 20.0",
            "8 window(s) at a time, all weights in memory",
            "90.0 s a step",
            "46.9 h for 5,000 windows, 3 epochs",
            "predicted by the compiler's cost model",
        ] {
            assert!(text.contains(part), "expected `{part}` in: {text}");
        }
        let streamed = LargeModel { streamed_bytes: 1 << 30, ..predicted }.to_string();
        assert!(streamed.contains("1.00 GiB of weights read from disk for each step"), "{streamed}");
    }
}
