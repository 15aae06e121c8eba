//! Examples to windows.
//!
//! Three ways, all deterministic functions of the examples' order:
//!
//! - [`Packing::Concat`], what the reference workflow does with `--dataset_concatenation`: ids of all examples one
//!   after the other, cut into windows of exactly `window_length`, the remainder dropped. A window is one segment with
//!   positions from 0; examples are cut at its edges, and tokens see the examples before theirs.
//! - [`Packing::Segments`]: whole examples, each its own segment with positions from 0, so that none sees another.
//!   First fit: an example goes to the earliest window with room for it, else opens a new one. Examples keep their
//!   order inside a window; windows stand in the order in which they were opened.
//! - [`Packing::Pad`]: one example a window. The name is the user's view; no pad slot is stored or computed.
//!
//! **Long examples.** As in the reference workflow an example of more than `window_length` tokens is truncated to its
//! first `window_length` tokens, in all three ways and before anything is put together. The end is lost, and the answer
//! stands at the end: with a masked prompt nothing of such an example may be left in the loss. [`PackingReport`] counts both.
//!
//! Plain text has no answer at its end, so nothing of it need be lost: [`cut_long`] makes several examples of a long one
//! before it is packed.
//!
//! Does not: shuffle; [`super::sampler`] does.

use super::examples::Example;
use super::window::{Window, WindowError, WindowLimits};
use gptjc_graphs::plan::Packing;
use thiserror::Error;

/// What to make of examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackingOptions {
    /// How examples share windows.
    pub packing: Packing,
    /// What a window must fit.
    pub limits: WindowLimits,
    /// `--max-train-samples`: keep the first so many *windows*. It cuts after packing, as in the reference workflow,
    /// where 5000 samples are 5000 windows.
    pub max_windows: Option<usize>,
}

/// What packing did, to be told to the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackingReport {
    /// Examples given.
    pub examples: usize,
    /// Examples longer than a window, which lost their end.
    pub truncated_examples: usize,
    /// Examples that had labels and lost all of them with their end.
    pub answers_lost: usize,
    /// Tokens lost by truncation.
    pub truncated_tokens: usize,
    /// Tokens of the last, incomplete window of [`Packing::Concat`].
    pub remainder_tokens: usize,
    /// Windows made but not kept because of `max_windows`.
    pub windows_cut: usize,
    /// Token slots of the windows kept.
    pub slots: usize,
    /// Slots with a target in the windows kept.
    pub labelled: usize,
}

/// Windows in order, and what happened on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The windows; never empty.
    pub windows: Vec<Window>,
    /// Counts.
    pub report: PackingReport,
}

/// Why examples gave no windows.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PackingError {
    /// `window_length` is 0.
    #[error("a window of 0 tokens holds nothing; --max-seq-length must be at least 1")]
    NoLength,
    /// An example does not fit the model.
    #[error("example {index} (from 0): {source}")]
    Example {
        /// Index of the example.
        index: usize,
        /// Why.
        source: WindowError,
    },
    /// A window of several examples does not fit the model.
    #[error("window {index} (from 0): {source}")]
    Window {
        /// Index of the window.
        index: usize,
        /// Why.
        source: WindowError,
    },
    /// Nothing to train on.
    #[error(
        "{examples} examples with {tokens} tokens in all give no window of {window_length} tokens with --packing {packing}; give more data, or choose another --packing, --max-seq-length or --max-train-samples"
    )]
    NoWindows {
        /// Examples given.
        examples: usize,
        /// Their tokens.
        tokens: usize,
        /// Tokens a window.
        window_length: usize,
        /// The packing.
        packing: Packing,
    },
}

/// Cuts examples of more than `window_length` tokens into examples of that length and a rest. Joined, they are what they
/// were; alone, the first token of a rest is predicted by nothing.
pub fn cut_long(examples: Vec<Example>, window_length: usize) -> Vec<Example> {
    let length = window_length.max(1);
    let mut cut = Vec::with_capacity(examples.len());
    for example in examples {
        if example.ids.len() <= length {
            cut.push(example);
            continue;
        }
        let parts = example.ids.chunks(length).zip(example.labels.chunks(length));
        cut.extend(parts.map(|(ids, labels)| Example { ids: ids.to_vec(), labels: labels.to_vec() }));
    }
    cut
}

/// Packs `examples` into windows.
///
/// # Errors
/// See [`PackingError`].
pub fn pack(examples: &[Example], options: &PackingOptions) -> Result<Packed, PackingError> {
    if options.limits.window_length == 0 {
        return Err(PackingError::NoLength);
    }
    let mut report = PackingReport { examples: examples.len(), ..PackingReport::default() };
    for example in examples {
        report.count_truncation(example, options.limits.window_length);
    }
    let mut windows = match options.packing {
        Packing::Concat => concat(examples, &options.limits, &mut report)?,
        Packing::Segments => segments(examples, &options.limits)?,
        Packing::Pad => one_each(examples, &options.limits)?,
    };
    let made = windows.len();
    windows.truncate(options.max_windows.unwrap_or(made));
    report.windows_cut = made - windows.len();
    if windows.is_empty() {
        return Err(PackingError::NoWindows {
            examples: examples.len(),
            tokens: examples.iter().map(|example| example.ids.len()).sum(),
            window_length: options.limits.window_length,
            packing: options.packing,
        });
    }
    report.slots = windows.iter().map(|window| window.tokens.len()).sum();
    report.labelled = windows.iter().map(Window::labelled).sum();
    Ok(Packed { windows, report })
}

