//! Where a loss or a gradient that is not finite comes from: the micro-batches of the step are run again, plan step by
//! plan step, and what each wrote is looked at.
//!
//! Does not: change parameters or moments. The sums of the step's windows are lost, with which nothing can be done anyway.

use super::{TrainError, Trainer};
use crate::data::window::Window;
use crate::executor::NotFinite;
use crate::weights::{TensorView, WeightDtype};
use gptjc_graphs::plan::{Memory, Step, state};
use gptjc_graphs::shape::{Extent, Extents};
use std::fmt;
use std::ops::Range;

/// An optimizer step without a finite loss or gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct NotFiniteStep {
    /// Index of the step, from 1.
    pub step: u64,
    /// What is not finite.
    pub what: &'static str,
    /// Its value.
    pub value: f32,
    /// Windows of the step in its own order: where they are in the data, from 0. Empty if nobody said.
    pub windows: Vec<u32>,
    /// Where it comes from; none if everything was finite when it was run again.
    pub origin: Option<Origin>,
}

/// The first tensor that is not finite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// What it is, for people.
    pub tensor: String,
    /// Windows of the optimizer step that it belongs to.
    pub windows: Range<usize>,
}

/// Most windows that a message lists.
const SHOWN: usize = 16;

impl fmt::Display for NotFiniteStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "optimizer step {}: {} is {}", self.step, self.what, self.value)?;
        match &self.origin {
            Some(Origin { tensor, windows }) => {
                write!(f, "; the first tensor that went wrong is {tensor}")?;
                let (own, data) = (windows.clone(), self.windows.get(windows.clone()));
                match data.filter(|data| !data.is_empty()) {
                    Some(data) => write!(f, ", in {}", list(data.iter().copied()))?,
                    None => write!(f, ", in {} of the step", list(own.map(|index| index as u32)))?,
                }
            }
            None => write!(f, "; run again, every tensor was finite: check the machine's memory")?,
        }
        if !self.windows.is_empty() {
            write!(
                f,
                " (of this step's {}, counted from 0 in the data)",
                list(self.windows.iter().copied())
            )?;
        }
        write!(
            f,
            "; no parameter was changed and nothing was saved: lower the learning rate, or check these windows"
        )
    }
}

fn list(windows: impl ExactSizeIterator<Item = u32>) -> String {
    let count = windows.len();
    let shown: Vec<String> = windows.take(SHOWN).map(|window| window.to_string()).collect();
    let more = if count > SHOWN { format!(" and {} more", count - SHOWN) } else { String::new() };
    format!("window{} {}{more}", if count == 1 { "" } else { "s" }, shown.join(", "))
}

/// The first result of an entry point that is not finite.
struct Found {
    step: usize,
    /// Which of the step's results.
    result: usize,
    place: NotFinite,
}

impl Trainer {
    /// Proves that every parameter is finite: what is not must not be saved.
    ///
    /// # Errors
    /// [`TrainError::ParameterNotFinite`] with the first that is not.
    pub fn check_parameters(&mut self) -> Result<(), TrainError> {
        let buffers = self.plan().buffers.iter().enumerate();
        let parameters = buffers.filter(|(_, buffer)| buffer.memory() == Memory::Parameter);
        let ids: Vec<(u32, String)> =
            parameters.map(|(id, buffer)| (id as u32, buffer.name.clone())).collect();
        for (id, name) in ids {
            if let Some(NotFinite { index, .. }) = self.executor().first_not_finite(id, &Extents::default()) {
                return Err(TrainError::ParameterNotFinite { step: self.done(), name, index });
            }
        }
        Ok(())
    }

    /// Runs the step over `windows` again up to the update, and finds the first tensor that is not finite, if there is one.
    /// The sums of windows that were accumulated are lost.
    ///
    /// # Errors
    /// [`TrainError::Executor`] if the plan cannot run.
    pub fn find_origin(&mut self, windows: &[&Window]) -> Result<Option<Origin>, TrainError> {
        self.clear_sums()?;
        for Range { start: first, end: next } in self.micro_batches(0, windows.len()) {
            let extents = self.prepare(&windows[first..next], first)?;
            if let Some(found) = self.inspect("micro_step", &extents, usize::MAX)? {
                let inside = self.windows_of(&found.place, next - first);
                let tensor = self.describe("micro_step", &found, &extents);
                return Ok(Some(Origin { tensor, windows: first + inside.start..first + inside.end }));
            }
        }
        let (extents, updates) = (Extents::default(), self.updates());
        let found = self.inspect("apply", &extents, updates)?;
        Ok(found.map(|found| Origin {
            tensor: self.describe("apply", &found, &extents),
            windows: 0..windows.len(),
        }))
    }

