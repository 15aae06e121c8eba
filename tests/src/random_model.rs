//! Small GPT-Js with random weights, as tensors and as the directories that a user would have.
//!
//! Biases, norms and LoRA's B are drawn too: what is zero or one in a fresh model could hide a wrong gradient.

use crate::golden::target;
use gptjc_graphs::graph::Role;
use gptjc_graphs::models::gptj::training_program;
use gptjc_graphs::plan::{CompileOptions, LoraOptions, ModelConfig, Packing, Precision};
use gptjc_runtime::adapter::{Adapter, AdapterConfig, AdapterTensor, Selection, module_of};
use gptjc_runtime::data::window::{Window, WindowLimits};
use gptjc_runtime::train::{Start, TrainOptions, Trainer};
use gptjc_runtime::weights::Checkpoint;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Tensors by their name in a checkpoint or an adapter.
pub type Tensors = BTreeMap<String, AdapterTensor>;

/// One token and its label, as a data set has them: the label is what the slot before is to predict.
pub type LabelledToken = (u32, Option<u32>);

/// SplitMix64: numbers that depend on the seed only, so that a failing case can be run again.
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number of -1 to 1.
    pub fn signed(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }
}

/// Options for windows of at most `window_length` tokens, `windows` of them an optimizer step, in f32.
pub fn compile_options(
    model: ModelConfig,
    lora: Option<LoraOptions>,
    window_length: usize,
    windows: usize,
) -> CompileOptions {
    CompileOptions {
        model,
        lora,
        precision: Precision::F32.into(),
        packing: Packing::Segments.into(),
        max_seq_length: window_length as u64,
        micro_batch: windows as u64,
        per_device_train_batch_size: windows as u64,
        memory_budget: 0,
        target: target(),
        step_windows: windows as u64,
        decode_sequences: 0,
        decode_slots: 0,
    }
}

/// A value for every weight and every parameter of the training graph.
pub fn tensors(options: &CompileOptions, seed: u64) -> Tensors {
    let graph = training_program(options, 1).unwrap().micro_step;
    let mut random = Random::new(seed);
    let mut tensors = Tensors::new();
    for input in graph.inputs() {
        if !matches!(input.role, Role::Weight | Role::Parameter) {
            continue;
        }
        let shape: Vec<usize> = graph.ty(input.value).dims.iter().map(|dim| dim.bound).collect();
        let (mean, scale) = distribution(&input.name, &shape, options.lora.as_ref());
        let values = (0..shape.iter().product()).map(|_| mean + scale * random.signed()).collect();
        tensors.insert(input.name.clone(), AdapterTensor { shape, values });
    }
    tensors
}

/// Mean and largest deviation of a tensor's elements: activations are of order one everywhere.
fn distribution(name: &str, shape: &[usize], lora: Option<&LoraOptions>) -> (f32, f32) {
    let fan_in = *shape.last().unwrap() as f32;
    if name.ends_with("lora_B.weight") {
        let scaling = lora.map_or(1.0, LoraOptions::scaling) as f32;
        return (0.0, 1.5 / scaling / fan_in.sqrt());
    }
    match shape {
        [_] if name.ends_with("weight") => (1.0, 0.5), // layer norm
        [_] => (0.0, 0.5),                             // bias
        _ if name.ends_with("wte.weight") => (0.0, 1.5),
        _ => (0.0, 1.7 / fan_in.sqrt()),
    }
}

/// The window that holds `segments` side by side.
pub fn window(segments: &[Vec<LabelledToken>], options: &CompileOptions) -> Window {
    let limits = WindowLimits {
        window_length: options.max_seq_length as usize,
        n_positions: options.model.n_positions as usize,
        vocab_size: options.model.vocab_size as usize,
    };
    let mut window = Window::default();
    for segment in segments {
        let (ids, labels): (Vec<u32>, Vec<Option<u32>>) = segment.iter().copied().unzip();
        window.push_segment(&ids, &labels, &limits).unwrap();
    }
    window
}

/// A trainer on `tensors`, by way of the files of a model and of an adapter in `dir`.
pub fn trainer(options: &CompileOptions, tensors: &Tensors, train: TrainOptions, dir: &Path) -> Trainer {
    let (adapter, model): (Tensors, Tensors) =
        tensors.clone().into_iter().partition(|(name, _)| name.contains(".lora_"));
    write_model(&options.model, &model, dir);
    let start = match &options.lora {
        Some(lora) => {
            let modules = adapter.keys().filter_map(|name| module_of(name));
            let selection = Selection::covering(modules, options.model.n_layer);
            let config = AdapterConfig {
                base_model_name_or_path: None,
                r: lora.rank as usize,
                lora_alpha: lora.alpha,
                lora_dropout: lora.dropout,
                selection,
                use_rslora: lora.use_rslora,
            };
            let adapter_dir = dir.join("adapter");
            Adapter { config, tensors: adapter }.save(&adapter_dir).unwrap();
            Start::Adapter(Adapter::load(&adapter_dir).unwrap(), adapter_dir.display().to_string())
        }
        None => Start::Fresh,
    };
    let plan = gptjc_compiler::compile(options).unwrap();
    let checkpoint = Arc::new(Checkpoint::open(dir).unwrap());
    Trainer::new(plan, checkpoint, start, train).unwrap()
}

fn write_model(config: &ModelConfig, tensors: &Tensors, dir: &Path) {
    let json = serde_json::json!({
        "model_type": "gptj",
        "n_layer": config.n_layer,
        "n_embd": config.n_embd,
        "n_head": config.n_head,
        "rotary_dim": config.rotary_dim,
        "n_inner": config.n_inner,
        "vocab_size": config.vocab_size,
        "n_positions": config.n_positions,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "activation_function": "gelu_new",
        "tie_word_embeddings": false,
    });
    std::fs::write(dir.join("config.json"), json.to_string()).unwrap();
    let bytes: Vec<Vec<u8>> =
        tensors.values().map(|tensor| tensor.values.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, tensor), bytes)| {
        (name, TensorView::new(Dtype::F32, tensor.shape.clone(), bytes).unwrap())
    });
    std::fs::write(dir.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
}