impl PackingReport {
    fn count_truncation(&mut self, example: &Example, window_length: usize) {
        let Some(lost @ 1..) = example.ids.len().checked_sub(window_length) else { return };
        self.truncated_examples += 1;
        self.truncated_tokens += lost;
        // The first label predicts nothing inside an example, so it does not count as an answer.
        let has_answer = |labels: &[Option<u32>]| labels.iter().skip(1).any(Option::is_some);
        let kept = &example.labels[..window_length.min(example.labels.len())];
        self.answers_lost += usize::from(has_answer(&example.labels) && !has_answer(kept));
    }
}

/// The part of an example that is kept.
fn head<'a>(example: &'a Example, limits: &WindowLimits) -> (&'a [u32], &'a [Option<u32>]) {
    let cut = limits.window_length;
    (&example.ids[..cut.min(example.ids.len())], &example.labels[..cut.min(example.labels.len())])
}

fn concat(
    examples: &[Example],
    limits: &WindowLimits,
    report: &mut PackingReport,
) -> Result<Vec<Window>, PackingError> {
    let length = limits.window_length;
    let (mut ids, mut labels) = (Vec::with_capacity(2 * length), Vec::with_capacity(2 * length));
    let mut windows = Vec::new();
    for (index, example) in examples.iter().enumerate() {
        let (more_ids, more_labels) = head(example, limits);
        if more_ids.len() != more_labels.len() {
            let source =
                WindowError::Lengths { what: "labels", ids: more_ids.len(), found: more_labels.len() };
            return Err(PackingError::Example { index, source });
        }
        ids.extend_from_slice(more_ids);
        labels.extend_from_slice(more_labels);
        // An example is at most one window long, so at most one window is full now.
        if ids.len() >= length {
            let window = single(&ids[..length], &labels[..length], limits);
            windows.push(window.map_err(|source| PackingError::Window { index: windows.len(), source })?);
            ids.drain(..length);
            labels.drain(..length);
        }
    }
    report.remainder_tokens = ids.len();
    Ok(windows)
}

fn segments(examples: &[Example], limits: &WindowLimits) -> Result<Vec<Window>, PackingError> {
    let mut windows: Vec<Window> = Vec::new();
    let mut room = FirstFit::default();
    for (index, example) in examples.iter().enumerate() {
        let (ids, labels) = head(example, limits);
        if ids.is_empty() {
            continue;
        }
        let place = room.place(ids.len(), limits.window_length);
        if place == windows.len() {
            windows.push(Window::default());
        }
        let pushed = windows[place].push_segment(ids, labels, limits);
        pushed.map_err(|source| PackingError::Example { index, source })?;
    }
    Ok(windows)
}

fn one_each(examples: &[Example], limits: &WindowLimits) -> Result<Vec<Window>, PackingError> {
    let mut windows = Vec::with_capacity(examples.len());
    for (index, example) in examples.iter().enumerate() {
        let (ids, labels) = head(example, limits);
        let window = single(ids, labels, limits);
        windows.push(window.map_err(|source| PackingError::Example { index, source })?);
    }
    Ok(windows)
}

fn single(ids: &[u32], labels: &[Option<u32>], limits: &WindowLimits) -> Result<Window, WindowError> {
    let mut window = Window::default();
    window.push_segment(ids, labels, limits)?;
    Ok(window)
}

/// Finds the earliest bin with room, in logarithmic time: a complete binary tree of the largest room below each node.
/// Node `i` has the children `2i` and `2i + 1`, the leaves are the bins in order, the root is node 1.
#[derive(Default)]
struct FirstFit {
    tree: Vec<usize>,
    bins: usize,
}

impl FirstFit {
    /// Index of the earliest bin with room for `size`, which is taken; a new bin of `capacity` if there is none.
    fn place(&mut self, size: usize, capacity: usize) -> usize {
        let leaves = self.tree.len() / 2;
        if self.bins > 0 && self.tree[1] >= size {
            let mut node = 1;
            while node < leaves {
                node *= 2;
                node += usize::from(self.tree[node] < size);
            }
            let room = self.tree[node] - size;
            self.set(node, room);
            return node - leaves;
        }
        if self.bins == leaves {
            self.grow();
        }
        let bin = self.bins;
        self.bins += 1;
        self.set(self.tree.len() / 2 + bin, capacity - size);
        bin
    }

    fn set(&mut self, leaf: usize, room: usize) {
        self.tree[leaf] = room;
        let mut node = leaf / 2;
        while node > 0 {
            self.tree[node] = self.tree[2 * node].max(self.tree[2 * node + 1]);
            node /= 2;
        }
    }

    /// Doubles the number of leaves. Leaves that are no bin yet have no room, so that they are never found.
    fn grow(&mut self) {
        let old = self.tree.len() / 2;
        let leaves = (2 * old).max(1);
        let mut tree = vec![0; 2 * leaves];
        tree[leaves..leaves + old].copy_from_slice(&self.tree[old..]);
        for node in (1..leaves).rev() {
            tree[node] = tree[2 * node].max(tree[2 * node + 1]);
        }
        self.tree = tree;
    }
}

#[cfg(test)]
#[path = "packing_tests.rs"]
mod tests;
