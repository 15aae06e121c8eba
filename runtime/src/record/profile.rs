//! Time by kind of kernel: expected by the plan, and taken by its steps.

use crate::bench::step::family;
use crate::executor::StepTotals;
use gptjc_graphs::plan::{EntryPoint, KernelId, Plan};
use std::collections::BTreeMap;

/// The entry points of an optimizer step.
const TRAINING: [&str; 2] = ["micro_step", "apply"];

fn kind(kernel: &str) -> &'static str {
    family(&KernelId::parse(kernel).map(|id| id.op).unwrap_or_default())
}

/// Entry points of training, with their indices.
fn training(plan: &Plan) -> impl Iterator<Item = (usize, &EntryPoint)> {
    plan.entries.iter().enumerate().filter(|(_, entry)| TRAINING.contains(&entry.name.as_str()))
}

/// Seconds of an optimizer step by kind of kernel, as the plan expects them.
pub fn predicted(plan: &Plan) -> BTreeMap<String, f64> {
    let mut families = BTreeMap::new();
    for (_, entry) in training(plan) {
        let runs = if entry.name == "micro_step" { plan.prediction.micro_steps as f64 } else { 1.0 };
        for step in &entry.steps {
            *families.entry(kind(&step.kernel).to_owned()).or_insert(0.0) += runs * step.seconds;
        }
    }
    families
}

/// Where the time of training went.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TrainingTime {
    /// Seconds by kind of kernel.
    pub families: BTreeMap<String, f64>,
    /// Seconds that steps waited for weights.
    pub waited: f64,
}

/// Which kind each step of training is.
#[derive(Clone, Debug)]
pub(super) struct TrainingSteps(Vec<(usize, Vec<&'static str>)>);

impl TrainingSteps {
    /// Those of `plan`.
    pub(super) fn of(plan: &Plan) -> Self {
        let kinds = |entry: &EntryPoint| entry.steps.iter().map(|step| kind(&step.kernel)).collect();
        Self(training(plan).map(|(index, entry)| (index, kinds(entry))).collect())
    }

    /// What they took so far.
    pub(super) fn time(&self, totals: &StepTotals) -> TrainingTime {
        let mut time = TrainingTime::default();
        for (entry, kinds) in &self.0 {
            for (kind, total) in kinds.iter().zip(totals.steps(*entry)) {
                *time.families.entry((*kind).to_owned()).or_insert(0.0) += total.busy;
                time.waited += total.stalled;
            }
        }
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gptjc_graphs::plan::{Prediction, Step};

    #[test]
    fn micro_steps_count_as_often_as_they_run() {
        let step = |kernel: &str, seconds| Step { kernel: kernel.to_owned(), seconds, ..Step::default() };
        let entry = |name: &str, steps| EntryPoint { name: name.to_owned(), steps, ..EntryPoint::default() };
        let plan = Plan {
            entries: vec![
                entry("forward", vec![step("projection-f32-avx2", 9.0)]),
                entry("micro_step", vec![step("projection-f32-avx2", 2.0), step("attention-f32-avx2", 1.0)]),
                entry("apply", vec![step("adamw-f32-portable", 0.5)]),
            ],
            prediction: Prediction { micro_steps: 4, ..Prediction::default() },
            ..Plan::default()
        };
        let expected = [("matrix products", 8.0), ("attention", 4.0), ("sums and optimizer", 0.5)];
        let expected: BTreeMap<String, f64> = expected.map(|(name, value)| (name.to_owned(), value)).into();
        assert_eq!(predicted(&plan), expected);
    }
}
