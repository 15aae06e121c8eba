//! Which windows a rank computes, which nodes of the window tree it sends, and how all nodes are joined.
//!
//! A rank's windows are consecutive. They are cut into *pieces*; each piece leaves one or more nodes in the plan's stacks
//! of partial sums. The stacks work as a binary counter over the global window index (`docs/numerics.md`): a window is
//! joined with what stands at the levels of its trailing ones. For a rank that has not computed the windows before, some
//! of these levels hold nothing of this step; they are filled with [`NEUTRAL`], which changes no sum.

use std::ops::Range;

/// x + (-0.0) is x, to the bit, for every x: +0.0 and -0.0 included.
pub(crate) const NEUTRAL: f32 = -0.0;

/// A complete node of the window tree: windows `first .. first + 2^level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) first: usize,
    pub(crate) level: u32,
    /// Level of the stack that holds it when its piece is computed.
    pub(crate) slot: u32,
}

/// Windows that are computed before the stack is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) windows: Range<usize>,
    /// Levels that must be [`NEUTRAL`] before.
    pub(crate) neutral: Range<u32>,
    /// What the stack holds then, in the order of the windows.
    pub(crate) nodes: Vec<Node>,
}

/// Of `total` things in a row, those of rank `rank` of `count`.
pub(crate) fn part(total: usize, rank: usize, count: usize) -> Range<usize> {
    total * rank / count..total * (rank + 1) / count
}

/// The nodes that stand for the first `windows` windows of a step in a stack, in the order of the windows.
pub(crate) fn done(windows: usize) -> Vec<Node> {
    descending(0, windows)
}

/// The nodes of `first .. first + count`, where `first` is a multiple of a power of two above `count` (or 0).
fn descending(first: usize, count: usize) -> Vec<Node> {
    let levels = (0..usize::BITS).rev().filter(|level| count >> level & 1 == 1);
    let mut next = first;
    levels
        .map(|level| {
            let node = Node { first: next, level, slot: level };
            next += 1 << level;
            node
        })
        .collect()
}

/// Cuts `windows` into pieces.
///
/// As long as the largest aligned block at the next window fits, it is a piece: its node is a right child, so the counter
/// carries it on. From where it does not fit, the rest is one piece, in which nothing is carried beyond it.
pub(crate) fn pieces(windows: Range<usize>) -> Vec<Piece> {
    let Range { start: mut first, end } = windows;
    let mut pieces = Vec::new();
    while first < end {
        let level = first.trailing_zeros();
        let fits = first > 0 && end - first >= 1 << level;
        let next = if fits { first + (1 << level) } else { end };
        pieces.push(match fits {
            true => {
                let slot = (next - 1).trailing_ones();
                Piece { windows: first..next, neutral: level..slot, nodes: vec![Node { first, level, slot }] }
            }
            false => Piece { windows: first..next, neutral: 0..0, nodes: descending(first, next - first) },
        });
        first = next;
    }
    pieces
}

/// The nodes that each of `count` ranks brings to a step of `windows` windows of which the first `before` are done: those
/// are the first rank's, the others are shared out.
pub(crate) fn shares(windows: usize, before: usize, count: usize) -> Vec<Share> {
    let share = |rank: usize| {
        let own = part(windows - before, rank, count);
        let pieces = pieces(before + own.start..before + own.end);
        Share { before: if rank == 0 { done(before) } else { Vec::new() }, pieces }
    };
    (0..count).map(share).collect()
}

/// What a rank brings to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Nodes that its stacks hold already.
    pub(crate) before: Vec<Node>,
    /// What it computes.
    pub(crate) pieces: Vec<Piece>,
}

impl Share {
    /// All its nodes, in the order of the windows.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = Node> + '_ {
        self.before.iter().chain(self.pieces.iter().flat_map(|piece| &piece.nodes)).copied()
    }
}

