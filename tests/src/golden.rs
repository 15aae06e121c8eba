//! Golden cases: what Hugging Face transformers, PEFT and torch's AdamW compute on small GPT-Js.
//!
//! `tests/golden/make_golden.py` made them; it says what each file holds.

use gptjc_graphs::models::gptj::config;
use gptjc_graphs::plan::{CompileOptions, LoraOptions, Memory, Packing, Precision, Target};
use gptjc_runtime::adapter::Adapter;
use gptjc_runtime::data::pretokenized::TokenBatches;
use gptjc_runtime::data::window::{Window, WindowLimits};
use gptjc_runtime::train::{Cadence, Schedule, SchedulerKind, Start, TrainOptions, Trainer};
use gptjc_runtime::weights::Checkpoint;
use safetensors::SafeTensors;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `expected.json`.
#[derive(Debug, Deserialize)]
pub struct Expected {
    /// Loss of each step.
    pub loss: Vec<f32>,
    /// Gradient norm of each step, before clipping.
    pub grad_norm: Vec<f32>,
    /// Learning rate of each step.
    pub learning_rate: Vec<f64>,
    /// What the case was made with.
    pub hyper_parameters: HyperParameters,
    /// Distance of PyTorch's bfloat16 run from its float32 run.
    pub bf16_yardstick: Option<Yardstick>,
}

/// Arguments of `make_golden.py`.
#[derive(Debug, Deserialize)]
#[allow(missing_docs, reason = "named as the script's arguments")]
pub struct HyperParameters {
    pub rank: u64,
    pub alpha: f64,
    pub targets: String,
    pub batch: usize,
    pub seq: usize,
    pub steps: usize,
    pub warmup: u64,
    pub lr: f64,
    pub weight_decay: f64,
    pub clip: f64,
    pub padding: String,
    pub accumulate: usize,
    pub rslora: bool,
    pub full: bool,
}

/// Distances of the bfloat16 run.
#[derive(Debug, Deserialize)]
#[allow(missing_docs, reason = "named as in the file")]
pub struct Yardstick {
    pub logits: f64,
    pub grad: BTreeMap<String, f64>,
    pub loss_max_abs: f64,
}

/// One golden case.
pub struct Golden {
    /// Its directory.
    pub dir: PathBuf,
    /// What was computed.
    pub expected: Expected,
}

/// A pretended machine, so that tests do not depend on this one.
pub fn target() -> Target {
    Target {
        name: "test".to_owned(),
        isa: "portable".to_owned(),
        cores: 2,
        l1d_bytes: 32 << 10,
        l2_bytes: 512 << 10,
        l3_bytes: 32 << 20,
        memory_bytes: 8 << 30,
        ..Target::default()
    }
}

/// Named tensors of a safetensors file, in f32.
pub fn read_tensors(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let read = |view: safetensors::tensor::TensorView<'_>| match view.dtype() {
        safetensors::Dtype::F32 => {
            view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
        }
        _ => Vec::new(), // integers are read elsewhere
    };
    file.tensors().into_iter().map(|(name, view)| (name, read(view))).collect()
}

/// Relative L2 distance of `found` from `expected`.
pub fn relative_l2(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |x: f64| x * x;
    let difference: f64 =
        found.iter().zip(expected).map(|(&f, &e)| square(f64::from(f) - f64::from(e))).sum();
    let norm: f64 = expected.iter().map(|&e| square(f64::from(e))).sum();
    (difference / norm).sqrt()
}

impl Golden {
    /// The case called `name`.
    pub fn open(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
        let text = std::fs::read_to_string(dir.join("expected.json")).unwrap();
        Self { dir, expected: serde_json::from_str(&text).unwrap() }
    }

    /// The base model's weights.
    pub fn checkpoint(&self) -> Arc<Checkpoint> {
        Arc::new(Checkpoint::open(&self.dir.join("model")).unwrap())
    }

    /// Options that compile the case's run; the micro-batch is the whole batch.
    pub fn compile_options(&self) -> CompileOptions {
        let hyper = &self.expected.hyper_parameters;
        let model =
            config::parse(&std::fs::read_to_string(self.dir.join("model/config.json")).unwrap()).unwrap();
        let lora = (!hyper.full).then(|| LoraOptions {
            rank: hyper.rank,
            alpha: hyper.alpha,
            dropout: 0.0,
            targets: hyper.targets.split(',').map(str::to_owned).collect(),
            use_rslora: hyper.rslora,
            only_in: Vec::new(),
        });
        CompileOptions {
            model,
            lora,
            precision: Precision::F32.into(),
            packing: Packing::Pad.into(),
            max_seq_length: hyper.seq as u64,
            micro_batch: 0,
            per_device_train_batch_size: hyper.batch as u64,
            memory_budget: 0,
            target: target(),
            step_windows: (hyper.batch * hyper.accumulate) as u64,
            decode_sequences: 0,
            decode_slots: 0,
        }
    }

