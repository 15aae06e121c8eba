//! Parameters: where they come from and where they go.

use super::checkpoint::{FileSet, places, saved};
use super::{TrainError, Trainer};
use crate::adapter::{self, Adapter, AdapterConfig, AdapterError, AdapterTensor, Selection, module_of};
use crate::files::atomic;
use crate::weights::layout::SINGLE_FILE;
use crate::weights::{Checkpoint, TensorSpec, convert};
use gptjc_graphs::plan::{Buffer, LoraOptions, Memory, Plan};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// What training starts from.
pub enum Start {
    /// New adapters as PEFT initialises them, or the checkpoint's own tensors if all are trained.
    Fresh,
    /// An adapter that was trained before; its name for messages.
    Adapter(Adapter, String),
}

/// Files of a model directory that describe the model or its tokenizer; copied beside trained weights.
const COMPANIONS: [&str; 9] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "README.md",
];

/// Name and shape of a buffer at its bounds.
pub(crate) fn spec(buffer: &Buffer) -> TensorSpec {
    let shape: Vec<usize> = buffer.dims.iter().map(|dim| dim.bound as usize).collect();
    TensorSpec::new(buffer.name.clone(), shape)
}

/// Names and shapes of the plan's parameters.
fn specs(plan: &Plan) -> Vec<TensorSpec> {
    plan.buffers_in(Memory::Parameter).map(spec).collect()
}

/// What the plan expects of the checkpoint: its frozen weights, and its parameters if it has no adapters.
pub(crate) fn checkpoint_specs(plan: &Plan) -> Vec<TensorSpec> {
    let mut specs: Vec<TensorSpec> = plan.frozen_tensors().map(spec).collect();
    if plan.options.lora.is_none() {
        specs.extend(plan.buffers_in(Memory::Parameter).map(spec));
    }
    specs
}

/// The settings of the plan's adapters, as PEFT has them.
fn adapter_config(plan: &Plan, lora: &LoraOptions, base_model: Option<String>) -> AdapterConfig {
    let modules = plan.buffers_in(Memory::Parameter).filter_map(|buffer| module_of(&buffer.name));
    AdapterConfig {
        base_model_name_or_path: base_model,
        r: lora.rank as usize,
        lora_alpha: lora.alpha,
        lora_dropout: lora.dropout,
        selection: Selection::covering(modules, plan.options.model.n_layer),
        use_rslora: lora.use_rslora,
    }
}

/// The first values of every parameter of the plan.
pub(crate) fn initial(
    plan: &Plan,
    checkpoint: &Checkpoint,
    start: Start,
    seed: u64,
) -> Result<Vec<(String, Vec<f32>)>, TrainError> {
    let specs = specs(plan);
    let adapter = match (&plan.options.lora, start) {
        (Some(lora), Start::Fresh) => Adapter::initialise(adapter_config(plan, lora, None), &specs, seed)?,
        (Some(lora), Start::Adapter(adapter, label)) => {
            let weights = checkpoint.names().filter_map(|name| name.strip_suffix(".weight"));
            if let Some(module) = adapter.missing(weights) {
                let (adapter, module) = (label, module.to_owned());
                return Err(AdapterError::Incomplete { adapter, module }.into());
            }
            adapter.check(&specs, lora.rank as usize, &label)?;
            check_settings(lora, &adapter.config)?;
            adapter
        }
        (None, Start::Fresh) => {
            let read = |spec: &TensorSpec| {
                let tensor = checkpoint.tensor(&spec.name)?;
                Some((spec.name.clone(), convert::read_f32(&tensor)))
            };
            return Ok(specs.iter().filter_map(read).collect());
        }
        (None, Start::Adapter(..)) => return Err(TrainError::NoAdapterInPlan),
    };
    Ok(adapter.tensors.into_iter().map(|(name, tensor)| (name, tensor.values)).collect())
}

/// Refuses an adapter whose function would be another under the plan's settings.
fn check_settings(lora: &LoraOptions, config: &AdapterConfig) -> Result<(), TrainError> {
    let scaling = (lora.scaling(), config.scaling());
    if scaling.0 != scaling.1 {
        return Err(TrainError::AdapterSetting {
            setting: "scaling (lora_alpha over r, or over its root with rsLoRA)",
            plan: scaling.0.to_string(),
            adapter: scaling.1.to_string(),
        });
    }
    Ok(())
}