/// The sum of all windows from nodes that cover them in order, each with its values: the additions of the window tree,
/// whoever computed the nodes. None of no nodes.
pub(crate) fn join(nodes: impl IntoIterator<Item = (Node, Vec<f32>)>) -> Option<Vec<f32>> {
    let mut stack: Vec<(u32, Vec<f32>)> = Vec::new();
    for (node, mut values) in nodes {
        let mut level = node.level;
        // Two neighbours of one level, the left one of which was not joined with what is before it, are siblings.
        while let Some((_, left)) = stack.pop_if(|(top, _)| *top == level) {
            add_left(&left, &mut values);
            level += 1;
        }
        stack.push((level, values));
    }
    let (_, mut sum) = stack.pop()?;
    while let Some((_, left)) = stack.pop() {
        add_left(&left, &mut sum);
    }
    Some(sum)
}

/// `right = left + right`.
fn add_left(left: &[f32], right: &mut [f32]) {
    for (right, left) in right.iter_mut().zip(left) {
        *right += left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The counter of `kernels/window.rs`, on one element a level.
    fn push(stack: &mut [f32], index: usize, value: f32) {
        let level = index.trailing_ones() as usize;
        stack[level] = stack[..level].iter().fold(value, |sum, below| sum + below);
    }

    /// The sum that one process makes.
    fn alone(values: &[f32]) -> f32 {
        let mut stack = [f32::NAN; 12];
        values.iter().enumerate().for_each(|(index, &value)| push(&mut stack, index, value));
        let mut levels = (0..12).filter(|level| values.len() >> level & 1 == 1);
        let lowest = stack[levels.next().unwrap()];
        levels.fold(lowest, |sum, level| stack[level] + sum)
    }

    /// The sum that `count` ranks make of it, the first `before` windows being done.
    fn together(values: &[f32], before: usize, count: usize) -> f32 {
        let mut nodes = Vec::new();
        for share in shares(values.len(), before, count) {
            // What is there from other steps must not matter.
            let mut stack = [f32::NAN; 12];
            if !share.before.is_empty() {
                (0..before).for_each(|index| push(&mut stack, index, values[index]));
            }
            nodes.extend(share.before.iter().map(|node| (*node, vec![stack[node.slot as usize]])));
            for piece in share.pieces {
                piece.neutral.for_each(|level| stack[level as usize] = NEUTRAL);
                piece.windows.for_each(|index| push(&mut stack, index, values[index]));
                nodes.extend(piece.nodes.iter().map(|node| (*node, vec![stack[node.slot as usize]])));
            }
        }
        join(nodes).unwrap()[0]
    }

    proptest! {
        #[test]
        fn ranks_make_the_same_sum(seed: u32, windows in 1usize..70, before in 0usize..70, count in 1usize..9) {
            let before = before % windows;
            let value = |index: usize| {
                let hash = (seed ^ index as u32).wrapping_mul(2_654_435_761);
                // Zeros of both signs among them.
                match hash >> 29 {
                    0 => 0.0,
                    1 => -0.0,
                    _ => (hash % 2_000_003) as f32 / 7.0 - 1.5e5,
                }
            };
            let values: Vec<f32> = (0..windows).map(value).collect();
            let (one, many) = (alone(&values), together(&values, before, count));
            prop_assert_eq!(one.to_bits(), many.to_bits(), "{} and {}", one, many);
        }

        #[test]
        fn nodes_cover_all_windows(windows in 1usize..200, count in 1usize..12) {
            let mut next = 0;
            for node in shares(windows, 0, count).iter().flat_map(Share::nodes) {
                prop_assert_eq!(node.first, next);
                prop_assert!(node.first.is_multiple_of(1 << node.level));
                prop_assert!(node.slot < usize::BITS - windows.leading_zeros(), "the stacks have such a level");
                next += 1 << node.level;
            }
            prop_assert_eq!(next, windows);
        }
    }

    #[test]
    fn pieces_are_the_largest_blocks() {
        let windows = |range| pieces(range).into_iter().map(|piece| piece.windows).collect::<Vec<_>>();
        assert_eq!(windows(0..6), vec![0..6]);
        assert_eq!(windows(3..7), vec![3..4, 4..7]);
        assert_eq!(windows(5..8), vec![5..6, 6..8]);
        assert_eq!(windows(4..8), vec![4..8]);
        assert!(windows(4..4).is_empty());
    }
}
