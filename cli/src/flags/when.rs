//! When something happens in a run.

use clap::ValueEnum;
use gptjc_runtime::train::Cadence;

/// When something happens in a run; the words are those of Hugging Face's Trainer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// Not at all
    No,
    /// Every so many optimizer steps
    Steps,
    /// At the end of each epoch
    Epoch,
}

impl When {
    /// The cadence, `steps` optimizer steps long if it goes by steps.
    pub(crate) fn cadence(self, steps: u64) -> Cadence {
        match self {
            Self::No => Cadence::Never,
            Self::Steps => Cadence::Steps(steps),
            Self::Epoch => Cadence::Epochs,
        }
    }
}
