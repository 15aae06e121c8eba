//! What `gptjc bench step` found, for people, programs and as spans of a trace.

use super::giga;
use crate::flags::values::human_bytes;
use gptjc_graphs::plan::{KernelId, Plan, Prediction};
use gptjc_runtime::bench::step::family;
use gptjc_runtime::bench::trace::Span;
use gptjc_runtime::executor::StepTiming;
use serde_json::{Value, json};

/// What was found.
pub(super) struct StepReport {
    pub(super) isa: &'static str,
    pub(super) threads: usize,
    /// Windows that are computed at a time.
    pub(super) micro_batch: u64,
    /// Tokens of a step, and those of them that have a label.
    pub(super) tokens: usize,
    pub(super) labelled: usize,
    /// Seconds of a step: the median, and every round.
    pub(super) seconds: f64,
    pub(super) rounds: Vec<f64>,
    /// Seconds of the step before the rounds, with pages and caches as they were.
    pub(super) first_seconds: f64,
    /// Bytes of weights that a step reads from disk, and seconds that it waits for them.
    pub(super) streamed_bytes: u64,
    pub(super) waited: f64,
    /// FLOP/s of what the step is measured against.
    pub(super) peak: Option<f64>,
    pub(super) peak_name: Option<&'static str>,
    pub(super) share_of_peak: Option<f64>,
    /// FLOPs of a step, nothing counted that is only computed again.
    pub(super) work: f64,
    pub(super) loss: f32,
    /// Seconds that were expected with this share of labels, and the FLOP/s that this counted on.
    pub(super) predicted_seconds: f64,
    pub(super) target_peak: f64,
    pub(super) predicted: Prediction,
    /// Bytes of this process at its peak.
    pub(super) memory: Option<u64>,
    /// Of one micro-batch, unless it was left out.
    pub(super) profile: Option<Profile>,
}

/// When each step ran, and how long kernels of a kind took.
pub(super) struct Profile {
    timings: Vec<StepTiming>,
    /// Kind and seconds of an optimizer step, longest first.
    families: Vec<(&'static str, f64)>,
    /// Seconds of an optimizer step that steps waited for weights.
    stalled: f64,
}

impl Profile {
    /// Of the timings of one micro-batch and of `apply`; an optimizer step has so many micro-batches.
    pub(super) fn new(plan: &Plan, timings: Vec<StepTiming>, micro_batches: usize) -> Self {
        let mut families: Vec<(&'static str, f64)> = Vec::new();
        let mut stalled = 0.0;
        for timing in &timings {
            let Some((entry, step)) = place(plan, timing) else { continue };
            let op = KernelId::parse(&step.kernel).map(|id| id.op).unwrap_or_default();
            let times = if entry == "micro_step" { micro_batches as f64 } else { 1.0 };
            let busy = timing.end_ns.saturating_sub(timing.start_ns).saturating_sub(timing.stall_ns);
            let seconds = times * busy as f64 / 1e9;
            stalled += times * timing.stall_ns as f64 / 1e9;
            match families.iter_mut().find(|(name, _)| *name == family(&op)) {
                Some((_, sum)) => *sum += seconds,
                None => families.push((family(&op), seconds)),
            }
        }
        families.sort_by(|a, b| b.1.total_cmp(&a.1));
        Self { timings, families, stalled }
    }

    /// The steps as spans of a trace.
    pub(super) fn spans(&self, plan: &Plan) -> Vec<Span> {
        let span = |timing: &StepTiming| {
            let (entry, step) = place(plan, timing)?;
            let op = KernelId::parse(&step.kernel).map(|id| id.op).unwrap_or_default();
            Some(Span {
                name: op.clone(),
                category: family(&op).to_owned(),
                start_ns: timing.start_ns,
                end_ns: timing.end_ns,
                arguments: json!({
                    "kernel": step.kernel, "module": step.module, "entry": entry, "step": timing.step,
                    "waited_for_weights_us": timing.stall_ns as f64 / 1e3,
                    "predicted_us": step.seconds * 1e6, "flops": step.flops, "bytes": step.bytes,
                }),
            })
        };
        self.timings.iter().filter_map(span).collect()
    }

    fn lines(&self) -> Vec<String> {
        let total = self.total().max(1e-12);
        let line = |name: &str, seconds: f64| {
            format!("  {name:<24} {seconds:>9.4} s {:>5.1} %", 100.0 * seconds / total)
        };
        let mut lines: Vec<String> =
            self.families.iter().map(|(name, seconds)| line(name, *seconds)).collect();
        if self.stalled > 0.0 {
            lines.push(line("waiting for weights", self.stalled));
        }
        lines
    }

    fn total(&self) -> f64 {
        self.families.iter().map(|(_, seconds)| seconds).sum::<f64>() + self.stalled
    }
}

/// Name of the entry point, and the step.
fn place<'p>(plan: &'p Plan, timing: &StepTiming) -> Option<(&'p str, &'p gptjc_graphs::plan::Step)> {
    let entry = plan.entries.get(timing.entry)?;
    Some((entry.name.as_str(), entry.steps.get(timing.step)?))
}

impl StepReport {
    fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.seconds.max(1e-9)
    }

