//! Copies of weights, one for each NUMA node that has threads.
//!
//! A plan says which weights are copied; where they lie is decided here. A copy is written by a thread that is bound to the
//! cores of its node, so that the system puts its pages there. Each node has its own kernels, which differ in nothing but the
//! addresses of these weights.

use super::ExecutorError;
use super::bind::WeightStore;
use crate::kernels::View;
use crate::memory::region::Region;
use crate::topology::{CpuMask, Placement};
use gptjc_graphs::plan::Plan;
use gptjc_graphs::shape::TensorType;
use std::collections::BTreeMap;

/// The weights of one node: by index of the plan's buffer.
pub(super) struct Copies {
    pub(super) views: BTreeMap<usize, View>,
    /// What they are views of.
    _regions: Vec<Region>,
}

/// The copies of every node of `placement`; nothing if there is one node, or nothing is to be copied.
///
/// # Errors
/// [`ExecutorError`] if a weight is missing or of another shape, or memory or threads are refused.
pub(super) fn make(
    plan: &Plan,
    weights: &WeightStore,
    placement: &Placement,
) -> Result<Vec<Copies>, ExecutorError> {
    let copied: Vec<usize> =
        plan.buffers.iter().enumerate().filter(|(_, buffer)| buffer.copied).map(|(index, _)| index).collect();
    let nodes = placement.nodes();
    if nodes.len() < 2 || copied.is_empty() {
        return Ok(Vec::new());
    }
    let copied = &copied;
    let of_node = |mask: Option<CpuMask>| {
        move || {
            // A refusal costs speed, and the team says it.
            let _bound = mask.as_ref().and_then(|mask| mask.bind().ok());
            copy(plan, weights, copied)
        }
    };
    let results: Vec<Result<Copies, ExecutorError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = nodes.iter().map(|&node| scope.spawn(of_node(mask(placement, node)))).collect();
        // Copying does not panic.
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(panicked()))).collect()
    });
    results.into_iter().collect()
}

fn panicked() -> ExecutorError {
    ExecutorError::Panicked("copies of the weights".to_owned())
}

/// The cores of a node that threads of the team run on; none if they are not bound.
fn mask(placement: &Placement, node: usize) -> Option<CpuMask> {
    let of_node = placement.places.iter().filter(|place| placement.domains[place.domain].node == node);
    let cpus: Vec<usize> = of_node.flat_map(|place| place.cpus.iter().copied()).collect();
    if cpus.is_empty() { None } else { CpuMask::new(&cpus) }
}

/// Copies on the calling thread's node.
fn copy(plan: &Plan, weights: &WeightStore, copied: &[usize]) -> Result<Copies, ExecutorError> {
    let (mut views, mut regions) = (BTreeMap::new(), Vec::new());
    for &index in copied {
        let buffer = &plan.buffers[index];
        let ty: TensorType = buffer.ty().map_err(|_| ExecutorError::NoBuffer(buffer.name.clone()))?;
        let (view, region) = weights.copy(&buffer.name, &ty, "a copy of a weight")?;
        // Nobody reads it where it is mapped any more; a node that has not come as far finds it in the page cache.
        weights.release(&buffer.name);
        views.insert(index, view);
        regions.push(region);
    }
    Ok(Copies { views, _regions: regions })
}
