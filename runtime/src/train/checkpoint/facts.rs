//! What decides the bits of a run: a resumed run must have the same.

use crate::data::sampler::Sampler;
use crate::data::window::Window;
use crate::hex::hex;
use crate::train::{Schedule, TrainError, Trainer};
use gptjc_graphs::plan::{CompileOptions, Isa, KernelId, Plan};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Bytes at the beginning and at the end of a tensor that stand for it.
const SAMPLE: usize = 1024;

/// What decides the bits of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// Settings, by the name of their flag where there is one.
    pub(crate) settings: BTreeMap<String, String>,
    /// How the plan's kernels round.
    pub(crate) rounding: String,
    /// Hash of all windows, in order.
    pub(crate) data: String,
    /// Hash of names, shapes and some bytes of the frozen weights.
    pub(crate) weights: String,
}

impl Facts {
    /// Those of a run of `trainer` over `windows`, which has `total_steps` steps.
    pub(crate) fn of(trainer: &Trainer, windows: &[Window]) -> Result<Self, TrainError> {
        Ok(Self {
            settings: settings(trainer, windows)?,
            rounding: rounding(trainer.plan()).to_owned(),
            data: hash_windows(windows),
            weights: hash_weights(trainer),
        })
    }

    /// What `self`, of a run, has otherwise than `saved`, the facts of `other`: one line each. The rounding is left out.
    pub(crate) fn differences(&self, saved: &Facts, other: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let none = "nothing".to_owned();
        let names = self
            .settings
            .keys()
            .chain(saved.settings.keys().filter(|&name| !self.settings.contains_key(name)));
        for name in names {
            let (given, kept) = (self.settings.get(name), saved.settings.get(name));
            if given != kept {
                let (given, kept) = (given.unwrap_or(&none), kept.unwrap_or(&none));
                lines.push(format!("{name}: given {given}, {other} has {kept}"));
            }
        }
        if self.data != saved.data {
            lines.push(
                "the data: these are other windows (rows, order, tokenizer, template or packing)".to_owned(),
            );
        }
        if self.weights != saved.weights {
            lines.push("the model: it has other weights".to_owned());
        }
        lines
    }
}

fn settings(trainer: &Trainer, windows: &[Window]) -> Result<BTreeMap<String, String>, TrainError> {
    let (options, compiled) = (trainer.options(), &trainer.plan().options);
    let mut settings = BTreeMap::new();
    let mut add = |name: &str, value: String| {
        settings.insert(name.to_owned(), value);
    };
    let sampler = Sampler::new(options.sampler(windows.len()))?;
    add("number of windows", windows.len().to_string());
    let schedule = Schedule::new(options, sampler.total_steps());
    add("optimizer steps (--num-train-epochs, --max-steps)", schedule.total_steps.to_string());
    let step_windows = options.per_device_train_batch_size * options.gradient_accumulation_steps;
    add("windows of an optimizer step (batch times accumulation)", step_windows.to_string());
    add("--seed", options.seed.to_string());
    add("order of the windows", if options.shuffle { "shuffled" } else { "as given" }.to_owned());
    add("--learning-rate", schedule.peak.to_string());
    add("--lr-scheduler-type", schedule.kind.to_string());
    add("steps of warm-up (--warmup-steps, --warmup-ratio)", schedule.warmup_steps.to_string());
    add("--weight-decay", options.weight_decay.to_string());
    add("--adam-beta1", options.beta1.to_string());
    add("--adam-beta2", options.beta2.to_string());
    add("--adam-epsilon", options.epsilon.to_string());
    add("--max-grad-norm", options.max_grad_norm.to_string());
    compiled_settings(compiled, &mut add);
    Ok(settings)
}

/// Those of a plan's options that change bits; budgets, micro-batches and the target's sizes do not.
fn compiled_settings(options: &CompileOptions, add: &mut dyn FnMut(&str, String)) {
    add("config.json", format!("{:?}", options.model));
    add("--precision", options.precision().to_string());
    add("--packing", options.packing().to_string());
    add("--max-seq-length", options.max_seq_length.to_string());
    add("--trainable", options.trainable().to_string());
    if let Some(lora) = &options.lora {
        add("--lora-rank", lora.rank.to_string());
        add("--lora-alpha", lora.alpha.to_string());
        add("--lora-dropout", lora.dropout.to_string());
        add("--lora-target-modules", lora.described(","));
        add("--use-rslora", lora.use_rslora.to_string());
    }
}

