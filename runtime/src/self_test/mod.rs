//! Every kernel variant against the portable one, on this very CPU.
//!
//! A variant may be right in every test and wrong on one CPU: an erratum, a hypervisor that hides a feature's limits, a
//! compiler's error. So the steps of small plans are run alone, by the portable kernel and by each variant that this CPU
//! can run, on the same random operands, and the results compared. An instruction set with a kernel that differs is
//! switched off for the process, and [`crate::isa::usable`] says no. The verdict is kept in the cache for this CPU and this
//! program, so that it costs seconds once.
//!
//! Does not: compile the plans; the caller brings some in which the ops occur.

mod cache;
mod compare;

use crate::bench::isolated::{Bound, Inputs, isolate};
use crate::executor::ExecutorError;
use crate::isa;
use crate::kernels::KernelError;
use gptjc_graphs::plan::{Isa, KernelId, Plan};
use std::collections::BTreeSet;

pub use cache::{Identity, identity, load, program, save};
pub use compare::difference;

/// Threads of a run: numbers do not depend on them, and one waits for nobody on a busy machine.
const THREADS: usize = 1;

/// What the test says of an instruction set.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Verdict {
    /// Name of the instruction set.
    pub isa: String,
    /// Kernels that agree with the portable ones.
    pub agree: Vec<String>,
    /// Kernels that do not, with what was found.
    pub differ: Vec<String>,
}

/// The verdicts of a test.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// One for each instruction set that this CPU can run, but the portable one.
    pub verdicts: Vec<Verdict>,
}

impl Report {
    /// Calls `switch_off` (as a rule [`isa::switch_off`]) for what failed, and says so: one sentence each.
    pub fn apply(&self, mut switch_off: impl FnMut(Isa)) -> Vec<String> {
        let mut messages = Vec::new();
        for verdict in self.verdicts.iter().filter(|verdict| !verdict.differ.is_empty()) {
            let Ok(isa) = verdict.isa.parse::<Isa>() else { continue };
            switch_off(isa);
            messages.push(format!(
                "kernels for {isa} are switched off: on this CPU {} of them differ from the portable ones, such as {}; \
                 please report it",
                verdict.differ.len(),
                verdict.differ[0]
            ));
        }
        messages
    }
}

/// A plan to take steps from, and what to run them on.
pub struct Sample {
    /// The plan.
    pub plan: Plan,
    /// Tables and extents that fit it.
    pub inputs: Inputs,
}

/// Tests every instruction set that this CPU can run.
///
/// # Errors
/// [`ExecutorError`] if a portable kernel cannot run, which is an error in gptjc or a lack of memory.
pub fn run(samples: &[Sample]) -> Result<Report, ExecutorError> {
    let tested = Isa::ALL.into_iter().filter(|&isa| isa != Isa::Portable && isa::usable(isa));
    let mut verdicts: Vec<Verdict> = tested
        .map(|isa| Verdict { isa: isa.name().to_owned(), agree: Vec::new(), differ: Vec::new() })
        .collect();
    if verdicts.is_empty() {
        return Ok(Report::default());
    }
    let mut seen = BTreeSet::new();
    for sample in samples {
        for step in sample.plan.entries.iter().flat_map(|entry| &entry.steps) {
            let signature = signature(&sample.plan, step);
            if seen.insert(signature) {
                test_step(sample, step, &mut verdicts)?;
            }
        }
    }
    Ok(Report { verdicts })
}

/// What makes a step like another: its kernel, attributes and the types of its operands.
fn signature(plan: &Plan, step: &gptjc_graphs::plan::Step) -> String {
    let types: Vec<String> = step
        .operands
        .iter()
        .filter_map(|&id| plan.buffers.get(id as usize)?.ty().ok())
        .map(|ty| ty.to_string())
        .collect();
    // Sites of dropout differ from step to step and choose no other code.
    let attributes = step.attributes.iter().filter(|attribute| !attribute.name.starts_with("site"));
    let attributes: Vec<String> = attributes.map(|attribute| format!("{attribute:?}")).collect();
    format!("{} {} {}", step.kernel, types.join(","), attributes.join(","))
}

fn test_step(
    sample: &Sample,
    step: &gptjc_graphs::plan::Step,
    verdicts: &mut [Verdict],
) -> Result<(), ExecutorError> {
    let mut expected = None;
    for verdict in verdicts {
        let Ok(isa) = verdict.isa.parse::<Isa>() else { continue };
        let found = match results(sample, step, isa) {
            None => continue,
            Some(Err(error)) if is_refusal(&error) => continue, // there is no such variant
            Some(found) => found,
        };
        let expected = match &expected {
            Some(expected) => expected,
            None => match results(sample, step, Isa::Portable) {
                None => return Ok(()),
                Some(found) => expected.insert(found?),
            },
        };
        let id = KernelId::parse(&step.kernel);
        let kernel =
            id.map_or_else(String::new, |id| KernelId { isa: verdict.isa.clone(), ..id }.to_string());
        let difference = match found {
            Ok(found) => difference(expected, &found),
            Err(error) => Some(error.to_string()),
        };
        match difference {
            None if verdict.agree.contains(&kernel) => {}
            None => verdict.agree.push(kernel),
            Some(difference) => verdict.differ.push(format!("{kernel} ({}): {difference}", step.module)),
        }
    }
    Ok(())
}

/// True if the kernel does not exist or does not take these operands.
fn is_refusal(error: &ExecutorError) -> bool {
    let ExecutorError::Kernel { source, .. } = error else { return false };
    match **source {
        KernelError::Unknown(_) | KernelError::Operands { .. } => true,
        KernelError::Isa { .. } | KernelError::Attributes { .. } => false,
    }
}

type Results = Vec<(crate::bench::isolated::Place, Vec<f32>)>;

fn results(
    sample: &Sample,
    step: &gptjc_graphs::plan::Step,
    isa: Isa,
) -> Option<Result<Results, ExecutorError>> {
    let isolated = isolate(&sample.plan, step, Some(isa))?;
    let run = || {
        let mut bound = Bound::new(isolated, &sample.inputs, THREADS)?;
        bound.run()?;
        bound.results()
    };
    Some(run())
}

#[cfg(test)]
mod tests;
