//! Holds a kernel against the reference meaning of its op, on memory that shows every stray write.
//!
//! A [`Case`] is an op with operands. [`Case::check`] runs its kernel for several partitions, orders of the tiles and
//! numbers of threads, out of place and over every operand that the op allows, and asks that
//! - the used part of the results lies within the given bounds of what [`Op::evaluate`] gives in f64;
//! - every run gives the same bits;
//! - nothing else is written: not behind the used part, not beside a buffer, not an operand.

use super::{Call, Kernel, KernelError, View, bind};
use crate::isa;
use gptjc_graphs::dtype::DType;
use gptjc_graphs::interp::{Data, Tensor};
use gptjc_graphs::ops::Op;
use gptjc_graphs::plan::{Isa, KernelId, Partition};
use gptjc_graphs::shape::{Extents, TensorType};
use half::bf16;
use proptest::prelude::ProptestConfig;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) use super::testing_data::{Batch, Random};

/// Half the distance from 1 to the next f32: the largest relative error of one rounding.
pub(crate) const U: f64 = f32::EPSILON as f64 / 2.0;

/// Few cases: all of them together are to take seconds.
pub(crate) fn few() -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 1 } else { 32 },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// What memory holds before anybody writes it: not a number as f32 and as bf16, negative as i32.
const POISON_OF_OPERANDS: [u8; 4] = [0xc1, 0xff, 0xc1, 0xff];
const POISON_OF_RESULTS: [u8; 4] = [0xa5, 0xff, 0xa5, 0xff];

/// Bytes before and behind a buffer that nobody may write.
const GUARD: usize = 64;

/// An op with operands.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) op: Op,
    pub(crate) operands: Vec<(TensorType, Tensor<f64>)>,
    pub(crate) extents: Extents,
    /// Pairs (result, operand) that the kernel insists on.
    pub(crate) always_in_place: Vec<(usize, usize)>,
    /// Which used elements of a result the kernel writes: all, if nothing is said.
    pub(crate) written: Option<Vec<bool>>,
    pub(crate) partition: Partition,
    /// Instruction set of the kernel.
    pub(crate) isa: Isa,
    /// Variants that are held against the op.
    variants: &'static [Isa],
    /// Those with pairs round otherwise than the others with vectors, which are one class.
    pairs: bool,
}

/// Aligned as the compiler aligns buffers.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u64; 8]);

/// Memory of one operand or result.
struct Memory {
    lines: Vec<Line>,
    bytes: usize,
}

impl Memory {
    fn new(bytes: usize, poison: [u8; 4]) -> Self {
        let word = u64::from(u32::from_le_bytes(poison));
        Self { lines: vec![Line([word << 32 | word; 8]); bytes.div_ceil(GUARD) + 2], bytes }
    }

    fn all(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }

    fn inside(&mut self) -> &mut [u8] {
        let bytes = self.bytes;
        &mut self.all()[GUARD..GUARD + bytes]
    }

    fn guards_hold(&mut self, poison: [u8; 4]) -> bool {
        let end = GUARD + self.bytes;
        let bytes = self.all().iter().enumerate();
        bytes.filter(|&(at, _)| at < GUARD || at >= end).all(|(at, &byte)| byte == poison[at % 4])
    }

    /// The view; `self` must not be touched while it is used.
    fn view(&mut self, ty: &TensorType) -> View {
        let address = self.inside().as_mut_ptr();
        // SAFETY: the memory is initialised, aligned to 64 bytes, and the caller keeps it alive. Every bit pattern is an
        // element.
        unsafe { View::new(address, ty.clone()) }
    }
}

/// What a run left in the results' memory.
type Bytes = Vec<Vec<u8>>;