    /// What is left in the tree of other windows must not be taken for these windows' sums.
    fn clear_sums(&mut self) -> Result<(), TrainError> {
        let parameters =
            self.plan().buffers_in(Memory::Parameter).map(|buffer| state::gradient_stack(&buffer.name));
        let stacks: Vec<String> = parameters.chain([state::LOSS_STACK.to_owned()]).collect();
        for name in stacks {
            if let Some((_, buffer)) = self.plan().find_buffer(&name) {
                let elements = buffer.elements() as usize;
                self.executor().write(&name, &vec![0.0f32; elements])?;
            }
        }
        Ok(())
    }

    /// Runs the first `end` steps of `entry` one by one.
    fn inspect(&mut self, entry: &str, extents: &Extents, end: usize) -> Result<Option<Found>, TrainError> {
        let steps = self.plan().entry(entry).map_or(&[][..], |entry| &entry.steps);
        let results: Vec<Vec<u32>> = steps.iter().take(end).map(|step| step.results.clone()).collect();
        for (step, buffers) in results.iter().enumerate() {
            self.executor().run_until(entry, extents, step + 1)?;
            for (result, &buffer) in buffers.iter().enumerate() {
                if let Some(place) = self.executor().first_not_finite(buffer, extents) {
                    return Ok(Some(Found { step, result, place }));
                }
            }
        }
        Ok(None)
    }

    /// A weight or a parameter that the step reads, if that is where it went wrong; else the step's result.
    fn describe(&mut self, entry: &str, found: &Found, extents: &Extents) -> String {
        let step = self.plan().entry(entry).and_then(|entry| entry.steps.get(found.step)).cloned();
        let Some(step) = step else { return format!("result of step {} of `{entry}`", found.step) };
        if let Some(culprit) = step.operands.iter().find_map(|&operand| self.bad_input(operand, extents)) {
            return culprit;
        }
        let Step { kernel, module, .. } = step;
        let (result, index) = (found.result, &found.place.index);
        format!("result {result} of `{kernel}` in `{module}` at {index:?} (step {} of `{entry}`)", found.step)
    }

    fn bad_input(&mut self, operand: u32, extents: &Extents) -> Option<String> {
        let buffer = self.plan().buffers.get(operand as usize)?;
        let (memory, name) = (buffer.memory(), buffer.name.clone());
        match memory {
            Memory::Weight | Memory::Stream => {
                let element = first_not_finite(&self.checkpoint().tensor(&name)?)?;
                Some(format!("weight `{name}` (element {element})"))
            }
            Memory::Parameter => {
                let place = self.executor().first_not_finite(operand, extents)?;
                Some(format!("parameter `{name}` at {:?}", place.index))
            }
            Memory::Arena | Memory::State | Memory::Batch | Memory::Control | Memory::Result => None,
        }
    }

    /// Windows of the micro-batch that was loaded last, of which there are `windows`, that a place belongs to.
    fn windows_of(&self, place: &NotFinite, windows: usize) -> Range<usize> {
        let batch = self.batch();
        let at = place.index.first().copied().unwrap_or_default();
        let holds = |range: &[i32; 2]| (range[0] as usize..(range[0] + range[1]) as usize).contains(&at);
        let window = match place.extent {
            Extent::Slots => batch.window_table.iter().position(holds),
            Extent::Rows => batch.row_table.iter().position(holds),
            Extent::Windows => Some(at),
            Extent::Segments | Extent::Fixed => None,
        };
        window.filter(|&window| window < windows).map_or(0..windows, |window| window..window + 1)
    }
}

/// Index of the first element that is not finite: its exponent has all bits set.
fn first_not_finite(tensor: &TensorView<'_>) -> Option<usize> {
    let half = |mask: u16| {
        let mut elements = tensor.bytes.chunks_exact(2);
        elements
            .position(|bytes| bytes.try_into().is_ok_and(|bytes| u16::from_le_bytes(bytes) & mask == mask))
    };
    match tensor.dtype {
        WeightDtype::F32 => {
            let mut elements = tensor.bytes.chunks_exact(4);
            elements
                .position(|bytes| bytes.try_into().is_ok_and(|bytes| !f32::from_le_bytes(bytes).is_finite()))
        }
        WeightDtype::F16 => half(0x7c00),
        WeightDtype::Bf16 => half(0x7f80),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_step_windows_and_tensor() {
        let mut step = NotFiniteStep {
            step: 12,
            what: "the loss",
            value: f32::NAN,
            windows: vec![40, 3, 17],
            origin: Some(Origin { tensor: "weight `w` (element 5)".to_owned(), windows: 1..2 }),
        };
        let text = step.to_string();
        assert!(
            text.starts_with(
                "optimizer step 12: the loss is NaN; the first tensor that went wrong is weight `w` (element 5), in window 3 \
                 (of this step's windows 40, 3, 17, counted from 0 in the data); no parameter was changed"
            ),
            "{text}"
        );
        step.windows.clear();
        assert!(step.to_string().contains("(element 5), in window 1 of the step;"), "{step}");
        step.origin = None;
        assert!(step.to_string().contains("run again, every tensor was finite"), "{step}");
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(list(0..1u32), "window 0");
        assert!(list(0..100u32).ends_with("15 and 84 more"));
    }
}
