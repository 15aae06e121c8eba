//! Packs blocks with live ranges into one arena.
//!
//! Greedy by size: the largest block first, each at the lowest offset where it meets no block that is already placed and
//! lives at the same time, preferring the smallest gap that is large enough. Source: Pisarchyk and Lee 2020, "Efficient
//! Memory Management for Deep Neural Net Inference", greedy by size for offset calculation.

use super::liveness::LiveRange;
use gptjc_graphs::plan::ALIGNMENT;

/// A block to place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Bytes.
    pub bytes: u64,
    /// When it is in use.
    pub range: LiveRange,
}

/// Where blocks were placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Offset of each block, in the order given.
    pub offsets: Vec<u64>,
    /// Bytes of the arena.
    pub bytes: u64,
}

/// Places all blocks.
pub fn pack(blocks: &[Block]) -> Layout {
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    // Ties are broken by time, so that equal inputs give equal layouts.
    order.sort_by_key(|&index| (std::cmp::Reverse(blocks[index].bytes), blocks[index].range.first, index));
    let mut offsets = vec![0; blocks.len()];
    let mut placed: Vec<(u64, u64, LiveRange)> = Vec::with_capacity(blocks.len()); // by offset
    let mut bytes = 0;
    for index in order {
        let block = blocks[index];
        let size = block.bytes.next_multiple_of(ALIGNMENT);
        let offset = best_gap(&placed, size, &block.range);
        offsets[index] = offset;
        bytes = bytes.max(offset + size);
        let at = placed.partition_point(|&(start, ..)| start <= offset);
        placed.insert(at, (offset, offset + size, block.range));
    }
    Layout { offsets, bytes }
}

/// The start of the smallest gap of at least `size` bytes among the blocks that live during `range`.
fn best_gap(placed: &[(u64, u64, LiveRange)], size: u64, range: &LiveRange) -> u64 {
    let mut end_so_far = 0;
    let mut best: Option<(u64, u64)> = None; // (gap, offset)
    for &(start, end, ref other) in placed {
        if !other.meets(range) {
            continue;
        }
        if start >= end_so_far + size {
            let gap = start - end_so_far;
            if best.is_none_or(|(smallest, _)| gap < smallest) {
                best = Some((gap, end_so_far));
            }
        }
        end_so_far = end_so_far.max(end);
    }
    best.map_or(end_so_far, |(_, offset)| offset)
}

/// The largest sum of bytes that live at one step: no arena can be smaller.
pub fn live_bytes(blocks: &[Block]) -> u64 {
    let steps = blocks.iter().map(|block| block.range.last + 1).max().unwrap_or(0);
    let mut change = vec![0i64; steps + 1];
    for block in blocks {
        change[block.range.first] += block.bytes as i64;
        change[block.range.last + 1] -= block.bytes as i64;
    }
    let mut live = 0;
    change
        .into_iter()
        .map(|delta| {
            live += delta;
            live as u64
        })
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(bytes: u64, first: usize, last: usize) -> Block {
        Block { bytes, range: LiveRange { first, last } }
    }

    #[test]
    fn blocks_of_different_times_share_memory() {
        let layout = pack(&[block(128, 0, 1), block(128, 2, 3), block(64, 1, 2)]);
        assert_eq!(layout, Layout { offsets: vec![0, 0, 128], bytes: 192 });
    }

    proptest! {
        #[test]
        fn no_two_live_blocks_overlap(specs in prop::collection::vec((0u64..1000, 0usize..40, 0usize..10), 0..60)) {
            let blocks: Vec<Block> =
                specs.iter().map(|&(bytes, first, length)| block(bytes, first, first + length)).collect();
            let layout = pack(&blocks);
            for (i, a) in blocks.iter().enumerate() {
                prop_assert!(layout.offsets[i] + a.bytes <= layout.bytes);
                for (j, b) in blocks.iter().enumerate().skip(i + 1) {
                    let apart = layout.offsets[i] + a.bytes <= layout.offsets[j]
                        || layout.offsets[j] + b.bytes <= layout.offsets[i];
                    prop_assert!(apart || !a.range.meets(&b.range), "{i} and {j}: {layout:?}");
                }
            }
            prop_assert!(layout.bytes >= live_bytes(&blocks));
        }
    }
}
