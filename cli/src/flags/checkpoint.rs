//! Flags of checkpoints: when they are written, which stay, and going on from one.

use super::values;
use clap::{Args, ValueEnum};
use gptjc_runtime::train::Cadence;
use std::path::PathBuf;
use std::time::Duration;

/// When checkpoints are written, which stay, and what a run goes on from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Checkpoints")]
pub(crate) struct CheckpointFlags {
    /// When OUT/checkpoint-STEP is written; with steps, also at the end
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = SaveWhen::Steps, ignore_case = true)]
    pub(crate) save_strategy: SaveWhen,
    /// Optimizer steps between checkpoints
    #[arg(long, value_name = "N", default_value = "500", value_parser = values::count)]
    pub(crate) save_steps: u64,
    /// Keep so many checkpoints: the newest, and the best one besides [default: all]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub(crate) save_total_limit: Option<u64>,
    /// Minutes after a checkpoint until OUT/checkpoint-rolling is written, also inside a step; 0 for never. It is removed
    /// when the run is done
    #[arg(long, value_name = "X", default_value = "30", value_parser = values::not_negative)]
    pub(crate) rolling_checkpoint_minutes: f64,
    /// Go on from this checkpoint as if the run had not been stopped; without a value, or with True, from the newest whole
    /// one in --output-dir
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "True", value_parser = resume_from)]
    pub(crate) resume_from_checkpoint: Option<ResumeFrom>,
    /// Resume even if the checkpoint's kernels round otherwise than this plan's: changes the low bits of the result
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "false", default_missing_value = "true",
        value_parser = values::boolean)]
    pub(crate) resume_on_other_isa: bool,
}

/// When checkpoints are written; the words are those of Hugging Face's Trainer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SaveWhen {
    /// Only the rolling one
    No,
    /// Every --save-steps steps, and at the end
    Steps,
    /// At the end of each epoch
    Epoch,
    /// When a model is the best of those that were evaluated
    Best,
}

/// What a run goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResumeFrom {
    /// Nothing: it is a new run.
    Nothing,
    /// The newest checkpoint in the output directory.
    Newest,
    /// This one.
    Directory(PathBuf),
}

fn resume_from(text: &str) -> Result<ResumeFrom, String> {
    Ok(match values::boolean(text) {
        Ok(true) => ResumeFrom::Newest,
        Ok(false) => ResumeFrom::Nothing,
        Err(_) => ResumeFrom::Directory(text.into()),
    })
}

impl CheckpointFlags {
    /// When checkpoints of steps are written.
    pub(crate) fn cadence(&self) -> Cadence {
        match self.save_strategy {
            SaveWhen::No | SaveWhen::Best => Cadence::Never,
            SaveWhen::Steps => Cadence::Steps(self.save_steps),
            SaveWhen::Epoch => Cadence::Epochs,
        }
    }

    /// How long after a checkpoint a rolling one is written.
    pub(crate) fn rolling(&self) -> Option<Duration> {
        let minutes = self.rolling_checkpoint_minutes;
        Duration::try_from_secs_f64(minutes * 60.0).ok().filter(|_| minutes > 0.0)
    }

    /// What the run goes on from, if it is not a new one.
    pub(crate) fn resume(&self) -> Option<&ResumeFrom> {
        self.resume_from_checkpoint.as_ref().filter(|&from| *from != ResumeFrom::Nothing)
    }
}
