//! Losses of labelled tokens by the plan's `forward` entry, whose parameters stay as they are.
//!
//! An evaluation has many short texts. One in each window of a micro-batch would leave most of its slots empty, and where
//! weights are streamed each run reads all of them; so a run takes as many windows as have room in the micro-batch's
//! slots, each a segment (or the segments) of its own. What a segment computes does not depend on its neighbours, so
//! losses do not depend on how windows were gathered.

use crate::data::window::Window;
use crate::train::{TrainError, Trainer};
use std::ops::Range;

/// What an evaluation found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean loss over the labelled tokens.
    pub loss: f64,
    /// Labelled tokens.
    pub labelled: usize,
}

impl Trainer {
    /// The negative log-likelihood of every labelled token of `windows`, without dropout. `each` is given the index of a
    /// window and its losses in the order of its tokens; windows come in their order.
    ///
    /// # Errors
    /// [`TrainError`] if a window does not fit the plan, the entry point cannot run, or `each` fails.
    pub fn token_losses(
        &mut self,
        windows: &[&Window],
        mut each: impl FnMut(usize, &[f32]) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        let options = &self.plan().options;
        let slots = (options.micro_batch * options.max_seq_length) as usize;
        let mut together = Window::default();
        for run in runs(windows, slots) {
            gather(&windows[run.clone()], &mut together);
            let extents = self.load(&[&together])?;
            self.executor().run("forward", &extents)?;
            let losses = self.executor().read_first::<f32>("row_loss", extents.rows)?;
            let mut rest = losses.as_slice();
            for index in run {
                let (own, others) = rest.split_at(windows[index].labelled());
                each(index, own)?;
                rest = others;
            }
        }
        Ok(())
    }

    /// Loss of `windows` without dropout; parameters stay as they are.
    ///
    /// # Errors
    /// [`TrainError::NoLabels`] if no window has a label.
    pub fn evaluate(&mut self, windows: &[&Window]) -> Result<Evaluation, TrainError> {
        let mut mean = MeanLoss::default();
        self.token_losses(windows, |_, losses| {
            mean.add(losses);
            Ok(())
        })?;
        mean.get().ok_or(TrainError::NoLabels { step: self.done(), windows: windows.len() })
    }
}

/// A mean over labelled tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MeanLoss {
    sum: f64,
    labelled: usize,
}

impl MeanLoss {
    /// Adds the losses of tokens.
    pub(super) fn add(&mut self, losses: &[f32]) {
        self.sum += losses.iter().map(|&loss| f64::from(loss)).sum::<f64>();
        self.labelled += losses.len();
    }

    /// The mean; none of no tokens.
    pub(super) fn get(&self) -> Option<Evaluation> {
        let Self { sum, labelled } = *self;
        (labelled > 0).then(|| Evaluation { loss: sum / labelled as f64, labelled })
    }
}

/// Replaces `together` by the segments of `windows`, one window after the other.
pub(super) fn gather(windows: &[&Window], together: &mut Window) {
    let Window { tokens, positions, segments, targets } = together;
    tokens.clear();
    positions.clear();
    segments.clear();
    targets.clear();
    for window in windows {
        tokens.extend_from_slice(&window.tokens);
        positions.extend_from_slice(&window.positions);
        segments.extend_from_slice(&window.segments);
        targets.extend_from_slice(&window.targets);
    }
}

/// Cuts `windows` into runs of neighbours that have room in `slots` together. A window that is larger has a run of its own,
/// which the executor refuses.
pub(super) fn runs(windows: &[&Window], slots: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut used = 0;
    for (index, window) in windows.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if used + window.tokens.len() <= slots => run.end = index + 1,
            _ => {
                runs.push(index..index + 1);
                used = 0;
            }
        }
        used += window.tokens.len();
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_filled_in_order() {
        let window = |tokens: usize| Window { tokens: vec![1; tokens], ..Window::default() };
        let windows = [3, 4, 1, 8, 0, 2, 9, 1].map(window);
        let windows: Vec<&Window> = windows.iter().collect();
        assert_eq!(runs(&windows, 8), [0..3, 3..5, 5..6, 6..7, 7..8]);
        assert!(runs(&[], 8).is_empty());
    }

    #[test]
    fn a_mean_of_nothing_is_none() {
        let mut mean = MeanLoss::default();
        mean.add(&[]);
        assert_eq!(mean.get(), None);
        mean.add(&[1.0, 2.0]);
        mean.add(&[6.0]);
        assert_eq!(mean.get(), Some(Evaluation { loss: 3.0, labelled: 3 }));
    }
}
