//! Binds a plan: memory for every buffer, a kernel for every step.

use super::copies::{self, Copies};
use super::read_ahead::ReadAhead;
use super::reader::{BoundLoad, EntryLoads, Reader, Source, Work};
use super::stream::Schedule;
use super::team::Team;
use super::{Bound, BoundEntry, ExecutorError};
use crate::kernels::{self, Call, Element, Kernel, View};
use crate::memory::file_reader::FileReader;
use crate::memory::region::Region;
use crate::topology::Placement;
use crate::weights::{Checkpoint, TensorView, WeightDtype, convert};
use gptjc_graphs::dtype::DType;
use gptjc_graphs::plan::{EntryPoint, KernelId, Memory, Plan, Step, verify};
use gptjc_graphs::shape::{Extent, Extents, TensorType};
use half::bf16;
use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// The frozen weights of a plan: bytes of the memory-mapped checkpoint where its type is the plan's, converted copies
/// where it is not.
pub struct WeightStore {
    checkpoint: Option<Arc<Checkpoint>>,
    converted: Vec<Region>,
}

impl WeightStore {
    /// Weights out of `checkpoint`.
    pub fn new(checkpoint: Arc<Checkpoint>) -> Self {
        Self { checkpoint: Some(checkpoint), converted: Vec::new() }
    }

    /// No weights: for plans that have none.
    pub fn none() -> Self {
        Self { checkpoint: None, converted: Vec::new() }
    }

