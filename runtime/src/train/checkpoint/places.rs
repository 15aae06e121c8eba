//! Which part of which buffer is which tensor of a checkpoint's files.

use crate::train::parameters::spec;
use crate::weights::TensorSpec;
use gptjc_graphs::plan::{Buffer, Memory, Plan, state};

/// A tensor of a file and where the plan keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Name and shape in the file.
    pub(crate) tensor: TensorSpec,
    /// Name of the buffer.
    pub(crate) buffer: String,
    /// First element in it.
    pub(crate) start: usize,
}

impl Place {
    fn whole(tensor: String, buffer: &Buffer) -> Self {
        Self { tensor: TensorSpec { name: tensor, ..spec(buffer) }, buffer: buffer.name.clone(), start: 0 }
    }

    /// Elements.
    pub(crate) fn elements(&self) -> usize {
        self.tensor.shape.iter().product()
    }
}

/// The parameters.
pub(crate) fn parameters(plan: &Plan) -> Vec<Place> {
    plan.buffers_in(Memory::Parameter).map(|buffer| Place::whole(buffer.name.clone(), buffer)).collect()
}

/// AdamW's moments, as torch names them.
pub(crate) fn moments(plan: &Plan) -> Vec<Place> {
    let of = |name: &str| {
        let pairs = [("exp_avg", state::first_moment(name)), ("exp_avg_sq", state::second_moment(name))];
        pairs.map(|(moment, buffer)| {
            let (_, buffer) = plan.find_buffer(&buffer)?; // a parameter that nothing depends on has none
            Some(Place::whole(format!("{name}.{moment}"), buffer))
        })
    };
    plan.buffers_in(Memory::Parameter).flat_map(|buffer| of(&buffer.name)).flatten().collect()
}

/// The sums that stand for the first `windows` windows of an optimizer step: of the loss and of each gradient, those at
/// the levels of the window tree that are the set bits of `windows`.
pub(crate) fn sums(plan: &Plan, windows: usize) -> Vec<Place> {
    let gradients = plan.buffers_in(Memory::Parameter).map(|buffer| state::gradient_stack(&buffer.name));
    let stacks = std::iter::once(state::LOSS_STACK.to_owned()).chain(gradients);
    let stacks = stacks.filter_map(|name| Some(plan.find_buffer(&name)?.1));
    let levels = (0..usize::BITS as usize).filter(|level| windows >> level & 1 == 1);
    let levels: Vec<usize> = levels.collect();
    let of = |buffer: &Buffer| {
        let shape: Vec<usize> = spec(buffer).shape.split_off(1);
        let (name, size) = (buffer.name.clone(), shape.iter().product::<usize>());
        let place = move |&level: &usize| Place {
            tensor: TensorSpec { name: format!("{name}.level.{level}"), shape: shape.clone() },
            buffer: name.clone(),
            start: level * size,
        };
        levels.iter().map(place).collect::<Vec<_>>()
    };
    stacks.flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gptjc_graphs::shape::{Dim, TensorType};

    #[test]
    fn levels_of_finished_windows_are_kept() {
        let buffer = |name: &str, memory, dims: &[usize]| {
            let dims: Vec<Dim> = dims.iter().map(|&dim| Dim::fixed(dim)).collect();
            Buffer::new(name, memory, &TensorType::f32(dims), 0)
        };
        let plan = Plan {
            buffers: vec![
                buffer("w", Memory::Parameter, &[2, 3]),
                buffer("unused", Memory::Parameter, &[4]),
                buffer("adam.m.w", Memory::State, &[2, 3]),
                buffer("adam.v.w", Memory::State, &[2, 3]),
                buffer("gradient.w", Memory::State, &[3, 2, 3]),
                buffer("loss.sum", Memory::State, &[3]),
            ],
            ..Plan::default()
        };
        let names = |places: &[Place]| -> Vec<(String, usize)> {
            places.iter().map(|place| (place.tensor.name.clone(), place.start)).collect()
        };
        let at = |name: &str, start| (name.to_owned(), start);
        assert_eq!(names(&parameters(&plan)), [at("w", 0), at("unused", 0)]);
        assert_eq!(names(&moments(&plan)), [at("w.exp_avg", 0), at("w.exp_avg_sq", 0)]);
        let sums = sums(&plan, 5);
        let expected = [
            at("loss.sum.level.0", 0),
            at("loss.sum.level.2", 2),
            at("gradient.w.level.0", 0),
            at("gradient.w.level.2", 12),
        ];
        assert_eq!(names(&sums), expected);
        assert_eq!((sums[0].elements(), sums[3].elements()), (1, 6));
        assert!(super::sums(&plan, 0).is_empty());
    }
}