impl Case {
    /// `op` on operands, all of whose leading dimensions are filled as `extents` says.
    pub(crate) fn new(op: impl Into<Op>, extents: Extents, operands: Vec<(TensorType, Tensor<f64>)>) -> Self {
        for (ty, tensor) in &operands {
            assert_eq!(ty.used(&extents), tensor.dims, "the test's own data of type {ty}");
        }
        let partition = Partition { rows: 1, columns: 0 };
        let (always_in_place, written) = (Vec::new(), None);
        Self {
            op: op.into(),
            operands,
            extents,
            always_in_place,
            written,
            partition,
            isa: Isa::Portable,
            variants: &[Isa::Portable],
            pairs: false,
        }
    }

    /// Cuts the work into tiles of `rows` and `columns`, besides the partitions that are tried anyway.
    pub(crate) fn tile(mut self, rows: u32, columns: u32) -> Self {
        self.partition = Partition { rows, columns };
        self
    }

    /// Asks for the variants with vectors as well.
    pub(crate) fn vector(mut self) -> Self {
        self.variants = &[Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16];
        self
    }

    /// Asks for the variants of a matrix product: with pairs, if both factors are bf16.
    pub(crate) fn product(mut self, pairs: bool) -> Self {
        self.variants = if pairs { &Isa::ALL } else { &[Isa::Portable, Isa::Avx2, Isa::Avx512] };
        self.pairs = pairs;
        self
    }

    pub(crate) fn result_types(&self) -> Vec<TensorType> {
        let types: Vec<&TensorType> = self.operands.iter().map(|(ty, _)| ty).collect();
        self.op
            .infer(&types)
            .unwrap_or_else(|error| panic!("the test's own operands of {:?}: {error}", self.op))
    }

    fn workspace_types(&self) -> Vec<TensorType> {
        let types: Vec<&TensorType> = self.operands.iter().map(|(ty, _)| ty).collect();
        self.op.workspace(&types, &self.result_types().iter().collect::<Vec<_>>())
    }

    /// What the op means, of operands changed by `change`.
    pub(crate) fn evaluate(&self, change: impl Fn(usize, f64) -> f64) -> Vec<Vec<f64>> {
        let operands: Vec<Tensor<f64>> = self
            .operands
            .iter()
            .enumerate()
            .map(|(index, (_, tensor))| match &tensor.data {
                Data::Float(data) => {
                    Tensor::float(tensor.dims.clone(), data.iter().map(|&x| change(index, x)).collect())
                }
                Data::Int(_) => tensor.clone(),
            })
            .collect();
        let types = self.result_types();
        let operands: Vec<_> = operands.iter().collect();
        let results = self.op.evaluate(&operands, &types.iter().collect::<Vec<_>>(), &self.extents);
        let numbers = |tensor: &Tensor<f64>| match &tensor.data {
            Data::Float(data) => data.clone(),
            Data::Int(data) => data.iter().copied().map(f64::from).collect(),
        };
        results.unwrap().iter().map(numbers).collect()
    }

    /// The result of the op on the magnitudes of its operands: of an op that sums products, the sums of magnitudes.
    pub(crate) fn magnitudes(&self) -> Vec<Vec<f64>> {
        self.evaluate(|_, x| x.abs())
    }

    /// The numbers of operand `index`.
    pub(crate) fn floats(&self, index: usize) -> &[f64] {
        self.operands[index].1.floats().unwrap()
    }

    /// Holds the kernels against the op. `bounds` gives, from what is expected, the largest difference of each element.
    #[track_caller]
    pub(crate) fn check(&self, bounds: impl Fn(&Case, &[Vec<f64>]) -> Vec<Vec<f64>>) {
        let mut of_vectors: Option<(Isa, Bytes)> = None;
        for &isa in self.variants {
            if !isa::usable(isa) {
                skip(self.op.name(), isa);
                continue;
            }
            let found = Case { isa, ..self.clone() }.check_variant(&bounds);
            let own_bits = isa == Isa::Portable || self.pairs && isa >= Isa::Avx512Bf16;
            if !own_bits {
                let (first, expected) = of_vectors.get_or_insert_with(|| (isa, found.clone()));
                assert!(found == *expected, "{:?}: other bits with {isa} than with {first}", self.op);
            }
        }
    }