    /// The tensor `name`, whose shape must be that of `ty`.
    fn tensor(&self, name: &str, ty: &TensorType) -> Result<TensorView<'_>, ExecutorError> {
        let missing = || ExecutorError::NoBuffer(name.to_owned());
        let tensor =
            self.checkpoint.as_ref().and_then(|checkpoint| checkpoint.tensor(name)).ok_or_else(missing)?;
        let dims: Vec<usize> = ty.dims.iter().map(|dim| dim.bound).collect();
        if tensor.shape != dims {
            let found = format!("the checkpoint's {:?}", tensor.shape);
            return Err(ExecutorError::Data { name: name.to_owned(), expected: ty.clone(), found });
        }
        Ok(tensor)
    }

    /// Has the system fetch the weights of `plan` that are used where they are mapped, in the order of their first use, and
    /// spread them over the NUMA nodes `nodes`.
    pub(super) fn read_ahead(&self, plan: &Plan, nodes: Vec<usize>) -> ReadAhead {
        let Some(checkpoint) = &self.checkpoint else { return ReadAhead::default() };
        let mut seen = vec![false; plan.buffers.len()];
        let mut tensors = Vec::new();
        for &id in plan.entries.iter().flat_map(|entry| &entry.steps).flat_map(|step| &step.operands) {
            let Some(buffer) = plan.buffers.get(id as usize) else { continue }; // `bind` refuses the plan
            let first = !std::mem::replace(&mut seen[id as usize], true);
            if first && buffer.memory() == Memory::Weight {
                let bytes = checkpoint.tensor(&buffer.name).map_or(0, |tensor| tensor.bytes.len());
                tensors.push((buffer.name.clone(), bytes));
            }
        }
        ReadAhead::start(Arc::clone(checkpoint), tensors, nodes)
    }

    /// Where the tensor `name`, of the type `ty` in the plan, is read from; its file is added to `files` if it is not there.
    fn source(
        &self,
        name: &str,
        ty: &TensorType,
        paths: &mut Vec<PathBuf>,
        files: &mut Vec<FileReader>,
    ) -> Result<Source, ExecutorError> {
        let tensor = self.tensor(name, ty)?;
        let (path, offset, dtype) = (tensor.file.to_owned(), tensor.offset, tensor.dtype);
        let file = match paths.iter().position(|known| *known == path) {
            Some(file) => file,
            None => {
                let reader = self.checkpoint.as_ref().and_then(|checkpoint| checkpoint.reader(name));
                let reader = reader.ok_or_else(|| ExecutorError::NoBuffer(name.to_owned()))?;
                files.push(reader.map_err(|source| ExecutorError::Read {
                    tensor: name.to_owned(),
                    file: path.clone(),
                    source,
                })?);
                paths.push(path.clone());
                files.len() - 1
            }
        };
        Ok(Source { name: name.to_owned(), file, path, offset, dtype })
    }

    /// The tensor `name` as `ty`.
    fn view(&mut self, name: &str, ty: &TensorType) -> Result<View, ExecutorError> {
        let tensor = self.tensor(name, ty)?;
        let address = tensor.bytes.as_ptr();
        let same_dtype = match ty.dtype {
            DType::F32 => tensor.dtype == WeightDtype::F32,
            DType::Bf16 => tensor.dtype == WeightDtype::Bf16,
            DType::I32 => false,
        };
        if same_dtype && address.addr().is_multiple_of(ty.dtype.size()) {
            // SAFETY: the bytes are `dims` elements of the dtype inside the mapped checkpoint, which this store keeps
            // alive behind an `Arc`; the store outlives the kernels (see `Bound`). Weights are never written: the plan's
            // verifier refuses a step that does.
            return Ok(unsafe { View::new(address.cast_mut(), ty.clone()) });
        }
        let (view, region) = self.copy(name, ty, "a converted weight")?;
        self.converted.push(region);
        Ok(view)
    }

    /// Says that nobody reads the tensor `name` where it is mapped any more.
    pub(super) fn release(&self, name: &str) {
        if let Some(checkpoint) = &self.checkpoint {
            let bytes = checkpoint.tensor(name).map_or(0, |tensor| tensor.bytes.len());
            checkpoint.release(name, 0..bytes);
        }
    }

    /// The tensor `name` as `ty` in memory of its own, for `what`. Kernels that use the view are dropped before the region.
    pub(super) fn copy(
        &self,
        name: &str,
        ty: &TensorType,
        what: &'static str,
    ) -> Result<(View, Region), ExecutorError> {
        let missing = || ExecutorError::NoBuffer(name.to_owned());
        let tensor = self.tensor(name, ty)?;
        let region = Region::new(ty.bytes(), what)?;
        // SAFETY: the view is used here, and by kernels that are dropped before the region.
        let view = unsafe { region.view(0, ty.clone()) }.ok_or_else(missing)?;
        // SAFETY: the region was just made: nobody else has a view of it.
        let converted = unsafe {
            match ty.dtype {
                DType::F32 => convert::read_f32_into(&tensor, view.write::<f32>(0..ty.elements())),
                DType::Bf16 => convert::read_bf16_into(&tensor, view.write::<bf16>(0..ty.elements())),
                DType::I32 => return Err(missing()),
            }
        };
        converted.map_err(|error| ExecutorError::Data {
            name: name.to_owned(),
            expected: ty.clone(),
            found: error.to_string(),
        })?;
        Ok((view, region))
    }
}

