//! The tensors of an adapter in memory: loading, checking against a plan, saving.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView as Written;

use super::names::{is_lora_a, module_of};
use super::{AdapterConfig, AdapterError, CONFIG_FILE, MODEL_FILE, TargetModules};
use crate::files::FileError;
use crate::files::atomic::{write_bytes, write_directory};
use crate::weights::convert::read_f32;
use crate::weights::{SafetensorsFile, TensorSpec, TensorView, WeightDtype};
use gptjc_graphs::plan::ranges;

/// One A or B in f32.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterTensor {
    /// `[r, in]` for A, `[out, r]` for B.
    pub shape: Vec<usize>,
    /// Elements, row-major.
    pub values: Vec<f32>,
}

/// A LoRA adapter: settings and tensors by their full names.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// Settings.
    pub config: AdapterConfig,
    /// `base_model.model.MODULE.lora_A.weight` and `.lora_B.weight`, in alphabetical order.
    pub tensors: BTreeMap<String, AdapterTensor>,
}

impl Adapter {
    /// Reads the adapter directory `dir`; f16 and bf16 tensors are widened.
    ///
    /// # Errors
    /// [`AdapterError`] if a file is missing, truncated or unsupported, if a tensor is no LoRA weight, or if its rank is not
    /// that of the settings.
    pub fn load(dir: &Path) -> Result<Adapter, AdapterError> {
        let config_path = dir.join(CONFIG_FILE);
        let text = std::fs::read_to_string(&config_path)
            .map_err(|source| AdapterError::Read { path: config_path.clone(), source })?;
        let config = AdapterConfig::from_json(&text, &config_path)?;
        let path = dir.join(MODEL_FILE);
        if !path.exists() && dir.join("adapter_model.bin").exists() {
            return Err(AdapterError::OnlyPickle { dir: dir.to_owned() });
        }
        let file = SafetensorsFile::open(&path)?;
        let mut tensors = BTreeMap::new();
        for name in file.entries().keys() {
            tensors.insert(name.clone(), read_tensor(&file, name, config.r)?);
        }
        Ok(Adapter { config, tensors })
    }

    /// Writes the adapter into `dir`, which is created if need be; other files in it stay.
    ///
    /// A new directory appears whole or not at all. In an existing one each of the two files is replaced atomically, first
    /// the tensors; to replace a whole checkpoint at once, use [`Adapter::write_files`] inside
    /// [`write_directory`].
    ///
    /// # Errors
    /// [`AdapterError::Write`] naming the file or directory; what was there before stays.
    pub fn save(&self, dir: &Path) -> Result<(), AdapterError> {
        if dir.exists() {
            self.write_files(dir)
        } else {
            write_directory(dir, |inside| self.write_files(inside))
        }
    }

    /// Writes the two files into the existing directory `dir`, each atomically. Same adapter, same bytes.
    ///
    /// # Errors
    /// [`AdapterError::Write`] naming the file.
    pub fn write_files(&self, dir: &Path) -> Result<(), AdapterError> {
        write_bytes(&dir.join(MODEL_FILE), &self.to_safetensors()?)?;
        write_bytes(&dir.join(CONFIG_FILE), self.config.to_json().as_bytes()).map_err(FileError::into)
    }

