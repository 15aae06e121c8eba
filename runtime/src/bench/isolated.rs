//! One step of a plan as a plan of its own, on data that are made up.
//!
//! What a kernel is given is what the plan gives it: types, attributes, tiles, workspace. Only the memory is its own, and
//! the instruction set may be another. Tables of a batch keep their content, so that segments and windows are real;
//! every other operand is random.

use crate::data::micro_batch::MicroBatch;
use crate::data::window::Window;
use crate::executor::{Executor, ExecutorError, WeightStore};
use gptjc_graphs::dtype::DType;
use gptjc_graphs::hyper;
use gptjc_graphs::plan::{ALIGNMENT, Buffer, EntryPoint, Isa, KernelId, Memory, Plan, Step};
use gptjc_graphs::shape::{Extents, TensorType};
use half::bf16;
use std::collections::BTreeMap;

/// Name of the only entry point.
const ENTRY: &str = "step";
/// Length of the random numbers that are repeated: a prime, so that no row is another's copy.
const RANDOM: usize = 65_537;

/// A step alone.
#[derive(Clone, Debug)]
pub struct Isolated {
    /// The plan that runs it.
    pub plan: Plan,
    /// Its operands: name in `plan`, name in the plan that it came from, and type.
    pub operands: Vec<Place>,
    /// Its results, as the operands; one that is an operand too has that one's name.
    pub results: Vec<Place>,
}

/// A buffer of an isolated step.
#[derive(Clone, Debug)]
pub struct Place {
    /// Name in the step's own plan.
    pub name: String,
    /// Name in the plan that it came from.
    pub original: String,
    /// Dtype and shape.
    pub ty: TensorType,
}

/// Takes `step` out of `plan`, with kernels of `isa` if that is given. None if the step names buffers or types that
/// the plan does not have, which its verifier would have found.
pub fn isolate(plan: &Plan, step: &Step, isa: Option<Isa>) -> Option<Isolated> {
    let mut maker = Maker { plan, made: BTreeMap::new(), buffers: Vec::new(), persistent: 0, arena: 0 };
    let mut operands = Vec::new();
    for &id in &step.operands {
        let memory = if step.results.contains(&id) { Memory::State } else { Memory::Batch };
        operands.push(maker.place(id, memory)?);
    }
    let mut results = Vec::new();
    for &id in &step.results {
        results.push(maker.place(id, Memory::Result)?);
    }
    for &id in &step.workspace {
        maker.place(id, Memory::Arena)?;
    }
    let mut step = step.clone();
    for id in step.operands.iter_mut().chain(&mut step.results).chain(&mut step.workspace) {
        *id = *maker.made.get(id)?;
    }
    if let Some(isa) = isa {
        let id = KernelId::parse(&step.kernel)?;
        step.kernel = KernelId { isa: isa.name().to_owned(), ..id }.to_string();
    }
    let entry = EntryPoint { name: ENTRY.to_owned(), steps: vec![step], ..EntryPoint::default() };
    let plan = Plan {
        format_version: plan.format_version,
        compiler_version: plan.compiler_version.clone(),
        options: plan.options.clone(),
        buffers: maker.buffers,
        entries: vec![entry],
        arena_bytes: maker.arena,
        persistent_bytes: maker.persistent,
        ..Plan::default()
    };
    Some(Isolated { plan, operands, results })
}

/// Gives the buffers of a step memory of their own.
struct Maker<'a> {
    plan: &'a Plan,
    /// Index in the old plan to index in the new one.
    made: BTreeMap<u32, u32>,
    buffers: Vec<Buffer>,
    persistent: u64,
    arena: u64,
}

impl Maker<'_> {
    fn place(&mut self, id: u32, memory: Memory) -> Option<Place> {
        let old = self.plan.buffers.get(id as usize)?;
        let ty = old.ty().ok()?;
        let index = match self.made.get(&id) {
            Some(&index) => index,
            None => {
                let end = if memory == Memory::Arena { &mut self.arena } else { &mut self.persistent };
                let name = format!("buffer.{}", self.buffers.len());
                self.buffers.push(Buffer::new(&name, memory, &ty, *end));
                *end += (ty.bytes() as u64).next_multiple_of(ALIGNMENT);
                let index = self.buffers.len() as u32 - 1;
                self.made.insert(id, index);
                index
            }
        };
        let name = self.buffers[index as usize].name.clone();
        Some(Place { name, original: old.name.clone(), ty })
    }
}

/// What steps are run on.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Integers by the name of their buffer; others are 0.
    pub integers: BTreeMap<String, Vec<i32>>,
    /// How much of each dimension is used.
    pub extents: Extents,
    random: Vec<f32>,
}

impl Inputs {
    /// The tables of a micro-batch of `windows`, and random numbers of `seed` for everything else.
    pub fn new(windows: &[Window], seed: u32) -> Self {
        let mut batch = MicroBatch::default();
        batch.pack(&windows.iter().collect::<Vec<_>>());
        let extents = Extents {
            slots: batch.tokens.len(),
            rows: batch.labelled.len(),
            windows: batch.window_table.len(),
            segments: batch.segment_table.len(),
        };
        let totals = vec![extents.windows as i32, extents.rows as i32];
        let cache_slots = (0..extents.slots as i32).collect();
        let integers = [
            ("row_table", batch.row_table.as_flattened().to_vec()),
            ("window_table", batch.window_table.as_flattened().to_vec()),
            ("segment_table", batch.segment_table.as_flattened().to_vec()),
            ("tokens", batch.tokens),
            ("position", batch.positions),
            ("segment", batch.segment),
            ("labelled", batch.labelled),
            ("labels", batch.labels),
            ("counter", vec![seed.cast_signed(), 0, 3, 0]),
            ("totals", totals),
            ("cache_slot", cache_slots),
        ];
        let integers = integers.into_iter().map(|(name, values)| (name.to_owned(), values)).collect();
        Self { integers, extents, random: random(seed) }
    }