/// Binds every buffer and every step of `plan`, for threads at the places of `placement`.
pub(super) fn bind(
    plan: &Plan,
    mut weights: WeightStore,
    placement: &Placement,
) -> Result<(Bound, Reader), ExecutorError> {
    verify::verify(plan)?; // what the kernels' safety rests on
    let copies = copies::make(plan, &weights, placement)?;
    let arena = Region::new(plan.arena_bytes as usize, "temporaries")?;
    let persistent = Region::new(plan.persistent_bytes as usize, "parameters and state")?;
    let stream = Region::new(plan.stream_bytes as usize, "weights that are read as they are needed")?;
    let mut views = Vec::with_capacity(plan.buffers.len());
    let mut named = HashMap::new();
    let mut kept = Vec::new();
    for (index, buffer) in plan.buffers.iter().enumerate() {
        let outside = || ExecutorError::NoBuffer(buffer.name.clone());
        let ty = buffer.ty().map_err(|_| outside())?;
        let view = match buffer.memory() {
            // SAFETY: `Bound` drops the kernels and named views before the regions.
            Memory::Arena => unsafe { arena.view(buffer.offset as usize, ty) }.ok_or_else(outside)?,
            Memory::Weight => match copies.first().and_then(|copies| copies.views.get(&index)) {
                Some(copy) => copy.clone(),
                None => weights.view(&buffer.name, &ty)?,
            },
            // SAFETY: as above; the reader is dropped before as well (see `Executor`).
            Memory::Stream => unsafe { stream.view(buffer.offset as usize, ty) }.ok_or_else(outside)?,
            Memory::Parameter | Memory::State | Memory::Batch | Memory::Control | Memory::Result => {
                // SAFETY: as above.
                let view = unsafe { persistent.view(buffer.offset as usize, ty) }.ok_or_else(outside)?;
                let start = buffer.offset as usize;
                kept.push(start..start + view.ty().bytes());
                named.insert(buffer.name.clone(), view.clone());
                view
            }
        };
        views.push(view);
    }
    let entries: Vec<BoundEntry> =
        plan.entries.iter().map(|entry| bind_entry(entry, &views, &copies)).collect::<Result<_, _>>()?;
    let kernels = entries.iter().flat_map(|entry| entry.kernels_of(0));
    let scratch = kernels.map(|kernel| kernel.scratch()).max().unwrap_or(0);
    let work = bind_loads(plan, &views, &weights)?;
    // SAFETY: the reader is dropped before `Bound`, which has the stream region. The plan was verified: a load does not
    // start before the steps that read what lies in its place are done, and steps that read it wait until it is counted.
    let reader = unsafe { Reader::start(work) }?;
    let bound = Bound {
        entries,
        named,
        views,
        scratch,
        kept,
        _arena: arena,
        persistent,
        stream,
        copies,
        _weights: weights,
    };
    Ok((bound, reader))
}

/// The loads of every entry point, with the files that they read.
fn bind_loads(plan: &Plan, views: &[View], weights: &WeightStore) -> Result<Work, ExecutorError> {
    let (mut paths, mut files, mut entries) = (Vec::new(), Vec::new(), Vec::new());
    for entry in &plan.entries {
        let mut bound = EntryLoads { loads: Vec::new(), steps: entry.steps.len() as u64 };
        for load in &entry.loads {
            let target = views[load.buffer as usize].clone();
            let name = &plan.buffers[load.buffer as usize].name;
            let source = weights.source(name, target.ty(), &mut paths, &mut files)?;
            let schedule = Schedule {
                after_step: load.after_step.into(),
                previous_after_step: load.previous_after_step.into(),
            };
            bound.loads.push(BoundLoad { source, target, schedule });
        }
        entries.push(bound);
    }
    Ok(Work { entries, files })
}

impl Bound {
    /// Touches the share of thread `thread` of `threads` in every buffer that is kept between runs. The system puts a
    /// page where it is touched first; temporaries are touched by whoever computes them.
    ///
    /// # Safety
    /// No buffer was written yet, and nobody reads or writes one meanwhile, but for others who touch their shares.
    pub(super) unsafe fn touch(&self, thread: usize, threads: usize) {
        for range in &self.kept {
            let at = |thread: usize| range.start + range.len() * thread / threads;
            // SAFETY: the caller's promise; shares do not overlap.
            unsafe { self.persistent.touch(at(thread)..at(thread + 1)) };
        }
        // Every weight that comes by is read by all sockets, wherever it lies: the region is spread over them.
        let at = |thread: usize| self.stream.bytes() * thread / threads;
        // SAFETY: as above; the reader reads nothing before the first run.
        unsafe { self.stream.touch(at(thread)..at(thread + 1)) };
    }
}

