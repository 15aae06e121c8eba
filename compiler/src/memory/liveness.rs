//! Live ranges of the values of a graph that runs in the order of its nodes.
//!
//! A value is live from the step that defines it to the last step that reads it, both included.

use gptjc_graphs::entities::{Entity, ValueId};
use gptjc_graphs::graph::Graph;

/// First and last step at which a value is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveRange {
    /// The step that writes it.
    pub first: usize,
    /// The last step that reads it, or `first` if none does.
    pub last: usize,
}

impl LiveRange {
    /// True if there is a step at which both are live.
    pub fn meets(&self, other: &LiveRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// The live range of each value that a node defines, by the value's index; none for inputs.
pub fn live_ranges(graph: &Graph) -> Vec<Option<LiveRange>> {
    let mut ranges: Vec<Option<LiveRange>> = vec![None; graph.value_count()];
    for (step, (_, node)) in graph.nodes().enumerate() {
        for operand in &node.operands {
            if let Some(range) = &mut ranges[operand.index()] {
                range.last = step;
            }
        }
        for result in &node.results {
            ranges[result.index()] = Some(LiveRange { first: step, last: step });
        }
    }
    ranges
}

/// The last step that reads each value, inputs included, by the value's index.
pub fn last_reads(graph: &Graph) -> Vec<Option<usize>> {
    let mut last: Vec<Option<usize>> = vec![None; graph.value_count()];
    for (step, (_, node)) in graph.nodes().enumerate() {
        for operand in &node.operands {
            last[operand.index()] = Some(step);
        }
    }
    last
}

/// The last step that reads `value`.
pub fn last_read(last_reads: &[Option<usize>], value: ValueId) -> Option<usize> {
    last_reads.get(value.index()).copied().flatten()
}