    /// The bytes of adapter_model.safetensors: f32, sorted by name, with the metadata that transformers looks for.
    ///
    /// # Errors
    /// [`AdapterError::Serialize`] if a tensor's shape and number of values differ.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, AdapterError> {
        let bytes: Vec<Vec<u8>> = self
            .tensors
            .values()
            .map(|tensor| tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect())
            .collect();
        let mut views = Vec::with_capacity(bytes.len());
        for ((name, tensor), bytes) in self.tensors.iter().zip(&bytes) {
            views.push((name, Written::new(Dtype::F32, tensor.shape.clone(), bytes)?));
        }
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        Ok(safetensors::serialize(views, Some(metadata))?)
    }

    /// The adapted modules: `transformer.h.0.attn.q_proj`, sorted.
    pub fn modules(&self) -> BTreeSet<&str> {
        self.tensors.keys().filter_map(|name| module_of(name)).collect()
    }

    /// The first of `modules`, those of the model, that the settings select and for which there is no tensor.
    ///
    /// Settings that cannot be followed select nothing: the tensors say where the adapter is.
    pub fn missing<'m>(&self, modules: impl IntoIterator<Item = &'m str>) -> Option<&'m str> {
        let matcher = self.config.selection.matcher().ok()?;
        let present = self.modules();
        modules.into_iter().find(|module| !present.contains(module) && matcher.selects(module))
    }

    /// The flags that compile for this adapter's modules.
    fn flags(&self) -> String {
        let targets = match &self.config.selection.modules {
            TargetModules::Pattern(pattern) => format!("'{pattern}'"),
            _ => self.target_names().into_iter().collect::<Vec<_>>().join(","),
        };
        let layers = self.config.selection.layers.as_deref();
        let layers = layers.map(|layers| format!(" --layers-to-transform {}", ranges(layers)));
        format!("--lora-target-modules {targets}{}", layers.unwrap_or_default())
    }

    /// Last parts of the names of the adapted modules, as in `--lora-target-modules`, sorted.
    pub fn target_names(&self) -> BTreeSet<&str> {
        self.tensors.keys().filter_map(|name| module_of(name)?.rsplit('.').next()).collect()
    }

    /// Checks that this adapter, called `label` in messages, has rank `r` and exactly the tensors of `expected`.
    ///
    /// # Errors
    /// [`AdapterError::Rank`], [`AdapterError::Missing`], [`AdapterError::Extra`] or [`AdapterError::Shape`]: the first
    /// that holds, in this order.
    pub fn check(&self, expected: &[TensorSpec], r: usize, label: &str) -> Result<(), AdapterError> {
        let adapter = || label.to_owned();
        if self.config.r != r {
            return Err(AdapterError::Rank { adapter: adapter(), expected: r, found: self.config.r });
        }
        let mut missing = expected.iter().filter(|spec| !self.tensors.contains_key(&spec.name));
        if let Some(first) = missing.next() {
            let (name, more) = (first.name.clone(), missing.count());
            return Err(AdapterError::Missing { adapter: adapter(), name, more, flags: self.flags() });
        }
        let known: BTreeSet<&str> = expected.iter().map(|spec| spec.name.as_str()).collect();
        let mut extra = self.tensors.keys().filter(|name| !known.contains(name.as_str()));
        if let Some(first) = extra.next() {
            let (name, more) = (first.clone(), extra.count());
            return Err(AdapterError::Extra { adapter: adapter(), name, more, flags: self.flags() });
        }
        for spec in expected {
            let found = &self.tensors[&spec.name].shape;
            if *found != spec.shape {
                let (name, expected, found) = (spec.name.clone(), spec.shape.clone(), found.clone());
                return Err(AdapterError::Shape { adapter: adapter(), name, expected, found });
            }
        }
        Ok(())
    }
}

fn read_tensor(file: &SafetensorsFile, name: &str, r: usize) -> Result<AdapterTensor, AdapterError> {
    let (path, entry) = (file.path(), &file.entries()[name]);
    if module_of(name).is_none() {
        return Err(AdapterError::NotLora { path: path.to_owned(), name: name.to_owned() });
    }
    let dtype = WeightDtype::from_safetensors(entry.dtype).ok_or_else(|| AdapterError::Dtype {
        path: path.to_owned(),
        name: name.to_owned(),
        found: entry.dtype,
    })?;
    let rank = match entry.shape.as_slice() {
        [rows, _] if is_lora_a(name) => Some(*rows),
        [_, columns] => Some(*columns),
        _ => None,
    };
    if rank != Some(r) {
        let (path, name, shape) = (path.to_owned(), name.to_owned(), entry.shape.clone());
        return Err(AdapterError::RankInFiles { path, name, shape, r });
    }
    let view = TensorView {
        name,
        dtype,
        shape: &entry.shape,
        bytes: file.bytes(entry),
        file: path,
        offset: entry.start as u64,
    };
    Ok(AdapterTensor { shape: entry.shape.clone(), values: read_f32(&view) })
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
