//! What became of data, counted: lengths of examples, use of windows, labels.
//!
//! Does not: print; `gptjc data` lays this out.

use super::examples::Example;
use super::mnli::Label;
use super::rows::Rows;
use super::window::Window;
use serde::Serialize;
use std::collections::BTreeMap;

/// Most bars of a histogram, but for the one of what is longer.
const BARS: usize = 12;

/// The lengths of examples in tokens, before any is cut.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lengths {
    /// Number of examples.
    pub examples: usize,
    /// Their tokens.
    pub tokens: usize,
    /// Tokens of the shortest.
    pub shortest: usize,
    /// Tokens of the longest.
    pub longest: usize,
    /// Tokens of an example in the mean.
    pub mean: f64,
    /// By p: at least p % of the examples have at most so many tokens.
    pub percentiles: BTreeMap<u8, usize>,
    /// How many examples are how long.
    pub histogram: Vec<Bar>,
}

/// A bar of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// Least tokens.
    pub from: usize,
    /// Most tokens; none for the last bar, which has all that is longer.
    pub to: Option<usize>,
    /// Number of examples.
    pub examples: usize,
}

impl Lengths {
    /// The percentiles that are kept.
    pub const PERCENTILES: [u8; 6] = [5, 25, 50, 75, 95, 99];

    /// Measures `examples`; none if there is no example.
    pub fn of(examples: &[Example]) -> Option<Self> {
        let mut lengths: Vec<usize> = examples.iter().map(|example| example.ids.len()).collect();
        lengths.sort_unstable();
        let (&shortest, &longest) = (lengths.first()?, lengths.last()?);
        let tokens: usize = lengths.iter().sum();
        // The nearest rank: the least length that so many examples do not exceed.
        let rank = |percent: u8| (lengths.len() * usize::from(percent)).div_ceil(100).max(1) - 1;
        Some(Self {
            examples: lengths.len(),
            tokens,
            shortest,
            longest,
            mean: tokens as f64 / lengths.len() as f64,
            percentiles: Self::PERCENTILES.map(|percent| (percent, lengths[rank(percent)])).into(),
            histogram: histogram(&lengths, lengths[rank(99)]),
        })
    }
}

/// Bars of a round width from the shortest to `last` tokens, and one for what is longer.
fn histogram(sorted: &[usize], last: usize) -> Vec<Bar> {
    let shortest = sorted.first().copied().unwrap_or_default();
    let bars_of = |width: usize| last / width - shortest / width + 1;
    let widths = (0..).flat_map(|power| [1, 2, 5].map(|digit| digit * 10usize.pow(power)));
    let width = widths.take(48).find(|&width| bars_of(width) <= BARS).unwrap_or(usize::MAX);
    let mut bars = Vec::with_capacity(BARS + 1);
    let mut counted = 0;
    for bin in shortest / width..=last / width {
        let (from, to) = (bin * width, bin * width + (width - 1));
        let until = sorted.partition_point(|&length| length <= to);
        bars.push(Bar { from, to: Some(to), examples: until - counted });
        counted = until;
    }
    if counted < sorted.len() {
        bars.push(Bar { from: (last / width + 1) * width, to: None, examples: sorted.len() - counted });
    }
    bars
}

/// What windows hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WindowUse {
    /// Number of windows.
    pub windows: usize,
    /// Token slots that a window may have.
    pub window_length: usize,
    /// Token slots in use; no other is computed.
    pub slots: usize,
    /// Slots that predict a token which is in the loss.
    pub labelled: usize,
    /// Segments: runs of slots that attend to each other.
    pub segments: usize,
    /// Windows that teach nothing, because no slot of theirs is labelled.
    pub without_label: usize,
}

impl WindowUse {
    /// Counts `windows`.
    pub fn of(windows: &[Window], window_length: usize) -> Self {
        Self {
            windows: windows.len(),
            window_length,
            slots: windows.iter().map(|window| window.tokens.len()).sum(),
            labelled: windows.iter().map(Window::labelled).sum(),
            segments: windows.iter().map(|window| window.segments.len()).sum(),
            without_label: windows.iter().filter(|window| window.labelled() == 0).count(),
        }
    }

    /// Share of the slots in use that are labelled, from 0 to 1.
    pub fn labelled_share(&self) -> f64 {
        self.labelled as f64 / self.slots.max(1) as f64
    }

    /// Share of the slots that windows may have which are in use, from 0 to 1.
    pub fn filled_share(&self) -> f64 {
        self.slots as f64 / (self.windows * self.window_length).max(1) as f64
    }
}

