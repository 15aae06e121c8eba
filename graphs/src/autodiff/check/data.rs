//! Random data for a graph, consistent in what refers to windows, segments and rows.

use super::Tensors;
use crate::dtype::DType;
use crate::entities::ValueId;
use crate::graph::Graph;
use crate::interp::Tensor;
use crate::ops::Op;
use crate::shape::{Extent, Extents};
use std::ops::Range;

/// How the used slots are cut up.
#[derive(Debug)]
pub(super) struct Layout {
    /// Slots of each window; their lengths differ where possible.
    pub(super) windows: Vec<Range<usize>>,
    /// Slots of each segment; the first window has two where possible.
    segments: Vec<Range<usize>>,
    /// Slots that have a label, ascending.
    labelled: Vec<usize>,
    /// Rows of each window.
    rows: Vec<Range<usize>>,
    slots: usize,
}

impl Layout {
    /// A layout for the graph's bounds that leaves something of each unused, where they allow it.
    pub(super) fn of(graph: &Graph) -> Self {
        let bound = |extent| bound_of(graph, extent);
        let segment_bound = bound(Extent::Segments).unwrap_or(usize::MAX);
        let windows = bound(Extent::Windows).unwrap_or(2).min(2).min(segment_bound);
        let longest = longest_segment(graph);
        let slots = bound(Extent::Slots).map_or(0, one_less).min(longest.saturating_mul(windows));
        let windows = cut(slots, windows, longest);
        let mut segments = windows.clone();
        if segment_bound > segments.len() && segments[0].len() > 1 {
            let (first, middle) = (segments[0].clone(), segments[0].start.midpoint(segments[0].end));
            segments.splice(0..1, [first.start..middle, middle..first.end]);
        }
        let rows = bound(Extent::Rows).map_or(0, one_less);
        if bound(Extent::Slots).is_none() {
            let rows = cut(rows, windows.len(), usize::MAX);
            return Self { windows, segments, labelled: Vec::new(), rows, slots };
        }
        let rows = rows.min(slots);
        let labelled: Vec<usize> = (0..rows).map(|row| row * slots / rows).collect();
        let first_row = |slot| labelled.partition_point(|&labelled| labelled < slot);
        let rows = windows.iter().map(|window| first_row(window.start)..first_row(window.end)).collect();
        Self { windows, segments, labelled, rows, slots }
    }

    /// What the data use of each extent.
    pub(super) fn extents(&self) -> Extents {
        Extents {
            slots: self.slots,
            rows: self.rows.last().map_or(0, |rows| rows.end),
            windows: self.windows.len(),
            segments: self.segments.len(),
        }
    }

    /// The window of a slot or row.
    pub(super) fn window_of(&self, extent: Extent, index: usize) -> usize {
        let ranges = if extent == Extent::Rows { &self.rows } else { &self.windows };
        ranges.iter().position(|range| range.contains(&index)).unwrap_or(0)
    }

    fn segment_of(&self, slot: usize) -> usize {
        self.segments.iter().position(|range| range.contains(&slot)).unwrap_or(0)
    }
}

/// The smallest bound that the inputs give an extent.
fn bound_of(graph: &Graph, extent: Extent) -> Option<usize> {
    let dims = graph.inputs().iter().flat_map(|input| &graph.ty(input.value).dims);
    dims.filter(|dim| dim.extent == extent).map(|dim| dim.bound).min()
}

fn one_less(bound: usize) -> usize {
    if bound > 1 { bound - 1 } else { bound }
}

/// The longest segment that the graph's attention takes.
fn longest_segment(graph: &Graph) -> usize {
    let mut longest = usize::MAX;
    let Some(table) = graph.find_input("segment_table") else { return longest };
    for (_, node) in graph.nodes().filter(|(_, node)| node.operands.contains(&table.value)) {
        let first = graph.ty(node.operands[0]);
        let bound = match node.op.attributes().get_int("window") {
            Ok(window) => window,
            Err(_) if first.rank() == 3 => first.dims[2].bound,
            Err(_) => continue,
        };
        longest = longest.min(bound);
    }
    longest
}

/// `0..total` cut into `parts` ranges of at most `longest`, the first ones longer.
fn cut(total: usize, parts: usize, longest: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::with_capacity(parts);
    let mut start = 0;
    for left in (1..=parts).rev() {
        let rest = total - start;
        let length = if left == 1 { rest } else { (rest / left + 1).min(longest).min(rest) };
        ranges.push(start..start + length);
        start += length;
    }
    ranges
}