    /// The prediction as if it had counted on the peak that was measured. Only where nothing was waited for is all of a
    /// step bound by the peak.
    fn predicted_at_peak(&self) -> Option<f64> {
        self.peak.map(|peak| self.predicted_seconds * self.target_peak / peak)
    }

    /// As JSON.
    pub(super) fn json(&self) -> Value {
        let families = self.profile.as_ref().map(|profile| {
            let total = profile.total().max(1e-12);
            let family = |(name, seconds): &(&str, f64)| json!({"family": name, "seconds": seconds, "share": seconds / total});
            profile.families.iter().map(family).collect::<Vec<_>>()
        });
        let known = |number: f64| (number > 0.0).then_some(number);
        json!({
            "isa": self.isa, "threads": self.threads, "micro_batch": self.micro_batch,
            "tokens": self.tokens, "labelled": self.labelled,
            "seconds": self.seconds, "rounds": self.rounds,
            "tokens_per_second": self.tokens_per_second(),
            "work_gflop": self.work / 1e9,
            "gflops": self.work / self.seconds / 1e9,
            "peak": self.peak_name, "peak_gflops": self.peak.map(|peak| peak / 1e9),
            "share_of_peak": self.share_of_peak,
            "loss": self.loss,
            "families": families,
            "first_seconds": self.first_seconds,
            "streamed_bytes": self.streamed_bytes, "waited_seconds": self.waited,
            "predicted_seconds": known(self.predicted_seconds),
            "predicted_at_gflops": known(self.target_peak / 1e9),
            "predicted_at_measured_peak": known(self.predicted_at_peak().unwrap_or_default()),
            "predicted_peak_bytes": known(self.predicted.peak_bytes as f64),
            "peak_bytes": self.memory,
        })
    }

    /// For people.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!(
                "{} tokens, {} labelled, micro-batches of {} window(s), {} threads, kernels for {}",
                self.tokens, self.labelled, self.micro_batch, self.threads, self.isa
            ),
            format!(
                "{:.1} tokens/s: {:.3} s a step (median of {}), loss {:.4}",
                self.tokens_per_second(),
                self.seconds,
                self.rounds.len(),
                self.loss
            ),
        ];
        let gflops = self.work / self.seconds;
        lines.push(match (self.share_of_peak, self.peak, self.peak_name) {
            (Some(share), Some(peak), Some(name)) => {
                format!("{} GFLOP/s, {share:.3} of the peak of {} GFLOP/s ({name})", giga(gflops), giga(peak))
            }
            _ => format!("{} GFLOP/s", giga(gflops)),
        });
        lines.push(format!("{:.3} s the first step", self.first_seconds));
        if self.streamed_bytes > 0 {
            let bytes = human_bytes(self.streamed_bytes);
            lines.push(format!("{bytes} of weights read in a step, {:.3} s waited for them", self.waited));
        }
        let percent = |measured: f64, predicted: f64| 100.0 * (predicted / measured - 1.0);
        if self.predicted_seconds > 0.0 {
            let line = |seconds: f64| format!("{seconds:.3} s ({:+.0} %)", percent(self.seconds, seconds));
            let scaled =
                self.predicted_at_peak().map(|seconds| format!("; at this run's peak {}", line(seconds)));
            lines.push(format!("predicted {}{}", line(self.predicted_seconds), scaled.unwrap_or_default()));
        }
        if let Some(memory) = self.memory {
            let predicted = match self.predicted.peak_bytes {
                0 => String::new(),
                bytes => {
                    let difference = percent(memory as f64, bytes as f64);
                    format!(", predicted {} ({difference:+.0} %)", human_bytes(bytes))
                }
            };
            lines.push(format!("{} of memory at the peak{predicted}", human_bytes(memory)));
        }
        lines.extend(self.profile.iter().flat_map(Profile::lines));
        lines
    }
}