    #[track_caller]
    fn check_variant(&self, bounds: impl Fn(&Case, &[Vec<f64>]) -> Vec<Vec<f64>>) -> Bytes {
        let expected = self.evaluate(|_, x| x);
        let mut allowed = bounds(self, &expected);
        // Errors of second order, and results too small for a normal number.
        allowed.iter_mut().flatten().for_each(|bound| *bound = *bound * 1.05 + f64::from(f32::MIN_POSITIVE));
        self.allow_ties(&expected, &mut allowed);
        let first = self.run(self.partition, &self.always_in_place, 0, 1).unwrap();
        self.check_values(&first, &expected, &allowed);
        self.check_unwritten(&first);
        self.check_partitions(&first);
        self.check_in_place(&first);
        first
    }

    /// An f32 number that is not exact may be on the other side of a tie when it is rounded to bf16.
    fn allow_ties(&self, expected: &[Vec<f64>], allowed: &mut [Vec<f64>]) {
        const ULP: f64 = 1.0 / 128.0; // at most, relative
        for (result, ty) in self.result_types().iter().enumerate().filter(|(_, ty)| ty.dtype == DType::Bf16) {
            for (bound, expected) in allowed[result].iter_mut().zip(&expected[result]) {
                if *bound > f64::from(f32::MIN_POSITIVE) {
                    *bound += ULP * (expected.abs() + *bound);
                }
            }
            assert_eq!(allowed[result].len(), expected[result].len(), "the test's own bounds of {ty}");
        }
    }

    /// Holds a kernel that does not round against the op.
    #[track_caller]
    pub(crate) fn check_exact(&self) {
        self.check(|_, expected| expected.iter().map(|result| vec![0.0; result.len()]).collect());
    }

    /// Holds a kernel that sums at most `terms` products into an element against the op.
    #[track_caller]
    pub(crate) fn check_sums(&self, terms: usize) {
        let factor = terms as f64 * U;
        self.check(|case, _| {
            let mut bounds = case.magnitudes();
            bounds.iter_mut().flatten().for_each(|bound| *bound *= factor);
            bounds
        });
    }

    fn is_written(&self, result: usize, element: usize) -> bool {
        result > 0 || self.written.as_ref().is_none_or(|written| written[element])
    }

    #[track_caller]
    fn check_values(&self, found: &Bytes, expected: &[Vec<f64>], allowed: &[Vec<f64>]) {
        for (result, ty) in self.result_types().iter().enumerate() {
            let found = decode(ty.dtype, &found[result]);
            let width: usize = ty.dims.iter().skip(1).map(|dim| dim.bound).product();
            for (element, &expected) in expected[result].iter().enumerate() {
                if !self.is_written(result, element) {
                    continue;
                }
                let expected = if ty.dtype == DType::Bf16 { round_bf16(expected) } else { expected };
                let (found, allowed) = (found[element], allowed[result][element]);
                assert!(
                    (found - expected).abs() <= allowed,
                    "{:?}: result {result} at [{}, {}]: expected {expected:e} within {allowed:e}, found {found:e}",
                    self.op,
                    element / width.max(1),
                    element % width.max(1),
                );
            }
        }
    }

    /// Out of place, what lies behind the used part is still what it was.
    #[track_caller]
    fn check_unwritten(&self, found: &Bytes) {
        for (result, ty) in self.result_types().iter().enumerate() {
            if self.always_in_place.iter().any(|pair| pair.0 == result) {
                continue;
            }
            let used: usize = ty.used(&self.extents).iter().product();
            let size = ty.dtype.size();
            for element in (0..ty.elements()).filter(|&e| e >= used || !self.is_written(result, e)) {
                let bytes = &found[result][element * size..(element + 1) * size];
                let untouched = bytes.iter().zip(POISON_OF_RESULTS.iter().cycle()).all(|(a, b)| a == b);
                assert!(untouched, "{:?}: element {element} of result {result} {ty} was written", self.op);
            }
        }
    }

