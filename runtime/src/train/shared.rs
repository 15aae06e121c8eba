//! An optimizer step whose windows are shared out among ranks.
//!
//! Each rank computes its windows and reads the nodes of the window tree that they are. Elements of the gradients are
//! shared out too: a rank receives its elements of all nodes, joins them in the order of the tree, and sends the total to
//! everybody. So each rank sends its nodes once and its part of the total to every other, whatever the number of ranks.
//! The total is then the only node of the stacks, and [`Trainer::apply`] goes on as it does alone.
//!
//! Communication does not overlap with the backward pass: the gradients of adapters are small beside what computing them
//! takes (`docs/distributed.md` counts both).

use super::checkpoint::places::{self, Place};
use super::{StopFlag, TrainError, Trainer};
use crate::data::window::Window;
use crate::executor::ExecutorError;
use crate::ranks::tree::{self, NEUTRAL, Node, Share};
use crate::ranks::{Ranks, Standing};
use std::ops::Range;
use std::time::Instant;

impl Trainer {
    /// This run is one of several that train together; until now it was alone.
    pub fn join(&mut self, ranks: Ranks) {
        self.ranks = ranks;
    }

    /// Who trains together.
    pub fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// `own`, if all ranks have come as far; a stop if one of them was [stopped](TrainError::is_stop).
    ///
    /// # Errors
    /// `own`'s, or [`TrainError::Ranks`] if another rank failed.
    pub fn together<T>(&self, own: Result<T, TrainError>) -> Result<T, TrainError> {
        if self.ranks.is_alone() {
            return own;
        }
        let standing = match &own {
            Ok(_) => Standing::Done,
            Err(error) if error.is_stop() => Standing::Stopped,
            Err(error) => Standing::Failed(error.to_string()),
        };
        match (self.ranks.stand(standing)?, own) {
            (Standing::Stopped, Ok(_)) => Err(stopped()),
            (_, own) => own,
        }
    }

    /// Forward and backward of the windows behind the first `before` of a step, shared out among ranks. At the end, the
    /// stacks of every rank hold one node at level 0, the total. The step may be [stopped](TrainError::is_stop), by `stop`
    /// as well; then the sums of the first `before` windows are as they were.
    ///
    /// # Errors
    /// [`TrainError`] if a micro-batch cannot run here, or a rank failed.
    pub(super) fn share_sums(
        &mut self,
        windows: &[&Window],
        before: usize,
        stop: &StopFlag,
    ) -> Result<(), TrainError> {
        let shares = tree::shares(windows.len(), before, self.ranks.count());
        let kept = self.read_nodes(&tree::done(before))?;
        let own = self.compute(windows, &shares[self.ranks.rank()], stop);
        let own = match self.together(own) {
            Err(error) if error.is_stop() => {
                for (node, values) in tree::done(before).into_iter().zip(&kept) {
                    self.write_level(node.slot, values)?;
                }
                return Err(error);
            }
            own => own?,
        };
        let begun = Instant::now();
        let total = self.join_nodes(&shares, &own)?;
        self.write_level(0, &total)?;
        self.ranks.count_seconds(begun);
        Ok(())
    }

    /// The values of the nodes of `share`, in their order.
    fn compute(
        &mut self,
        windows: &[&Window],
        share: &Share,
        stop: &StopFlag,
    ) -> Result<Vec<Vec<f32>>, TrainError> {
        let mut values = self.read_nodes(&share.before)?;
        for piece in &share.pieces {
            for level in piece.neutral.clone() {
                let elements = self.level_places(level).iter().map(Place::elements).sum();
                self.write_level(level, &vec![NEUTRAL; elements])?;
            }
            for batch in self.micro_batches(piece.windows.start, piece.windows.end) {
                if stop.is_raised() {
                    return Err(stopped());
                }
                self.micro_step(&windows[batch.clone()], batch.start)?;
            }
            values.extend(self.read_nodes(&piece.nodes)?);
        }
        Ok(values)
    }

