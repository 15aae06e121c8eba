//! The first node of an exported graph whose output is not what it should be.
//!
//! The reference is the same graph, made again from the checkpoint and its adapter: with the values that the export's own
//! storage leaves of the weights, but kept as f32 and read by plain operators. So what a storage explains is on both
//! sides, and MatMulNBits is asked to keep what it multiplies with as f32: between the two, only roundings of f32
//! arithmetic may differ, and an output leaves its bound ([`BOUND`]) only if a weight, a constant, an attribute or an
//! edge of the graph is another one.
//!
//! The search goes in steps, each with one run of both graphs over one row: first over the hidden states between blocks and
//! what stands before and behind the blocks, then over the nodes inside the first block that is off. If none is off, the
//! insides of all blocks are looked at, a few blocks at a time, because what is off in a block need not show behind it.
//!
//! Does not: look at graphs whose values have other names, such as Optimum's.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use gptjc_graphs::onnx::NodeValue;
use serde::Serialize;

use super::engine::EngineError;
use super::library::OnnxRuntime;
use super::onnx_directory::OnnxDirectory;
use super::ort_engine::OrtOpenError;
use super::ort_probe::{Probe, Values};

/// How far a value may be from the reference's, as a share of its own size and of the root mean square of its tensor: 1,700
/// roundings of f32. Sums of 16,384 products in another order differ by some 10, and 28 blocks behind each other by some
/// 100; a weight that is off by 1 % in one place moves an output by 100 of this where the sum has 64 terms.
pub const BOUND: f64 = 1e-4;

/// Values from here on stand for keys that may not be seen: sums with the smallest f32.
const HIDDEN: f32 = 1e30;

/// Bytes of values that a run may leave, roughly.
const MEMORY: usize = 1 << 29;
/// Bytes of a block's values for each token and lane of the hidden state: some 35 values of its width, and 9 of the MLP's,
/// which is four times as wide.
const BYTES_A_LANE: usize = 80 * size_of::<f32>();

/// What a search found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeSearch {
    /// The row that ran, as the data numbers it.
    pub row: u64,
    /// What an output may be off by.
    pub bound: f64,
    /// Outputs that both graphs have and that were compared.
    pub compared: usize,
    /// The largest deviation within the bound.
    pub largest_within: f64,
    /// The first node whose output leaves the bound.
    pub first: Option<NodeFinding>,
}

/// A node whose output is off, though nothing before it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeFinding {
    /// Its name.
    pub node: String,
    /// Its operator.
    pub op_type: String,
    /// Weights and constants that it reads.
    pub weights: Vec<String>,
    /// By what its output is off.
    pub deviation: f64,
}

/// A row to run.
#[derive(Clone, Copy, Debug)]
pub struct ProbedRow<'a> {
    /// As the data numbers it.
    pub row: u64,
    /// Its tokens.
    pub tokens: &'a [u32],
}

/// Looks for the first node of the export in `tested` that gives something else than in `reference`.
///
/// # Errors
/// [`OrtOpenError`] if a directory is damaged, or ONNX Runtime fails.
pub fn find_first_node(
    tested: &Path,
    reference: &Path,
    runtime: &OnnxRuntime,
    threads: usize,
    row: ProbedRow<'_>,
) -> Result<NodeSearch, OrtOpenError> {
    let directories = [OnnxDirectory::open(tested)?, OnnxDirectory::open(reference)?];
    let probe = |index: usize, role: &str| {
        let engine = format!("ONNX Runtime ({role})");
        Probe { directory: &directories[index], runtime, threads, engine }
    };
    let pair = Pair { tested: probe(0, "export"), reference: probe(1, "reference"), row };
    Ok(pair.search()?)
}

/// Two models that read one row.
struct Pair<'a> {
    tested: Probe<'a>,
    reference: Probe<'a>,
    row: ProbedRow<'a>,
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Outside,
    /// Inside of a block, or the hidden state behind it, or its keys and values.
    Block(usize),
}

impl Place {
    fn of(name: &str) -> Self {
        let behind = |prefix: &str| {
            let (number, _) = name.strip_prefix(prefix)?.split_once(['.', '/'])?;
            number.parse().ok().map(Place::Block)
        };
        behind("transformer.h.").or_else(|| behind("present.")).unwrap_or(Place::Outside)
    }
}

/// Whether a value is looked at before it is known which block is off.
fn is_landmark(value: &NodeValue) -> bool {
    Place::of(&value.name) == Place::Outside || value.name.ends_with("/residual")
}