    #[track_caller]
    fn check_partitions(&self, first: &Bytes) {
        let own = self.partition;
        let partitions = [(1, 0), (3, 5), (8, 8), (own.rows, 0), (1000, 16), (own.rows, own.columns)];
        for (seed, (rows, columns)) in partitions.into_iter().enumerate() {
            for threads in [1, 2] {
                let partition = Partition { rows, columns };
                let found = self.run(partition, &self.always_in_place, seed as u64 + 1, threads).unwrap();
                assert!(found == *first, "{:?}: other bits with {partition:?}, {threads} threads", self.op);
            }
        }
    }

    #[track_caller]
    fn check_in_place(&self, first: &Bytes) {
        let pairs = self.op.in_place();
        let mut choices: Vec<Vec<(usize, usize)>> = pairs.iter().map(|&pair| vec![pair]).collect();
        let distinct =
            (1..pairs.len()).all(|index| pairs[..index].iter().all(|pair| pair.0 != pairs[index].0));
        if distinct {
            choices.push(pairs.to_vec());
        }
        for choice in choices.into_iter().filter(|choice| !choice.is_empty()) {
            let found = self.run(self.partition, &choice, 7, 2).unwrap();
            for (result, ty) in self.result_types().iter().enumerate() {
                let used = ty.used(&self.extents).iter().product::<usize>() * ty.dtype.size();
                let same = found[result][..used] == first[result][..used];
                assert!(same, "{:?}: other bits in result {result} over its operand {choice:?}", self.op);
                if let Some(&(_, operand)) = choice.iter().find(|pair| pair.0 == result) {
                    let behind =
                        found[result][used..].iter().zip(self.encoded(operand).inside()[used..].to_vec());
                    let mut behind = behind.skip_while(|(found, before)| **found == *before);
                    assert!(behind.next().is_none(), "{:?}: written behind the used part in place", self.op);
                }
            }
        }
    }

    fn encoded(&self, operand: usize) -> Memory {
        let (ty, tensor) = &self.operands[operand];
        let mut memory = Memory::new(ty.bytes(), POISON_OF_OPERANDS);
        let bytes: Vec<u8> = match (&tensor.data, ty.dtype) {
            (Data::Int(data), _) => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            (Data::Float(data), DType::Bf16) => {
                data.iter().flat_map(|&x| bf16::from_f64(x).to_le_bytes()).collect()
            }
            (Data::Float(data), _) => data.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect(),
        };
        memory.inside()[..bytes.len()].copy_from_slice(&bytes);
        memory
    }

    /// Binds and runs the kernel once: tiles in the order of `seed`, results over operands as `in_place` says.
    pub(crate) fn run(
        &self,
        partition: Partition,
        in_place: &[(usize, usize)],
        seed: u64,
        threads: usize,
    ) -> Result<Bytes, KernelError> {
        let types = self.result_types();
        let mut operands: Vec<Memory> = (0..self.operands.len()).map(|index| self.encoded(index)).collect();
        let mut results: Vec<Memory> =
            types.iter().map(|ty| Memory::new(ty.bytes(), POISON_OF_RESULTS)).collect();
        let operand_views: Vec<View> =
            operands.iter_mut().zip(&self.operands).map(|(memory, (ty, _))| memory.view(ty)).collect();
        let mut result_views: Vec<View> =
            results.iter_mut().zip(&types).map(|(memory, ty)| memory.view(ty)).collect();
        for &(result, operand) in in_place {
            result_views[result] = operand_views[operand].clone();
        }
        let workspace_types = self.workspace_types();
        let mut workspace: Vec<Memory> =
            workspace_types.iter().map(|ty| Memory::new(ty.bytes(), POISON_OF_RESULTS)).collect();
        let workspace_views =
            workspace.iter_mut().zip(&workspace_types).map(|(memory, ty)| memory.view(ty)).collect();
        let mut call = self.call(partition, operand_views, result_views);
        call.workspace = workspace_views;
        let kernel = bind(&call)?;
        run_tiles(&*kernel, &self.extents, seed, threads);
        drop((kernel, call));
        for memory in &mut workspace {
            assert!(memory.guards_hold(POISON_OF_RESULTS), "{:?}: written beside the workspace", self.op);
        }
        self.check_memory(&mut operands, &mut results, in_place);
        let bytes = |result: usize| match in_place.iter().find(|pair| pair.0 == result) {
            Some(&(_, operand)) => operands[operand].inside().to_vec(),
            None => results[result].inside().to_vec(),
        };
        Ok((0..types.len()).map(bytes).collect())
    }