    /// The total over all nodes, of which this rank has `own`.
    fn join_nodes(&mut self, shares: &[Share], own: &[Vec<f32>]) -> Result<Vec<f32>, TrainError> {
        let (rank, count) = (self.ranks.rank(), shares.len());
        let elements = self.level_places(0).iter().map(Place::elements).sum();
        let part = |of: usize| tree::part(elements, of, count);
        let slice = |of: usize| own.iter().map(|node| bytes(&node[part(of)])).collect::<Vec<_>>().concat();
        let nodes: Vec<Vec<Node>> = shares.iter().map(|share| share.nodes().collect()).collect();
        let incoming: Vec<usize> = nodes.iter().map(|nodes| nodes.len() * part(rank).len() * 4).collect();
        let received = self.ranks.exchange((0..count).map(slice).collect(), &incoming)?;
        let mut all: Vec<(Node, Vec<f32>)> = Vec::new();
        for (from, nodes) in nodes.into_iter().enumerate() {
            for (index, node) in nodes.into_iter().enumerate() {
                let values = match from == rank {
                    true => own[index][part(rank)].to_vec(),
                    false => floats(&received[from], index, part(rank).len()),
                };
                all.push((node, values));
            }
        }
        let joined = tree::join(all).unwrap_or_else(|| vec![0.0; part(rank).len()]);
        let lengths: Vec<usize> = (0..count).map(|of| part(of).len() * 4).collect();
        let parts = self.ranks.exchange(vec![bytes(&joined).to_vec(); count], &lengths)?;
        let parts = parts.iter().enumerate();
        Ok(parts.flat_map(|(of, part)| if of == rank { joined.clone() } else { floats_of(part) }).collect())
    }

    /// The values of nodes in the stacks: of the loss and of every gradient, one behind the other.
    fn read_nodes(&mut self, nodes: &[Node]) -> Result<Vec<Vec<f32>>, TrainError> {
        nodes.iter().map(|node| self.read_level(node.slot)).collect()
    }

    fn read_level(&mut self, level: u32) -> Result<Vec<f32>, TrainError> {
        let mut values = Vec::new();
        for place in self.level_places(level) {
            values.extend(self.executor().read_range::<f32>(&place.buffer, range(&place))?);
        }
        Ok(values)
    }

    fn write_level(&mut self, level: u32, values: &[f32]) -> Result<(), TrainError> {
        let mut rest = values;
        for place in self.level_places(level) {
            let (own, others) = rest.split_at(place.elements().min(rest.len()));
            self.executor().write_at(&place.buffer, place.start, own)?;
            rest = others;
        }
        Ok(())
    }

    /// Where the stacks keep the nodes at `level`.
    fn level_places(&self, level: u32) -> Vec<Place> {
        places::sums(self.plan(), 1 << level)
    }

    /// The values of all ranks, one behind the other, if all ranks have come as far.
    ///
    /// # Errors
    /// As [`together`](Self::together).
    pub(crate) fn join_values(&self, own: Result<Vec<f32>, TrainError>) -> Result<Vec<f32>, TrainError> {
        let own = self.together(own)?;
        let all = self.ranks.gather(bytes(&own).to_vec())?;
        Ok(all.iter().flat_map(|values| floats_of(values)).collect())
    }

    /// Gives every rank the parameters of the first.
    ///
    /// # Errors
    /// [`TrainError::Ranks`] if a rank does not answer.
    pub fn share_parameters(&mut self) -> Result<(), TrainError> {
        if self.ranks.is_alone() {
            return Ok(());
        }
        for place in places::parameters(self.plan()) {
            let values = self.executor().read_range::<f32>(&place.buffer, range(&place))?;
            let values = floats_of(&self.ranks.of_first(bytes(&values).to_vec())?);
            self.executor().write_at(&place.buffer, place.start, &values)?;
        }
        Ok(())
    }
}

fn range(place: &Place) -> Range<usize> {
    place.start..place.start + place.elements()
}

/// The error of a run that was told to stop.
fn stopped() -> TrainError {
    ExecutorError::Stopped("micro_step".to_owned()).into()
}

/// Little-endian, as the machines that gptjc runs on.
fn bytes(values: &[f32]) -> &[u8] {
    bytemuck::cast_slice(values)
}

fn floats_of(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect()
}

/// The values of node `index` of those that were received, each of `elements` values.
fn floats(received: &[u8], index: usize, elements: usize) -> Vec<f32> {
    let bytes = 4 * elements;
    floats_of(&received[index * bytes..(index + 1) * bytes])
}