impl Pair<'_> {
    fn search(&self) -> Result<NodeSearch, EngineError> {
        let in_tested = self.tested.model()?.values();
        let names: HashSet<&str> = in_tested.iter().map(|value| value.name.as_str()).collect();
        // In the reference's order, which nothing can have damaged.
        let common = self.reference.model()?.values().into_iter();
        let common: Vec<NodeValue> = common.filter(|value| names.contains(value.name.as_str())).collect();
        let landmarks: Vec<&NodeValue> = common.iter().filter(|value| is_landmark(value)).collect();
        let mut search =
            NodeSearch { row: self.row.row, bound: BOUND, compared: 0, largest_within: 0.0, first: None };
        let first = self.first_off(&landmarks, &mut search)?;
        let first = match first.as_ref().map(|off| Place::of(&off.name)) {
            Some(Place::Outside) => first,
            // What is off behind the block is off somewhere in it; if nothing else is, the last sum itself is.
            Some(Place::Block(block)) => self.first_inside(&common, block..block + 1, &mut search)?.or(first),
            None => self.first_inside(&common, 0..self.reference.directory.sizes.n_layer, &mut search)?,
        };
        search.first = first.map(|off| off.finding);
        Ok(search)
    }

    /// The first value inside of `blocks` that leaves the bound, looked for in as many blocks at a time as [`MEMORY`] allows.
    fn first_inside(
        &self,
        values: &[NodeValue],
        blocks: Range<usize>,
        search: &mut NodeSearch,
    ) -> Result<Option<Off>, EngineError> {
        let block_bytes = self.row.tokens.len() * self.reference.directory.sizes.n_embd * BYTES_A_LANE;
        let at_a_time = (MEMORY / block_bytes.max(1)).max(1);
        for first in blocks.clone().step_by(at_a_time) {
            let some = first..blocks.end.min(first + at_a_time);
            let is_inside = |value: &&NodeValue| match Place::of(&value.name) {
                Place::Block(block) => some.contains(&block),
                Place::Outside => false,
            };
            let inside: Vec<&NodeValue> = values.iter().filter(is_inside).collect();
            let found = self.first_off(&inside, search)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first of `values` that leaves the bound.
    fn first_off(&self, values: &[&NodeValue], search: &mut NodeSearch) -> Result<Option<Off>, EngineError> {
        let names: Vec<String> = values.iter().map(|value| value.name.clone()).collect();
        let found = self.tested.run(self.tested.model()?, self.row.tokens, &names)?;
        let expected = self.reference.run(self.reference.model()?, self.row.tokens, &names)?;
        let mut first = None;
        for ((value, found), expected) in values.iter().zip(&found).zip(&expected) {
            let deviation = deviation(found, expected);
            search.compared += 1;
            if deviation <= BOUND {
                search.largest_within = search.largest_within.max(deviation);
            } else if first.is_none() {
                let NodeValue { name, node, op_type, weights } = (*value).clone();
                first = Some(Off { name, finding: NodeFinding { node, op_type, weights, deviation } });
            }
        }
        Ok(first)
    }
}

/// A value that is off.
struct Off {
    name: String,
    finding: NodeFinding,
}

/// The largest difference as a share of the expected value and of the root mean square of all of them; infinite if the
/// numbers are of another kind or count, or are not finite. Integers and truth values are equal or infinitely off.
fn deviation(found: &Values, expected: &Values) -> f64 {
    let (found, expected) = match (found, expected) {
        (Values::Other, Values::Other) => return 0.0,
        (Values::Floats(found), Values::Floats(expected)) if found.len() == expected.len() => {
            (found, expected)
        }
        (one, other) => return if one == other { 0.0 } else { f64::INFINITY },
    };
    let seen = || expected.iter().filter(|value| value.abs() < HIDDEN).map(|&value| f64::from(value));
    let rms = (seen().map(|value| value * value).sum::<f64>() / seen().count().max(1) as f64).sqrt();
    let mut largest = 0.0_f64;
    for (&found, &expected) in found.iter().zip(expected) {
        let difference = (f64::from(found) - f64::from(expected)).abs();
        let size = rms + f64::from(expected).abs();
        let share = if difference == 0.0 { 0.0 } else { difference / size };
        // `max` alone would pass a NaN by.
        largest = if share.is_nan() { f64::INFINITY } else { largest.max(share) };
    }
    largest
}

impl fmt::Display for NodeSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NodeSearch { row, bound, compared, largest_within, first } = self;
        match first {
            None => writeln!(
                f,
                "nodes          none out of bound: {compared} outputs on row {row} off by at most {largest_within:.1e}, \
                 bound {bound:.0e}"
            ),
            Some(NodeFinding { node, op_type, weights, deviation }) => {
                writeln!(
                    f,
                    "nodes          first out of bound: `{node}` ({op_type}), off by {deviation:.1e} on row {row}, bound \
                     {bound:.0e}; outputs in bound: at most {largest_within:.1e}"
                )?;
                match weights.as_slice() {
                    [] => Ok(()),
                    weights => writeln!(f, "               it reads {}", weights.join(", ")),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_the_names() {
        for (name, place) in [
            ("transformer.h.12/residual", Place::Block(12)),
            ("transformer.h.3.attn.q_proj/rotary", Place::Block(3)),
            ("present.7.value", Place::Block(7)),
            ("transformer.wte", Place::Outside),
            ("mask/causal", Place::Outside),
            ("logits", Place::Outside),
            ("transformer.h.x/residual", Place::Outside),
        ] {
            assert_eq!(Place::of(name), place, "{name}");
        }
    }

    #[test]
    fn deviations_are_shares_of_what_is_seen() {
        let floats = |values: &[f32]| Values::Floats(values.to_vec());
        let cases = [
            (floats(&[1.0, -1.0]), floats(&[1.0, -1.0]), 0.0),
            // RMS 1, value 1: a difference of 0.5 is a quarter.
            (floats(&[1.5, -1.0]), floats(&[1.0, -1.0]), 0.25),
            (floats(&[3.0, f32::MIN]), floats(&[3.0, f32::MIN]), 0.0),
            (floats(&[3.6, f32::MIN]), floats(&[3.0, f32::MIN]), 0.1),
            (floats(&[f32::NAN, 1.0]), floats(&[1.0, 1.0]), f64::INFINITY),
            (floats(&[0.0, 0.0]), floats(&[0.0, 0.0]), 0.0),
            (floats(&[1.0]), floats(&[1.0, 1.0]), f64::INFINITY),
            (Values::Integers(vec![1]), Values::Integers(vec![1]), 0.0),
            (Values::Integers(vec![1]), Values::Integers(vec![0]), f64::INFINITY),
            (Values::Other, floats(&[1.0]), f64::INFINITY),
        ];
        for (found, expected, share) in cases {
            let deviation = deviation(&found, &expected);
            let is_near = deviation == share || (deviation - share).abs() < 1e-6;
            assert!(is_near, "{found:?} and {expected:?}: {deviation}, expected {share}");
        }
    }
}
