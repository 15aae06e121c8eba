//! Learning rate of each optimizer step.
//!
//! The formulas are those of `transformers/optimization.py` (4.57), in f64 and in their order of operations: a step's
//! factor times the peak, as PyTorch's `LambdaLR` multiplies them. Every bit of every rate is theirs, but for the last one of
//! some cosines, which Python takes from the system.

use super::TrainOptions;
use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

/// How the learning rate goes on after the warm-up; the names are those of Hugging Face's `SchedulerType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SchedulerKind {
    /// Falls to 0 in a straight line.
    #[default]
    Linear,
    /// Falls to 0 along half a cosine.
    Cosine,
    /// The same: one cycle is what Hugging Face takes without further arguments.
    CosineWithRestarts,
    /// Falls to [`POLYNOMIAL_END`] in a straight line: power 1 is what Hugging Face takes without further arguments.
    Polynomial,
    /// The peak from the first step on; there is no warm-up.
    Constant,
    /// The peak.
    ConstantWithWarmup,
    /// Falls as one over the square root of the steps, in units of the warm-up's, or of 10,000 without one.
    InverseSqrt,
}

/// The rate that [`SchedulerKind::Polynomial`] ends at: `lr_end` of Hugging Face.
pub const POLYNOMIAL_END: f64 = 1e-7;

impl SchedulerKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Linear,
        Self::Cosine,
        Self::CosineWithRestarts,
        Self::Polynomial,
        Self::Constant,
        Self::ConstantWithWarmup,
        Self::InverseSqrt,
    ];

    /// Hugging Face's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Cosine => "cosine",
            Self::CosineWithRestarts => "cosine_with_restarts",
            Self::Polynomial => "polynomial",
            Self::Constant => "constant",
            Self::ConstantWithWarmup => "constant_with_warmup",
            Self::InverseSqrt => "inverse_sqrt",
        }
    }
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SchedulerKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let kind = Self::ALL.into_iter().find(|kind| kind.name() == name);
        kind.ok_or_else(|| format!("expected one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// The learning rates of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// How the rate goes on after the warm-up.
    pub kind: SchedulerKind,
    /// The rate at the end of the warm-up.
    pub peak: f64,
    /// Optimizer steps of linear warm-up from 0.
    pub warmup_steps: u64,
    /// Optimizer steps of the whole run.
    pub total_steps: u64,
}

impl Schedule {
    /// The schedule of a run of `total_steps` optimizer steps.
    pub fn new(options: &TrainOptions, total_steps: u64) -> Self {
        let (kind, peak) = (options.lr_scheduler_type, options.learning_rate);
        let warmup_steps = warmup_steps(options.warmup_steps, options.warmup_ratio, total_steps);
        Self { kind, peak, warmup_steps, total_steps }
    }

    /// The rate of the optimizer step with this index, counted from 0.
    pub fn rate(&self, step: u64) -> f64 {
        self.peak * self.factor(step)
    }

    fn factor(&self, step: u64) -> f64 {
        if step < self.warmup_steps && self.kind != SchedulerKind::Constant {
            return step as f64 / self.warmup_steps as f64;
        }
        match self.kind {
            SchedulerKind::Linear => {
                self.total_steps.saturating_sub(step) as f64 / self.decay_steps().max(1) as f64
            }
            SchedulerKind::Cosine | SchedulerKind::CosineWithRestarts => self.cosine(step),
            SchedulerKind::Polynomial => self.polynomial(step),
            SchedulerKind::Constant | SchedulerKind::ConstantWithWarmup => 1.0,
            SchedulerKind::InverseSqrt => {
                let timescale = if self.warmup_steps > 0 { self.warmup_steps } else { 10_000 };
                let shifted = step + (timescale - self.warmup_steps);
                1.0 / (shifted as f64 / timescale as f64).sqrt()
            }
        }
    }

    /// Optimizer steps after the warm-up.
    fn decay_steps(&self) -> u64 {
        self.total_steps.saturating_sub(self.warmup_steps)
    }

    /// Optimizer steps that are done since the end of the warm-up.
    fn decayed(&self, step: u64) -> u64 {
        step.saturating_sub(self.warmup_steps)
    }

    fn cosine(&self, step: u64) -> f64 {
        let progress = self.decayed(step) as f64 / self.decay_steps().max(1) as f64;
        if progress >= 1.0 {
            return 0.0;
        }
        // The standard library's cosine is the system's, and so may have another last bit elsewhere.
        0.5 * (1.0 + libm::cos(PI * progress))
    }

    /// A peak that is not above the end stays: Hugging Face refuses it, and so should whoever reads flags.
    fn polynomial(&self, step: u64) -> f64 {
        if self.peak <= POLYNOMIAL_END {
            return 1.0;
        }
        if step > self.total_steps || self.decay_steps() == 0 {
            return POLYNOMIAL_END / self.peak;
        }
        let remaining = 1.0 - self.decayed(step) as f64 / self.decay_steps() as f64;
        ((self.peak - POLYNOMIAL_END) * remaining + POLYNOMIAL_END) / self.peak
    }
}

/// Steps of warm-up: `steps` if there are any, and otherwise `ratio` of `total_steps`, rounded up.
fn warmup_steps(steps: u64, ratio: f64, total_steps: u64) -> u64 {
    if steps > 0 { steps } else { (total_steps as f64 * ratio).ceil() as u64 }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