    /// Options of the case's run.
    pub fn train_options(&self) -> TrainOptions {
        let hyper = &self.expected.hyper_parameters;
        TrainOptions {
            learning_rate: hyper.lr,
            weight_decay: hyper.weight_decay,
            max_grad_norm: hyper.clip,
            warmup_steps: hyper.warmup,
            per_device_train_batch_size: hyper.batch,
            gradient_accumulation_steps: hyper.accumulate,
            max_steps: Some(hyper.steps as u64),
            logging: Cadence::Steps(1),
            threads: 2,
            shuffle: false,
            ..TrainOptions::default()
        }
    }

    /// The schedule of the case's run.
    pub fn schedule(&self) -> Schedule {
        let hyper = &self.expected.hyper_parameters;
        let (peak, warmup_steps, total_steps) = (hyper.lr, hyper.warmup, hyper.steps as u64);
        Schedule { kind: SchedulerKind::Linear, peak, warmup_steps, total_steps }
    }

    /// What the case's run starts from.
    pub fn start(&self) -> Start {
        if self.expected.hyper_parameters.full {
            return Start::Fresh;
        }
        let dir = self.dir.join("adapter_init");
        Start::Adapter(Adapter::load(&dir).unwrap(), dir.display().to_string())
    }

    /// The windows of each optimizer step.
    pub fn steps(&self) -> Vec<Vec<Window>> {
        let hyper = &self.expected.hyper_parameters;
        let batches = TokenBatches::open(&self.dir.join("batches.safetensors")).unwrap();
        let options = self.compile_options();
        let limits = WindowLimits {
            window_length: options.max_seq_length as usize,
            n_positions: options.model.n_positions as usize,
            vocab_size: options.model.vocab_size as usize,
        };
        let windows: Vec<Window> = (0..batches.steps())
            .flat_map(|step| batches.rows(step))
            .map(|row| {
                let widen_u32 = |values: &[u32]| values.iter().map(|&v| i64::from(v)).collect::<Vec<_>>();
                let mask: Vec<i64> = row.mask.iter().map(|&v| i64::from(v)).collect();
                let labels: Vec<i64> = row.labels.iter().map(|&v| i64::from(v)).collect();
                Window::from_padded_row(&widen_u32(row.tokens), &mask, &labels, &limits).unwrap()
            })
            .collect();
        windows.chunks(hyper.batch * hyper.accumulate).map(<[Window]>::to_vec).collect()
    }

    /// A trainer for the case, compiled with `compile`.
    pub fn trainer(&self, compile: &CompileOptions, options: TrainOptions) -> Trainer {
        let plan = gptjc_compiler::compile(compile).unwrap();
        Trainer::new(plan, self.checkpoint(), self.start(), options).unwrap()
    }
}

/// The gradient of each parameter after a step's windows were accumulated and before they are applied: the finished
/// tree, divided by the number of labelled tokens.
pub fn gradients(trainer: &mut Trainer, windows: usize, labelled: usize) -> BTreeMap<String, Vec<f32>> {
    let parameters: Vec<(String, usize)> = trainer
        .plan()
        .buffers_in(Memory::Parameter)
        .map(|buffer| (buffer.name.clone(), buffer.ty().unwrap().elements()))
        .collect();
    let mut gradients = BTreeMap::new();
    for (name, elements) in parameters {
        let stack = trainer.executor().read::<f32>(&format!("gradient.{name}")).unwrap();
        let mut sum = vec![0.0f32; elements];
        for level in (0..usize::BITS as usize).filter(|level| windows >> level & 1 == 1) {
            for (sum, part) in sum.iter_mut().zip(&stack[level * elements..]) {
                *sum += part;
            }
        }
        gradients.insert(name, sum.into_iter().map(|g| g / labelled as f32).collect());
    }
    gradients
}

/// An integer tensor of a safetensors file.
pub fn read_integers(path: &Path, name: &str) -> Vec<i64> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor(name).unwrap();
    view.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
}