    /// `elements` numbers for the buffer called `name`: around 0 with deviation 1, or what the buffer must hold.
    fn floats(&self, name: &str, positive: bool, elements: usize, first: usize) -> Vec<f32> {
        if name == "hyper" {
            return hyper_parameters()[..elements.min(hyper::LEN)].to_vec();
        }
        let numbers = self.random.iter().cycle().skip(first % RANDOM).take(elements);
        if positive || name.starts_with("adam.v.") {
            return numbers.map(|number| number.abs()).collect();
        }
        numbers.copied().collect()
    }
}

/// Sums of four uniforms with deviation 1, from a counter.
fn random(seed: u32) -> Vec<f32> {
    let number = |index: u32| {
        let words = gptjc_graphs::philox::philox4x32_10([index, 0, 0, 0], [seed, 0x6265_6e63]);
        let sum: f64 = words.iter().map(|&word| f64::from(word) / 2f64.powi(32)).sum();
        ((sum - 2.0) * 3f64.sqrt()) as f32
    };
    (0..RANDOM as u32).map(number).collect()
}

/// What the optimizer is told at its tenth step, with the defaults of training and a learning rate of 1e-3.
fn hyper_parameters() -> [f32; hyper::LEN] {
    let mut array = [0.0; hyper::LEN];
    let (rate, beta1, beta2, weight_decay) = (1e-3f64, 0.9f64, 0.999f64, 0.01f64);
    for (index, value) in [
        (hyper::LEARNING_RATE, rate),
        (hyper::WEIGHT_DECAY, weight_decay),
        (hyper::BETA1, beta1),
        (hyper::ONE_MINUS_BETA1, 1.0 - beta1),
        (hyper::BETA2, beta2),
        (hyper::ONE_MINUS_BETA2, 1.0 - beta2),
        (hyper::EPSILON, 1e-8),
        (hyper::STEP_SIZE, rate / (1.0 - beta1.powi(10))),
        (hyper::SQRT_BIAS_CORRECTION2, (1.0 - beta2.powi(10)).sqrt()),
        (hyper::MAX_GRAD_NORM, 1.0),
        (hyper::DECAY, 1.0 - rate * weight_decay),
    ] {
        array[index] = value as f32;
    }
    array
}

/// An isolated step, bound and filled.
pub struct Bound {
    executor: Executor,
    results: Vec<Place>,
    extents: Extents,
}

impl Bound {
    /// Binds `isolated` on `threads` threads and fills its operands.
    ///
    /// # Errors
    /// [`ExecutorError`] if there is no such kernel or memory is refused.
    pub fn new(isolated: Isolated, inputs: &Inputs, threads: usize) -> Result<Self, ExecutorError> {
        let Isolated { plan, operands, results } = isolated;
        // Squares are never negative, and a norm is their root.
        let squares = plan.entries[0].steps[0].kernel.starts_with("clip_scale");
        let mut executor = Executor::new(plan, WeightStore::none(), threads)?;
        for (index, Place { name, original, ty }) in operands.iter().enumerate() {
            let elements = ty.elements();
            match ty.dtype {
                DType::I32 => {
                    let values = inputs.integers.get(original).map_or(&[][..], Vec::as_slice);
                    executor.write(name, &values[..values.len().min(elements)])?;
                }
                DType::F32 => {
                    executor.write(name, &inputs.floats(original, squares, elements, index * 977))?;
                }
                DType::Bf16 => {
                    let numbers = inputs.floats(original, squares, elements, index * 977);
                    let rounded: Vec<bf16> = numbers.into_iter().map(bf16::from_f32).collect();
                    executor.write(name, &rounded)?;
                }
            }
        }
        Ok(Self { executor, results, extents: inputs.extents })
    }

    /// Runs the step once.
    ///
    /// # Errors
    /// [`ExecutorError`] if the extents do not fit or the kernel panics.
    pub fn run(&mut self) -> Result<(), ExecutorError> {
        self.executor.run(ENTRY, &self.extents)
    }

    /// The used part of every result, in f32.
    ///
    /// # Errors
    /// [`ExecutorError`] if the plan and its memory disagree.
    pub fn results(&mut self) -> Result<Vec<(Place, Vec<f32>)>, ExecutorError> {
        let mut found = Vec::with_capacity(self.results.len());
        for place in self.results.clone() {
            let used = place.ty.used(&self.extents).iter().product();
            let name = &place.name;
            let values = match place.ty.dtype {
                DType::F32 => self.executor.read_first::<f32>(name, used)?,
                DType::Bf16 => {
                    self.executor.read_first::<bf16>(name, used)?.into_iter().map(bf16::to_f32).collect()
                }
                DType::I32 => {
                    self.executor.read_first::<i32>(name, used)?.into_iter().map(|x| x as f32).collect()
                }
            };
            found.push((place, values));
        }
        Ok(found)
    }
}
