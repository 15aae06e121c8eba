//! Looking for numbers that are none.
//!
//! Does not: look at weights, which the reader may be overwriting; the checkpoint has them.

use super::{Executor, bind};
use gptjc_graphs::dtype::DType;
use gptjc_graphs::plan::Memory;
use gptjc_graphs::shape::{Extent, Extents, TensorType};
use half::bf16;
use std::ops::Range;

/// An element that is infinite or no number.
#[derive(Clone, Debug, PartialEq)]
pub struct NotFinite {
    /// Its index in each dimension.
    pub index: Vec<usize>,
    /// What counts the first dimension.
    pub extent: Extent,
}

impl Executor {
    /// The first element of the buffer with index `buffer` that is in use with these extents and not finite. None in a
    /// buffer of integers, of weights, or that the plan does not have.
    pub fn first_not_finite(&mut self, buffer: u32, extents: &Extents) -> Option<NotFinite> {
        let memory = self.plan.buffers.get(buffer as usize)?.memory();
        if matches!(memory, Memory::Weight | Memory::Stream) {
            return None;
        }
        let view = self.bound.views.get(buffer as usize)?.clone();
        let team = &mut self.team;
        let ty = view.ty();
        let mut find = |range: Range<usize>| match ty.dtype {
            DType::F32 => bind::find(team, &view, range, |element: f32| !element.is_finite()),
            DType::Bf16 => bind::find(team, &view, range, |element: bf16| !element.is_finite()),
            DType::I32 => None,
        };
        let position = runs(ty, extents).into_iter().find_map(&mut find)?;
        let extent = ty.dims.first().map_or(Extent::Fixed, |dim| dim.extent);
        Some(NotFinite { index: index_of(ty, position), extent })
    }
}

/// Runs of elements that are in use, ascending.
fn runs(ty: &TensorType, extents: &Extents) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = std::iter::once(0..1).collect();
    for dim in &ty.dims {
        let used = extents.of(*dim).min(dim.bound);
        let whole = used == dim.bound;
        runs = runs
            .into_iter()
            .flat_map(|run| {
                let scale = |range: Range<usize>| range.start * dim.bound..range.end * dim.bound;
                let cut: Vec<Range<usize>> = if whole {
                    vec![scale(run)]
                } else {
                    run.map(|outer| outer * dim.bound..outer * dim.bound + used).collect()
                };
                cut
            })
            .collect();
    }
    runs
}

/// The index in each dimension of the element at `position`.
fn index_of(ty: &TensorType, position: usize) -> Vec<usize> {
    let mut rest = position;
    let mut index: Vec<usize> = ty
        .dims
        .iter()
        .rev()
        .map(|dim| {
            let bound = dim.bound.max(1);
            let own = rest % bound;
            rest /= bound;
            own
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use gptjc_graphs::shape::Dim;

    #[test]
    fn elements_in_use_are_looked_at() {
        let extents = Extents { slots: 2, windows: 1, ..Extents::default() };
        let ty = TensorType::f32([Dim::slots(4), 3.into()]);
        assert_eq!(runs(&ty, &extents), std::slice::from_ref(&(0..6)));
        let inner = TensorType::f32([2.into(), Dim::slots(4), 3.into()]);
        assert_eq!(runs(&inner, &extents), [0..6, 12..18]);
        assert_eq!(runs(&TensorType::f32([]), &extents), std::slice::from_ref(&(0..1)));
        assert_eq!(index_of(&inner, 16), [1, 1, 1]);
    }
}
