//! Binds a plan: memory for every buffer, a kernel for every step.

use super::team::Team;
use super::{Bound, BoundEntry, ExecutorError};
use crate::kernels::{self, Call, Element, Kernel, View};
use crate::memory::region::Region;
use crate::weights::{Checkpoint, WeightDtype, convert};
use gptjc_graphs::dtype::DType;
use gptjc_graphs::plan::{EntryPoint, KernelId, Memory, Plan, Step, verify};
use gptjc_graphs::shape::{Extent, Extents, TensorType};
use half::bf16;
use std::collections::HashMap;
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

    /// The tensor `name` as `ty`.
    fn view(&mut self, name: &str, ty: &TensorType) -> Result<View, ExecutorError> {
        let missing = || ExecutorError::NoBuffer(name.to_owned());
        let tensor =
            self.checkpoint.as_ref().and_then(|checkpoint| checkpoint.tensor(name)).ok_or_else(missing)?;
        let dims: Vec<usize> = ty.dims.iter().map(|dim| dim.bound).collect();
        if tensor.shape != dims {
            let found = format!("the checkpoint's {:?}", tensor.shape);
            return Err(ExecutorError::Data { name: name.to_owned(), expected: ty.clone(), found });
        }
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
        let region = Region::new(ty.bytes(), "a converted weight")?;
        // SAFETY: the view is used here, and by kernels that are dropped before the store.
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
        self.converted.push(region);
        Ok(view)
    }
}

/// Binds every buffer and every step of `plan`.
pub(super) fn bind(plan: &Plan, mut weights: WeightStore) -> Result<Bound, ExecutorError> {
    verify::verify(plan)?; // what the kernels' safety rests on
    let arena = Region::new(plan.arena_bytes as usize, "temporaries")?;
    let persistent = Region::new(plan.persistent_bytes as usize, "parameters and state")?;
    let mut views = Vec::with_capacity(plan.buffers.len());
    let mut named = HashMap::new();
    for buffer in &plan.buffers {
        let outside = || ExecutorError::NoBuffer(buffer.name.clone());
        let ty = buffer.ty().map_err(|_| outside())?;
        let view = match buffer.memory() {
            // SAFETY: `Bound` drops the kernels and named views before the regions.
            Memory::Arena => unsafe { arena.view(buffer.offset as usize, ty) }.ok_or_else(outside)?,
            // A streamed tensor is read where it lies in the mapped checkpoint.
            Memory::Weight | Memory::Stream => weights.view(&buffer.name, &ty)?,
            Memory::Parameter | Memory::State | Memory::Batch | Memory::Control | Memory::Result => {
                // SAFETY: as above.
                let view = unsafe { persistent.view(buffer.offset as usize, ty) }.ok_or_else(outside)?;
                named.insert(buffer.name.clone(), view.clone());
                view
            }
        };
        views.push(view);
    }
    let entries: Vec<BoundEntry> =
        plan.entries.iter().map(|entry| bind_entry(entry, &views)).collect::<Result<_, _>>()?;
    let scratch =
        entries.iter().flat_map(|entry| &entry.kernels).map(|kernel| kernel.scratch()).max().unwrap_or(0);
    Ok(Bound { entries, named, scratch, _arena: arena, _persistent: persistent, _weights: weights })
}

fn bind_entry(entry: &EntryPoint, views: &[View]) -> Result<BoundEntry, ExecutorError> {
    let mut kernels = Vec::with_capacity(entry.steps.len());
    let mut bounds = Extents::default();
    for (index, step) in entry.steps.iter().enumerate() {
        let kernel = bind_step(step, views).map_err(|source| ExecutorError::Kernel {
            entry: entry.name.clone(),
            step: index,
            source: Box::new(source),
        })?;
        kernels.push(kernel);
        for &id in step.operands.iter().chain(&step.results) {
            narrow(&mut bounds, views[id as usize].ty());
        }
    }
    Ok(BoundEntry { name: entry.name.clone(), kernels, bounds })
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

/// Copies `data` to the beginning of `view`. The team is borrowed so that no run is under way.
pub(super) fn copy_in<T: Element>(_idle: &mut Team, view: View, data: &[T]) {
    // SAFETY: the caller checked type and length; the team is idle, so nobody else touches the plan's memory.
    unsafe { view.write::<T>(0..data.len()) }.copy_from_slice(data);
}

/// A copy of the first elements of `view`. The team is borrowed so that no run is under way.
pub(super) fn copy_out<T: Element>(_idle: &mut Team, view: View, elements: usize) -> Vec<T> {
    // SAFETY: the caller checked type and length; the team is idle, so nobody writes the plan's memory.
    unsafe { view.read_to::<T>(elements) }.to_vec()
}