/// The rounding class of a plan's kernels, as docs/numerics.md has them.
fn rounding(plan: &Plan) -> &'static str {
    let kernels =
        plan.entries.iter().flat_map(|entry| &entry.steps).filter_map(|step| KernelId::parse(&step.kernel));
    let isa = kernels.filter_map(|kernel| kernel.isa.parse::<Isa>().ok()).max();
    match isa {
        None | Some(Isa::Portable) => "portable",
        Some(Isa::Avx2 | Isa::Avx512) => "fused",
        Some(Isa::Avx512Bf16) => "pairs",
        Some(Isa::Amx) => "tiles",
    }
}

/// A hash of windows, in order.
pub(crate) fn hash_windows(windows: &[Window]) -> String {
    let mut hash = Sha256::new();
    let mut bytes = Vec::new();
    for Window { tokens, positions, segments, targets } in windows {
        bytes.clear();
        let mut push = |numbers: &mut dyn Iterator<Item = u32>| {
            let length = bytes.len();
            bytes.extend_from_slice(&[0; 8]);
            numbers.for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
            let count = (bytes.len() - length) as u64; // so that no two lists of windows have the same bytes
            bytes[length..length + 8].copy_from_slice(&count.to_le_bytes());
        };
        push(&mut tokens.iter().copied());
        push(&mut positions.iter().copied());
        push(&mut segments.iter().copied());
        push(&mut targets.iter().map(|target| target.map_or(u32::MAX, |id| id)));
        hash.update(&bytes);
    }
    hex(&hash.finalize())
}

fn hash_weights(trainer: &Trainer) -> String {
    let mut hash = Sha256::new();
    for buffer in trainer.plan().frozen_tensors() {
        let Some(tensor) = trainer.checkpoint().tensor(&buffer.name) else { continue };
        hash.update(format!("{} {:?} {:?}\n", buffer.name, tensor.dtype, tensor.shape));
        let bytes = tensor.bytes;
        hash.update(&bytes[..bytes.len().min(SAMPLE)]);
        hash.update(&bytes[bytes.len().saturating_sub(SAMPLE)..]);
    }
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(tokens: &[u32], targets: &[Option<u32>]) -> Window {
        let positions = (0..tokens.len() as u32).collect();
        Window {
            tokens: tokens.to_vec(),
            positions,
            segments: vec![tokens.len() as u32],
            targets: targets.to_vec(),
        }
    }

    #[test]
    fn any_change_of_the_windows_shows() {
        let base = [window(&[1, 2], &[Some(2), None]), window(&[3], &[None])];
        let mut others = vec![
            vec![base[1].clone(), base[0].clone()],
            vec![base[0].clone()],
            vec![window(&[1, 2, 3], &[Some(2), None, None])],
            vec![window(&[1, 2], &[Some(2), Some(0)]), window(&[3], &[None])],
        ];
        let mut cut = base.to_vec();
        cut[0].segments = vec![1, 1];
        others.push(cut);
        assert_eq!(hash_windows(&base), hash_windows(&base.clone()));
        for other in others {
            assert_ne!(hash_windows(&base), hash_windows(&other), "{other:?}");
        }
    }

    #[test]
    fn every_difference_is_a_line() {
        let facts = |rate: &str, data: &str| Facts {
            settings: [("--learning-rate".to_owned(), rate.to_owned())].into(),
            rounding: "fused".to_owned(),
            data: data.to_owned(),
            weights: String::new(),
        };
        assert!(facts("1", "a").differences(&facts("1", "a"), "the other").is_empty());
        let mut saved = facts("2", "b");
        saved.settings.insert("--new".to_owned(), "x".to_owned());
        let lines = facts("1", "a").differences(&saved, "the checkpoint");
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(lines[0], "--learning-rate: given 1, the checkpoint has 2");
        assert_eq!(lines[1], "--new: given nothing, the checkpoint has x");
    }
}
