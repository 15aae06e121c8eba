//! Random operands that are consistent in what refers to windows, segments and labelled rows.

use gptjc_graphs::dtype::DType;
use gptjc_graphs::interp::Tensor;
use gptjc_graphs::shape::{Dim, Extents, TensorType};
use std::ops::Range;

/// A small random number generator (Steele, Lea, Flood 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in 0..bound.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// A number in -1..1 that f32 holds exactly.
    pub(crate) fn signed(&mut self) -> f64 {
        f64::from((self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0)
    }
}

/// How the used slots of a micro-batch are cut up.
pub(crate) struct Batch {
    pub(crate) random: Random,
    /// Slots of each window; some may be empty.
    pub(crate) windows: Vec<Range<usize>>,
    /// Slots of each segment; a window has several.
    pub(crate) segments: Vec<Range<usize>>,
    /// Slots that have a label, ascending.
    pub(crate) labelled: Vec<usize>,
    /// Elements of each dimension that are not used.
    spare: usize,
}

impl Batch {
    /// One to four windows of up to `longest` slots.
    pub(crate) fn new(seed: u64, longest: usize) -> Self {
        let mut random = Random::new(seed);
        let (mut windows, mut segments, mut labelled) = (Vec::new(), Vec::new(), Vec::new());
        let mut slots = 0;
        for _ in 0..1 + random.below(4) {
            let window = slots..slots + random.below(longest + 1);
            while slots < window.end {
                let length = 1 + random.below(window.end - slots);
                segments.push(slots..slots + length);
                slots += length;
            }
            // A quarter of the windows have no label, the others about half of their slots.
            let is_labelled = random.below(4) > 0;
            labelled.extend(window.clone().filter(|_| is_labelled && random.below(2) > 0));
            windows.push(window);
        }
        let spare = random.below(4);
        Self { random, windows, segments, labelled, spare }
    }

    pub(crate) fn extents(&self) -> Extents {
        Extents {
            slots: self.windows.last().map_or(0, |window| window.end),
            rows: self.labelled.len(),
            windows: self.windows.len(),
            segments: self.segments.len(),
        }
    }

    /// The dimension of slots, with a bound above what is used; also the others.
    pub(crate) fn slots(&self) -> Dim {
        Dim::slots(self.extents().slots + self.spare)
    }

    pub(crate) fn rows(&self) -> Dim {
        Dim::rows(self.extents().rows + self.spare)
    }

    /// Random numbers in -1..1, rounded to the dtype, for the used part of these dimensions.
    pub(crate) fn float(&mut self, dtype: DType, dims: &[Dim]) -> (TensorType, Tensor<f64>) {
        let ty = TensorType::new(dtype, dims);
        let used = ty.used(&self.extents());
        let mut number = || match dtype {
            DType::Bf16 => super::testing::round_bf16(self.random.signed()),
            DType::F32 | DType::I32 => self.random.signed(),
        };
        let data = (0..used.iter().product()).map(|_| number()).collect();
        (ty, Tensor::float(used, data))
    }

    /// The same as f32.
    pub(crate) fn f32(&mut self, dims: &[Dim]) -> (TensorType, Tensor<f64>) {
        self.float(DType::F32, dims)
    }

    /// An f32 vector or matrix of these numbers, rounded to f32.
    pub(crate) fn given(dims: &[Dim], used: &[usize], data: Vec<f64>) -> (TensorType, Tensor<f64>) {
        let data = data.into_iter().map(|x| f64::from(x as f32)).collect();
        (TensorType::f32(dims), Tensor::float(used, data))
    }

    /// Indices below `bound`, one for each element of `dim`.
    pub(crate) fn indices(&mut self, dim: Dim, bound: usize) -> (TensorType, Tensor<f64>) {
        let used = self.extents().of(dim);
        let data = (0..used).map(|_| self.random.below(bound) as i32).collect();
        (TensorType::i32([dim]), Tensor::int([used], data))
    }

    /// Integers of a fixed dimension.
    pub(crate) fn fixed(data: &[i32]) -> (TensorType, Tensor<f64>) {
        (TensorType::i32([Dim::fixed(data.len())]), Tensor::int([data.len()], data.to_vec()))
    }

    fn table(dim: Dim, ranges: &[Range<usize>]) -> (TensorType, Tensor<f64>) {
        let data = ranges.iter().flat_map(|range| [range.start as i32, range.len() as i32]).collect();
        (TensorType::i32([dim, Dim::fixed(2)]), Tensor::int([ranges.len(), 2], data))
    }

    /// The slots of each window.
    pub(crate) fn window_table(&self) -> (TensorType, Tensor<f64>) {
        Self::table(Dim::windows(self.windows.len() + self.spare), &self.windows)
    }

    /// The labelled rows of each window.
    pub(crate) fn row_table(&self) -> (TensorType, Tensor<f64>) {
        let first = |slot| self.labelled.partition_point(|&labelled| labelled < slot);
        let ranges: Vec<_> =
            self.windows.iter().map(|window| first(window.start)..first(window.end)).collect();
        Self::table(Dim::windows(self.windows.len() + self.spare), &ranges)
    }

    /// `segment` and `segment_table`.
    pub(crate) fn segment_tables(&self) -> [(TensorType, Tensor<f64>); 2] {
        let of_slot = |slot| self.segments.iter().position(|range| range.contains(&slot)).unwrap() as i32;
        let slots = self.extents().slots;
        let segment = Tensor::int([slots], (0..slots).map(of_slot).collect());
        let table = Self::table(Dim::segments(self.segments.len() + self.spare), &self.segments);
        [(TensorType::i32([self.slots()]), segment), table]
    }

    /// The labelled slots.
    pub(crate) fn labelled(&self) -> (TensorType, Tensor<f64>) {
        let data: Vec<i32> = self.labelled.iter().map(|&slot| slot as i32).collect();
        (TensorType::i32([self.rows()]), Tensor::int([data.len()], data))
    }

    /// The dimension of queries: labelled rows, or all slots.
    pub(crate) fn queries(&self, labelled: bool) -> Dim {
        if labelled { self.rows() } else { self.slots() }
    }

    /// `segment`, `segment_table` and, if queries are rows, `labelled`.
    pub(crate) fn query_tables(&self, labelled: bool) -> Vec<(TensorType, Tensor<f64>)> {
        let mut tables = self.segment_tables().to_vec();
        tables.extend(labelled.then(|| self.labelled()));
        tables
    }

    /// Which elements of `[queries, heads, window]` lie in the band of their query.
    pub(crate) fn band(&self, labelled: bool, heads: usize, window: usize) -> Vec<bool> {
        let in_segment =
            |segment: &Range<usize>| segment.clone().map(|t| t - segment.start + 1).collect::<Vec<_>>();
        let of_slots: Vec<usize> = self.segments.iter().flat_map(in_segment).collect();
        let of_rows = self.labelled.iter().map(|&slot| of_slots[slot]).collect();
        let keys = if labelled { of_rows } else { of_slots };
        keys.into_iter().flat_map(|keys| (0..heads * window).map(move |at| at % window < keys)).collect()
    }

    /// The (seed, step, first window) of a micro-batch whose first window is `first`.
    pub(crate) fn counter(first: i32) -> (TensorType, Tensor<f64>) {
        Self::fixed(&[-559_038_737, 42, 5, first])
    }
}
