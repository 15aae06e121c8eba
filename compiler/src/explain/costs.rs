//! What steps cost, by kernel and by part of the model.

use gptjc_graphs::plan::{EntryPoint, Step};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

/// What some steps cost at the bounds: all slots used, every one labelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Number of steps.
    pub calls: usize,
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes read and written, each operand and result once.
    pub bytes: u64,
    /// Seconds that they are predicted to take.
    pub seconds: f64,
}

impl Cost {
    /// What one step costs.
    pub fn of(step: &Step) -> Self {
        Self { calls: 1, flops: step.flops, bytes: step.bytes, seconds: step.seconds }
    }

    /// What `steps` cost together.
    pub fn sum<'s>(steps: impl IntoIterator<Item = &'s Step>) -> Self {
        let mut cost = Self::default();
        steps.into_iter().for_each(|step| cost += Self::of(step));
        cost
    }

    /// Floating-point operations a byte.
    pub fn intensity(&self) -> f64 {
        self.flops as f64 / self.bytes.max(1) as f64
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.flops += other.flops;
        self.bytes += other.bytes;
        self.seconds += other.seconds;
    }
}

/// All calls of one kernel in an entry point.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelCost {
    /// The kernel.
    pub kernel: String,
    /// What its calls cost.
    #[serde(flatten)]
    pub cost: Cost,
    /// Floating-point operations a byte.
    pub intensity: f64,
    /// Its share of the entry point's predicted seconds, waiting for loads not included.
    pub time_share: f64,
}

/// The half of a training step that a step belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Before the gradient of the loss.
    Forward,
    /// From the gradient of the loss on.
    Backward,
}

impl Phase {
    /// Name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Forward => "forward",
            Phase::Backward => "backward",
        }
    }
}

/// Ops that start the backward pass.
const FIRST_OF_BACKWARD: [&str; 2] = ["cross_entropy_grad", "vocab_loss"];

/// The index of the first of `ops` that belongs to the backward pass, if one does.
pub(super) fn backward_from(ops: &[&str]) -> Option<usize> {
    // The evaluation's loss has no gradient: nothing is added up over windows behind it.
    let trains = ops.contains(&"tree_accumulate");
    ops.iter().position(|op| FIRST_OF_BACKWARD.contains(op)).filter(|_| trains)
}

/// The phase of step `index`.
pub(super) fn phase(index: usize, backward_from: Option<usize>) -> Phase {
    if backward_from.is_some_and(|first| index >= first) { Phase::Backward } else { Phase::Forward }
}

/// The op of a kernel id.
pub(super) fn op_name(kernel: &str) -> &str {
    kernel.split('-').next().unwrap_or(kernel)
}

/// A part of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// The token embedding.
    Embedding,
    /// The block with this number.
    Block(u32),
    /// The last layer norm, lm_head and the loss.
    Head,
    /// What belongs to no part: tables, clipping.
    Other,
}

impl Group {
    /// The part that a module belongs to.
    pub fn of(module: &str) -> Self {
        if let Some((_, rest)) = module.split_once("transformer.h.") {
            let digits = rest.split('.').next().unwrap_or(rest);
            return digits.parse().map_or(Self::Other, Self::Block);
        }
        let has = |part: &str| module.split('.').any(|found| found == part);
        match () {
            () if has("wte") => Self::Embedding,
            () if has("ln_f") || has("lm_head") || has("loss") => Self::Head,
            () => Self::Other,
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedding => f.write_str("embedding"),
            Self::Block(layer) => write!(f, "block {layer}"),
            Self::Head => f.write_str("head"),
            Self::Other => f.write_str("other"),
        }
    }
}

impl Serialize for Group {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a part of the model costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupCost {
    /// The part.
    pub group: Group,
    /// Its steps before the gradient of the loss.
    pub forward: Cost,
    /// Its steps from there on.
    pub backward: Cost,
}

/// Costs by kernel, the longest first.
pub(super) fn by_kernel(entry: &EntryPoint) -> Vec<KernelCost> {
    let mut kernels: BTreeMap<&str, Cost> = BTreeMap::new();
    for step in &entry.steps {
        *kernels.entry(&step.kernel).or_default() += Cost::of(step);
    }
    let all = Cost::sum(&entry.steps);
    let mut kernels: Vec<KernelCost> = kernels
        .into_iter()
        .map(|(kernel, cost)| KernelCost {
            kernel: kernel.to_owned(),
            cost,
            intensity: cost.intensity(),
            time_share: if all.seconds > 0.0 { cost.seconds / all.seconds } else { 0.0 },
        })
        .collect();
    let key = |row: &KernelCost| (row.cost.seconds, row.cost.flops as f64);
    kernels.sort_by(|a, b| key(b).partial_cmp(&key(a)).unwrap_or(std::cmp::Ordering::Equal));
    kernels
}

/// Costs by part of the model, in the model's order.
pub(super) fn by_group(entry: &EntryPoint, backward_from: Option<usize>) -> Vec<GroupCost> {
    let mut groups: BTreeMap<Group, [Cost; 2]> = BTreeMap::new();
    for (index, step) in entry.steps.iter().enumerate() {
        let costs = groups.entry(Group::of(&step.module)).or_default();
        costs[phase(index, backward_from) as usize] += Cost::of(step);
    }
    let row = |(group, [forward, backward]): (Group, [Cost; 2])| GroupCost { group, forward, backward };
    groups.into_iter().map(row).collect()
}