/// How many rows have each label, in the order of GLUE's ids; none if rows have no labels.
pub fn label_counts(rows: &Rows) -> Option<[u64; 3]> {
    let Rows::Mnli(rows) = rows else { return None };
    let count = |label: Label| rows.iter().filter(|row| row.label == Some(label)).count() as u64;
    Some(Label::ALL.map(count))
}

/// Tokens that are learned, or not, in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Their ids.
    pub ids: Vec<u32>,
    /// True if they are in the loss.
    pub learned: bool,
}

/// The tokens of an example, cut where learning begins or ends.
pub fn runs_of_example(example: &Example) -> Vec<Run> {
    let learned = example.labels.iter().enumerate().map(|(index, label)| index > 0 && label.is_some());
    runs(&example.ids, learned)
}

/// The tokens of each segment of a window, cut where learning begins or ends. A token is learned if the slot before it
/// predicts it.
pub fn runs_of_window(window: &Window) -> Vec<Vec<Run>> {
    let mut begin = 0;
    let mut segments = Vec::with_capacity(window.segments.len());
    for &length in &window.segments {
        let end = begin + length as usize;
        let learned = (begin..end).map(|slot| slot > begin && window.targets[slot - 1].is_some());
        segments.push(runs(&window.tokens[begin..end], learned));
        begin = end;
    }
    segments
}

fn runs(ids: &[u32], learned: impl Iterator<Item = bool>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (&id, learned) in ids.iter().zip(learned) {
        match runs.last_mut() {
            Some(run) if run.learned == learned => run.ids.push(id),
            _ => runs.push(Run { ids: vec![id], learned }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::window::WindowLimits;

    fn examples(lengths: &[usize]) -> Vec<Example> {
        let example = |&length: &usize| Example { ids: vec![7; length], labels: vec![Some(7); length] };
        lengths.iter().map(example).collect()
    }

    #[test]
    fn lengths_are_ranked() {
        let lengths: Vec<usize> = (1..=100).rev().collect();
        let found = Lengths::of(&examples(&lengths)).unwrap();
        assert_eq!((found.examples, found.tokens, found.shortest, found.longest), (100, 5050, 1, 100));
        assert_eq!(found.mean, 50.5);
        let percentiles = [(5, 5), (25, 25), (50, 50), (75, 75), (95, 95), (99, 99)];
        assert_eq!(found.percentiles, BTreeMap::from(percentiles));
        assert_eq!(Lengths::of(&[]), None);
        let one = Lengths::of(&examples(&[3])).unwrap();
        assert_eq!(one.percentiles[&5], 3);
        assert_eq!(one.histogram, [Bar { from: 3, to: Some(3), examples: 1 }]);
    }

    #[test]
    fn histograms_count_every_example_once() {
        let mut lengths: Vec<usize> = (0..990).map(|index| 10 + index % 47).collect();
        lengths.extend([300, 2000]);
        let found = Lengths::of(&examples(&lengths)).unwrap().histogram;
        assert_eq!(found.iter().map(|bar| bar.examples).sum::<usize>(), 992);
        assert_eq!(found[0], Bar { from: 10, to: Some(14), examples: 108 });
        assert_eq!(found.last(), Some(&Bar { from: 60, to: None, examples: 2 }));
        for pair in found.windows(2) {
            assert_eq!(pair[0].to.unwrap() + 1, pair[1].from);
        }
        assert!(found.len() <= BARS + 1, "{found:?}");
    }

    #[test]
    fn windows_are_counted_and_cut_into_runs() {
        let limits = WindowLimits { window_length: 8, n_positions: 8, vocab_size: 100 };
        let mut window = Window::default();
        window.push_segment(&[1, 2, 3], &[Some(1), None, Some(3)], &limits).unwrap();
        window.push_segment(&[4, 5], &[None, Some(5)], &limits).unwrap();
        let used = WindowUse::of(&[window.clone(), Window::default()], 8);
        let expected =
            WindowUse { windows: 2, window_length: 8, slots: 5, labelled: 2, segments: 2, without_label: 1 };
        assert_eq!(used, expected);
        assert_eq!((used.labelled_share(), used.filled_share()), (0.4, 0.3125));
        let run = |ids: &[u32], learned| Run { ids: ids.to_vec(), learned };
        let segments = [vec![run(&[1, 2], false), run(&[3], true)], vec![run(&[4], false), run(&[5], true)]];
        assert_eq!(runs_of_window(&window), segments);
        let example = Example { ids: vec![1, 2, 3], labels: vec![Some(1), None, Some(3)] };
        assert_eq!(runs_of_example(&example), segments[0]);
    }
}