impl Trainer {
    /// Every parameter, by name, with its shape.
    ///
    /// # Errors
    /// [`TrainError::Executor`] if the plan and its memory disagree.
    pub fn parameters(&mut self) -> Result<BTreeMap<String, AdapterTensor>, TrainError> {
        let specs = specs(self.plan());
        let mut tensors = BTreeMap::new();
        for TensorSpec { name, shape } in specs {
            let values = self.executor().read::<f32>(&name)?;
            tensors.insert(name, AdapterTensor { shape, values });
        }
        Ok(tensors)
    }

    /// Writes what was trained into `dir`: PEFT's adapter files, or a Hugging Face model directory if all parameters
    /// were trained. Each file appears whole.
    ///
    /// # Errors
    /// [`TrainError`] if a file cannot be written; what was there before stays.
    pub fn save(&mut self, dir: &Path) -> Result<(), TrainError> {
        match self.adapter()? {
            Some(adapter) => Ok(adapter.save(dir)?),
            None => {
                let tensors = self.parameters()?;
                self.save_model(dir, &tensors)
            }
        }
    }

    /// Writes what was trained, in the files that [`save`](Self::save) writes.
    pub(super) fn write_parameters(&mut self, files: &mut FileSet<'_>) -> Result<(), TrainError> {
        let Some(adapter) = self.adapter()? else {
            let places = places::parameters(self.plan());
            for (name, content) in self.companions()? {
                files.bytes(name, &content)?;
            }
            return files.buffers(SINGLE_FILE, &places, self);
        };
        files.bytes(adapter::MODEL_FILE, &adapter.to_safetensors()?)?;
        Ok(files.bytes(adapter::CONFIG_FILE, adapter.config.to_json().as_bytes())?)
    }

    /// Takes what was trained from the files that [`save`](Self::save) wrote into `dir`, or a checkpoint's.
    ///
    /// # Errors
    /// [`TrainError`] if a file does not hold the plan's tensors.
    pub fn read_parameters(&mut self, dir: &Path) -> Result<(), TrainError> {
        let name = if self.plan().options.lora.is_some() { adapter::MODEL_FILE } else { SINGLE_FILE };
        let places = places::parameters(self.plan());
        saved::read(&dir.join(name), &places, self)
    }

    /// Those of [`COMPANIONS`] that the model has.
    fn companions(&self) -> Result<Vec<(&'static str, Vec<u8>)>, TrainError> {
        let mut found = Vec::new();
        for name in COMPANIONS {
            let path = self.checkpoint().dir().join(name);
            match std::fs::read(&path) {
                Ok(content) => found.push((name, content)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(TrainError::Read { path, source }),
            }
        }
        Ok(found)
    }

    /// The adapter as it is at this moment; none if all parameters are trained.
    ///
    /// # Errors
    /// As [`parameters`](Self::parameters).
    pub fn adapter(&mut self) -> Result<Option<Adapter>, TrainError> {
        let Some(lora) = self.plan().options.lora.clone() else { return Ok(None) };
        let base_model = self.checkpoint().origin().to_str().map(str::to_owned);
        let config = adapter_config(self.plan(), &lora, base_model);
        Ok(Some(Adapter { config, tensors: self.parameters()? }))
    }

    fn save_model(&self, dir: &Path, tensors: &BTreeMap<String, AdapterTensor>) -> Result<(), TrainError> {
        let mut views = Vec::with_capacity(tensors.len());
        for (name, tensor) in tensors {
            let bytes = bytemuck::cast_slice(&tensor.values);
            views.push((name.clone(), TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)?));
        }
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let bytes = safetensors::serialize(views, Some(metadata))?;
        std::fs::create_dir_all(dir).map_err(|source| TrainError::Read { path: dir.to_owned(), source })?;
        for (name, content) in self.companions()? {
            atomic::write_bytes(&dir.join(name), &content)?;
        }
        Ok(atomic::write_bytes(&dir.join(SINGLE_FILE), &bytes)?)
    }
}