fn bind_entry(entry: &EntryPoint, views: &[View], copies: &[Copies]) -> Result<BoundEntry, ExecutorError> {
    let mut bounds = Extents::default();
    for step in &entry.steps {
        for &id in step.operands.iter().chain(&step.results) {
            narrow(&mut bounds, views[id as usize].ty());
        }
    }
    let mut kernels = vec![bind_steps(entry, views)?];
    for node in copies.iter().skip(1) {
        let mut own = views.to_vec();
        node.views.iter().for_each(|(&index, view)| own[index] = view.clone());
        kernels.push(bind_steps(entry, &own)?);
    }
    let loads = entry.loads.len() as u64;
    // The plan was verified: loads are in the order of the steps that need them.
    let needs = (0..entry.steps.len())
        .map(|step| entry.loads.partition_point(|load| load.before_step as usize <= step) as u64)
        .collect();
    Ok(BoundEntry { name: entry.name.clone(), kernels, loads, needs, bounds })
}

/// A kernel for each step.
fn bind_steps(entry: &EntryPoint, views: &[View]) -> Result<Vec<Box<dyn Kernel>>, ExecutorError> {
    let bind = |(index, step): (usize, &Step)| {
        bind_step(step, views).map_err(|source| ExecutorError::Kernel {
            entry: entry.name.clone(),
            step: index,
            source: Box::new(source),
        })
    };
    entry.steps.iter().enumerate().map(bind).collect()
}

fn bind_step(step: &Step, views: &[View]) -> Result<Box<dyn Kernel>, kernels::KernelError> {
    let unknown = || KernelId { op: step.kernel.clone(), dtype: String::new(), isa: String::new() };
    let kernel = KernelId::parse(&step.kernel).ok_or_else(|| kernels::KernelError::Unknown(unknown()))?;
    let of = |ids: &[u32]| ids.iter().map(|&id| views[id as usize].clone()).collect();
    let call = Call {
        kernel,
        attributes: step.attributes(),
        partition: step.partition,
        operands: of(&step.operands),
        results: of(&step.results),
        workspace: of(&step.workspace),
    };
    kernels::bind(&call)
}

/// Lowers `bounds` to those of `ty`: a batch must fit every buffer of the entry point. 0 stands for no bound so far.
fn narrow(bounds: &mut Extents, ty: &TensorType) {
    for dim in &ty.dims {
        let bound = match dim.extent {
            Extent::Fixed => continue,
            Extent::Slots => &mut bounds.slots,
            Extent::Rows => &mut bounds.rows,
            Extent::Windows => &mut bounds.windows,
            Extent::Segments => &mut bounds.segments,
        };
        *bound = if *bound == 0 { dim.bound } else { dim.bound.min(*bound) };
    }
}

/// Copies `data` into `view` from element `start` on. The team is borrowed so that no run is under way.
pub(super) fn copy_in<T: Element>(_idle: &mut Team, view: View, start: usize, data: &[T]) {
    // SAFETY: the caller checked type and length; the team is idle, so nobody else touches the plan's memory.
    unsafe { view.write::<T>(start..start + data.len()) }.copy_from_slice(data);
}

/// A copy of the elements in `range` of `view`. The team is borrowed so that no run is under way.
pub(super) fn copy_out<T: Element>(_idle: &mut Team, view: View, range: Range<usize>) -> Vec<T> {
    // SAFETY: the caller checked type and length; the team is idle, so nobody writes the plan's memory.
    unsafe { view.read::<T>(range) }.to_vec()
}

/// The place of the first element in `range` of `view`, whose type is `T`, that is `wanted`. The team is borrowed so that
/// no run is under way.
pub(super) fn find<T: Element>(
    _idle: &mut Team,
    view: &View,
    range: Range<usize>,
    wanted: impl Fn(T) -> bool,
) -> Option<usize> {
    let start = range.start;
    // SAFETY: as for `copy_out`; the caller sees to it that the reader does not write the buffer.
    let found = unsafe { view.read::<T>(range) }.iter().position(|&element| wanted(element));
    found.map(|position| start + position)
}