/// Data for every input of the graph: floating-point numbers in -1..1, integers by their conventional names.
pub(super) fn random_inputs(graph: &Graph, layout: &Layout) -> Result<Tensors, String> {
    let mut random = SplitMix(0x9e37_79b9);
    let mut inputs = Tensors::new();
    for input in graph.inputs() {
        let ty = graph.ty(input.value);
        let dims = ty.used(&layout.extents());
        let elements = dims.iter().product();
        let tensor = if ty.dtype == DType::I32 {
            let data = integers(graph, layout, &input.name, input.value, elements, &mut random)?;
            if data.len() != elements {
                return Err(format!(
                    "input `{}` of type {ty}: convention gives {} numbers",
                    input.name,
                    data.len()
                ));
            }
            Tensor::int(dims, data.into_iter().map(|number| number as i32).collect())
        } else {
            Tensor::float(dims, (0..elements).map(|_| 2.0 * random.unit() - 1.0).collect())
        };
        inputs.insert(input.name.clone(), tensor);
    }
    Ok(inputs)
}

/// Data of an integer input, by its name.
fn integers(
    graph: &Graph,
    layout: &Layout,
    name: &str,
    value: ValueId,
    elements: usize,
    random: &mut SplitMix,
) -> Result<Vec<usize>, String> {
    let table =
        |ranges: &[Range<usize>]| ranges.iter().flat_map(|range| [range.start, range.len()]).collect();
    Ok(match name {
        "window_table" => table(&layout.windows),
        "row_table" => table(&layout.rows),
        "segment_table" => table(&layout.segments),
        "segment" => (0..layout.slots).map(|slot| layout.segment_of(slot)).collect(),
        "labelled" => layout.labelled.clone(),
        "tokens" | "labels" => {
            let bound = indexed(graph, name, value)?;
            (0..elements).map(|_| random.below(bound)).collect()
        }
        "position" => {
            let bound = indexed(graph, name, value)?;
            (0..elements)
                .map(|slot| (slot - layout.segments[layout.segment_of(slot)].start) % bound)
                .collect()
        }
        "counter" => vec![7, 11, 3, 0], // seed, step, first window
        "totals" => vec![layout.windows.len(), layout.extents().rows.max(1)],
        _ => return Err(format!("input `{name}` is of integers, and no convention says which")),
    })
}

/// Size of the dimension that an input of indices indexes.
fn indexed(graph: &Graph, name: &str, value: ValueId) -> Result<usize, String> {
    let users = graph.nodes().map(|(_, node)| node).filter(|node| node.operands.get(1) == Some(&value));
    let mut bounds = users.filter_map(|node| match node.op {
        Op::Embedding(_) => Some(graph.ty(node.operands[0]).dims[0].bound),
        Op::CrossEntropy(_) => Some(graph.ty(node.operands[0]).dims[1].bound),
        Op::Rotary(_) => Some(graph.ty(node.operands[2]).dims[0].bound),
        _ => None,
    });
    bounds.next().ok_or_else(|| format!("nothing reads input `{name}` that says what it is an index of"))
}

/// A small random number generator (Steele, Lea, Flood 2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in 0..1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number in 0..bound.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Role;
    use crate::shape::{Dim, TensorType};

    #[test]
    fn ranges_cover_everything_and_differ() {
        assert_eq!(cut(4, 2, usize::MAX), [0..3, 3..4]);
        assert_eq!(cut(5, 2, 3), [0..3, 3..5]);
        assert_eq!(cut(6, 2, 3), [0..3, 3..6]);
        assert_eq!(cut(0, 2, 3), [0..0, 0..0]);
    }

    #[test]
    fn a_layout_leaves_room_below_the_bounds() {
        let mut graph = Graph::new("g");
        for (name, dims) in [
            ("window_table", vec![Dim::windows(3), 2.into()]),
            ("segment_table", vec![Dim::segments(4), 2.into()]),
            ("segment", vec![Dim::slots(7)]),
            ("labelled", vec![Dim::rows(4)]),
            ("row_table", vec![Dim::windows(3), 2.into()]),
        ] {
            graph.input(name, Role::Batch, TensorType::i32(dims)).unwrap();
        }
        let layout = Layout::of(&graph);
        assert_eq!(layout.extents(), Extents { slots: 6, rows: 3, windows: 2, segments: 3 });
        let inputs = random_inputs(&graph, &layout).unwrap();
        let ints = |name: &str| inputs[name].ints().unwrap().to_vec();
        assert_eq!(ints("window_table"), [0, 4, 4, 2]);
        assert_eq!(ints("segment_table"), [0, 2, 2, 2, 4, 2]);
        assert_eq!(ints("segment"), [0, 0, 1, 1, 2, 2]);
        assert_eq!(ints("labelled"), [0, 2, 4]);
        assert_eq!(ints("row_table"), [0, 2, 2, 1]);
    }

    #[test]
    fn an_input_without_convention_is_refused() {
        let mut graph = Graph::new("g");
        graph.input("mystery", Role::Batch, TensorType::i32([Dim::slots(7)])).unwrap();
        let error = random_inputs(&graph, &Layout::of(&graph)).unwrap_err();
        assert_eq!(error, "input `mystery` is of integers, and no convention says which");
    }
}