    fn check_memory(&self, operands: &mut [Memory], results: &mut [Memory], in_place: &[(usize, usize)]) {
        for (index, memory) in operands.iter_mut().enumerate() {
            assert!(memory.guards_hold(POISON_OF_OPERANDS), "{:?}: written beside operand {index}", self.op);
            let shared = in_place.iter().any(|pair| pair.1 == index);
            let same = shared || memory.inside() == self.encoded(index).inside();
            assert!(same, "{:?}: operand {index} was written", self.op);
        }
        for (index, memory) in results.iter_mut().enumerate() {
            assert!(memory.guards_hold(POISON_OF_RESULTS), "{:?}: written beside result {index}", self.op);
        }
    }

    /// A call with these views.
    pub(crate) fn call(&self, partition: Partition, operands: Vec<View>, results: Vec<View>) -> Call {
        let kernel = KernelId { op: self.op.name().into(), dtype: "f32".into(), isa: self.isa.name().into() };
        let (attributes, workspace) = (self.op.attributes(), Vec::new());
        Call { kernel, attributes, partition, operands, results, workspace }
    }
}

/// Says that a variant is not tested here. `GPTJC_REQUIRE_ISA` names those for which this is a failure.
#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
fn skip(op: &str, isa: Isa) {
    let required = std::env::var("GPTJC_REQUIRE_ISA").unwrap_or_default();
    assert!(
        required.split(',').all(|name| name != isa.name()),
        "`{op}` with {isa} must be tested, and this CPU lacks it"
    );
    eprintln!("skipped: `{op}` with {isa}, which this CPU lacks");
}

/// Runs every tile of every phase once, in the order of `seed`, from `threads` threads.
fn run_tiles(kernel: &dyn Kernel, extents: &Extents, seed: u64, threads: usize) {
    for phase in 0..kernel.phases(extents) {
        run_phase(kernel, phase, extents, seed, threads);
    }
}

fn run_phase(kernel: &dyn Kernel, phase: usize, extents: &Extents, seed: u64, threads: usize) {
    let mut order: Vec<usize> = (0..kernel.tiles(phase, extents)).collect();
    let mut random = Random::new(seed);
    for index in (1..order.len()).rev().filter(|_| seed > 0) {
        order.swap(index, random.below(index + 1));
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut scratch = vec![f32::NAN; kernel.scratch()];
        while let Some(&tile) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            // SAFETY: the memory behind the views is alive and touched by these threads only, each tile is run once,
            // and the test's extents are within its bounds.
            unsafe { kernel.run_tile(phase, tile, extents, &mut scratch) };
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
}

fn decode(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    match dtype {
        DType::Bf16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f64()).collect(),
        DType::F32 => {
            bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect()
        }
        DType::I32 => {
            bytes.chunks_exact(4).map(|b| f64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect()
        }
    }
}

/// `x` as bf16 stores it, made from an f32 as the kernels make it.
pub(crate) fn round_bf16(x: f64) -> f64 {
    bf16::from_f32(x as f32).to_f64()
}
