//! When something happens in a run: logging, evaluating, saving.

/// When something happens in a run. Words and meaning are those of Hugging Face's `*_strategy` and `*_steps`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cadence {
    /// Not at all.
    #[default]
    Never,
    /// Whenever the number of optimizer steps is a multiple of this; 0 counts as 1.
    Steps(u64),
    /// At the end of each epoch, and of the run.
    Epochs,
}

/// A point between two optimizer steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Optimizer steps done.
    pub step: u64,
    /// An epoch ends here.
    pub ends_epoch: bool,
    /// The run ends here.
    pub ends_run: bool,
}

impl Cadence {
    /// Whether it is time.
    pub fn is_due(self, at: Moment) -> bool {
        match self {
            Self::Never => false,
            Self::Steps(steps) => at.step > 0 && at.step.is_multiple_of(steps.max(1)),
            Self::Epochs => at.ends_epoch || at.ends_run,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_and_epochs_end() {
        let at = |step, ends_epoch, ends_run| Moment { step, ends_epoch, ends_run };
        assert!(!Cadence::Never.is_due(at(10, true, true)));
        assert!(Cadence::Steps(5).is_due(at(10, false, false)));
        assert!(!Cadence::Steps(5).is_due(at(11, true, true)));
        assert!(
            Cadence::Steps(0).is_due(at(1, false, false)) && !Cadence::Steps(1).is_due(at(0, false, false))
        );
        assert!(Cadence::Epochs.is_due(at(3, true, false)) && Cadence::Epochs.is_due(at(3, false, true)));
        assert!(!Cadence::Epochs.is_due(at(3, false, false)));
    }
}
