//! A Hugging Face model directory, opened without reading its tensors.
//!
//! Reads the first of these that is there, as transformers does: `model.safetensors`, the shards that
//! `model.safetensors.index.json` lists, `pytorch_model.bin`, the shards that `pytorch_model.bin.index.json` lists.
//! Names are those of GPTJForCausalLM, `transformer.h.0...`: a
//! checkpoint of GPTJModel, whose names lack `transformer.`, is read under the full names.
//! The buffers `attn.bias` and `attn.masked_bias` of older checkpoints hold no weights and are left out.
//! Does not: convert (see [`super::convert`] and [`crate::convert`]), or look outside the directory (symbolic links are followed: the
//! Hugging Face cache is made of them).

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::Dtype;

use super::error::TensorProblem;
use super::layout::{INDEX_FILE, SINGLE_FILE};
use super::safetensors_file::Entry;
use super::{SafetensorsFile, TensorSpec, WeightsError, index, torch};
use crate::memory::file_reader::FileReader;
use crate::memory::mapped_file::MappedFile;

const TORCH_FILE: &str = "pytorch_model.bin";
const TORCH_INDEX: &str = "pytorch_model.bin.index.json";
const PREFIX: &str = "transformer.";
/// Bytes around an access that the system may map with it, at most: twice its largest page of the cache.
const MAPPED_AROUND: usize = 4 << 20;

/// The format of the files with weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// safetensors
    Safetensors,
    /// `torch.save`
    Torch,
}

/// Element types of weights that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightDtype {
    /// 32-bit IEEE.
    F32,
    /// 16-bit IEEE.
    F16,
    /// The upper half of an f32.
    Bf16,
}

impl WeightDtype {
    /// The type of the same name in safetensors, or none if it is not a weight's.
    pub fn from_safetensors(dtype: Dtype) -> Option<WeightDtype> {
        match dtype {
            Dtype::F32 => Some(WeightDtype::F32),
            Dtype::F16 => Some(WeightDtype::F16),
            Dtype::BF16 => Some(WeightDtype::Bf16),
            _ => None, // a foreign enum, open by declaration
        }
    }

    /// The name in a Hugging Face `config.json`.
    pub const fn hugging_face_name(self) -> &'static str {
        match self {
            WeightDtype::F32 => "float32",
            WeightDtype::F16 => "float16",
            WeightDtype::Bf16 => "bfloat16",
        }
    }

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            WeightDtype::F32 => 4,
            WeightDtype::F16 | WeightDtype::Bf16 => 2,
        }
    }
}

/// A tensor in its mapped file.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// Its name, with the prefix `transformer.`.
    pub name: &'a str,
    /// Element type of `bytes`.
    pub dtype: WeightDtype,
    /// Dimensions, outermost first.
    pub shape: &'a [usize],
    /// Elements, little-endian, row-major, of any alignment.
    pub bytes: &'a [u8],
    /// The file it is in.
    pub file: &'a Path,
    /// First byte of the tensor in that file.
    pub offset: u64,
}

impl TensorView<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// True if a dimension is zero.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// A mapped file, and where its tensors are.
#[derive(Debug)]
struct WeightsFile {
    mapped: MappedFile,
    entries: BTreeMap<String, Entry>,
}

impl WeightsFile {
    fn open(path: &Path, format: Format) -> Result<WeightsFile, WeightsError> {
        let (mapped, entries) = match format {
            Format::Safetensors => SafetensorsFile::open(path)?.into_parts(),
            Format::Torch => torch::open(path, is_old_buffer)?,
        };
        Ok(WeightsFile { mapped, entries })
    }

    fn name(&self) -> String {
        self.mapped.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// The mapped weights of a model directory.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    origin: PathBuf,
    format: Format,
    /// The table of shards, if there is one.
    index: Option<PathBuf>,
    files: Vec<WeightsFile>,
    /// Full name to (index into `files`, name in that file).
    tensors: BTreeMap<String, (usize, String)>,
    /// True if the names in the files lack the prefix.
    base_model_only: bool,
}

impl Checkpoint {
    /// Opens the weights of the model directory `dir` and checks its files; reads no tensor.
    ///
    /// # Errors
    /// [`WeightsError`] for a missing directory or file, an index that is invalid or does not belong to its shards, and for
    /// truncated or foreign files.
    pub fn open(dir: &Path) -> Result<Checkpoint, WeightsError> {
        if !dir.is_dir() {
            return Err(WeightsError::NotADirectory { dir: dir.to_owned() });
        }
        let (format, is_index, name) = find_weights(dir)?;
        let path = dir.join(name);
        let (files, index) = match is_index {
            true => (open_shards(dir, &path, format)?, Some(path)),
            false => (vec![WeightsFile::open(&path, format)?], None),
        };
        let (tensors, base_model_only) = name_table(&files)?;
        let (dir, origin) = (dir.to_owned(), dir.to_owned());
        Ok(Checkpoint { dir, origin, format, index, files, tensors, base_model_only })
    }

    /// The format of its files.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The files that were opened: the table of shards first, if there is one.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.index.as_deref().into_iter().chain(self.files.iter().map(|file| file.mapped.path()))
    }

    /// The names of all tensors (with the prefix `transformer.`), sorted; old buffers left out.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The tensor `name`, or none if it is absent or not f32, f16 or bf16 ([`Checkpoint::check`] tells which).
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let (name, (file, inner)) = self.tensors.get_key_value(name)?;
        let file = &self.files[*file];
        let entry = file.entries.get(inner)?;
        Some(TensorView {
            name,
            dtype: WeightDtype::from_safetensors(entry.dtype)?,
            shape: &entry.shape,
            bytes: &file.mapped.bytes()[entry.start..entry.end],
            file: file.mapped.path(),
            offset: entry.start as u64,
        })
    }

    /// Gives back the memory of `bytes` of the tensor `name`, counted from its start, after they and what is before them
    /// were read; see [`crate::memory::mapped_file::MappedFile::release`]. Does nothing for a tensor that is not there.
    ///
    /// The first access to a page maps the pages around it as well, up to a whole large page of the cache, among them some
    /// that were released before: so what is before `bytes` is released again.
    pub fn release(&self, name: &str, bytes: Range<usize>) {
        if let Some((file, entry)) = self.entry(name) {
            let start = (entry.start + bytes.start).saturating_sub(MAPPED_AROUND);
            file.mapped.release(start..entry.end.min(entry.start + bytes.end));
        }
    }

    /// Tells the system that `bytes` of the tensor `name`, counted from its start, will be read soon; see
    /// [`crate::memory::mapped_file::MappedFile::prefetch`]. Does nothing for a tensor that is not there.
    pub fn prefetch(&self, name: &str, bytes: Range<usize>) {
        if let Some((file, entry)) = self.entry(name) {
            file.mapped.prefetch(entry.start + bytes.start..entry.end.min(entry.start + bytes.end));
        }
    }

    /// A reader of the file that has the tensor `name`, or none if there is no such tensor.
    pub fn reader(&self, name: &str) -> Option<std::io::Result<FileReader>> {
        self.entry(name).map(|(file, _)| file.mapped.reader())
    }

    /// The directory it was opened from.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The model that this is a copy of: a directory or a name of the hub. It is the directory that was opened, unless
    /// [`Checkpoint::with_origin`] says otherwise.
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// The same, as a copy of `origin`.
    pub fn with_origin(self, origin: PathBuf) -> Checkpoint {
        Checkpoint { origin, ..self }
    }

    /// Checks that every tensor of `specs` is there with its shape and a dtype that is read.
    ///
    /// Returns a warning, one sentence each, for every tensor that `specs` does not name.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`] with all tensors that do not fit.
    pub fn check(&self, specs: &[TensorSpec]) -> Result<Vec<String>, WeightsError> {
        let problems: Vec<TensorProblem> = specs.iter().filter_map(|spec| self.problem(spec)).collect();
        if !problems.is_empty() {
            return Err(WeightsError::Mismatch { dir: self.dir.clone(), problems });
        }
        let expected: std::collections::HashSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let unused = self.tensors.iter().filter(|(name, _)| !expected.contains(name.as_str()));
        Ok(unused
            .map(|(name, (file, _))| {
                let file = self.files[*file].name();
                format!("tensor `{name}` in {file} is not part of the model and is not used")
            })
            .collect())
    }

    fn problem(&self, spec: &TensorSpec) -> Option<TensorProblem> {
        let name = spec.name.clone();
        let Some((file, entry)) = self.entry(&spec.name) else {
            return Some(if self.base_model_only && name.starts_with("lm_head.") {
                TensorProblem::NoHead { name }
            } else {
                TensorProblem::Missing { name, shape: spec.shape.clone() }
            });
        };
        if entry.shape != spec.shape {
            let (expected, found) = (spec.shape.clone(), entry.shape.clone());
            return Some(TensorProblem::Shape { name, file: file.name(), expected, found });
        }
        if WeightDtype::from_safetensors(entry.dtype).is_none() {
            return Some(TensorProblem::Dtype { name, file: file.name(), found: entry.dtype });
        }
        None
    }

    fn entry(&self, name: &str) -> Option<(&WeightsFile, &Entry)> {
        let (file, inner) = self.tensors.get(name)?;
        let file = &self.files[*file];
        Some((file, file.entries.get(inner)?))
    }
}

/// What to open in `dir`: its format, whether it is a table of shards, and its name.
fn find_weights(dir: &Path) -> Result<(Format, bool, &'static str), WeightsError> {
    let candidates = [
        (Format::Safetensors, false, SINGLE_FILE),
        (Format::Safetensors, true, INDEX_FILE),
        (Format::Torch, false, TORCH_FILE),
        (Format::Torch, true, TORCH_INDEX),
    ];
    let found = candidates.into_iter().find(|(_, _, name)| dir.join(name).exists());
    found.ok_or_else(|| WeightsError::NoWeights { dir: dir.to_owned() })
}

/// Opens every file that the index names, and checks that index and files list the same tensors.
fn open_shards(dir: &Path, index_path: &Path, format: Format) -> Result<Vec<WeightsFile>, WeightsError> {
    let disagree = |reason| WeightsError::ShardsDisagree { index: index_path.to_owned(), reason };
    let weight_map = index::read(index_path)?;
    let mut names: Vec<&String> = weight_map.values().collect();
    names.sort();
    names.dedup();
    let mut files = Vec::with_capacity(names.len());
    for name in names {
        let path = dir.join(name);
        if !path.exists() {
            let tensors = weight_map.values().filter(|file| *file == name).count();
            return Err(disagree(format!("`{name}` ({tensors} tensors) is missing")));
        }
        let file = WeightsFile::open(&path, format)?;
        for tensor in file.entries.keys().filter(|tensor| !is_old_buffer(tensor)) {
            match weight_map.get(tensor) {
                Some(listed) if listed == name => {}
                Some(listed) => {
                    return Err(disagree(format!(
                        "the index has tensor `{tensor}` in `{listed}`, but `{name}` has it too"
                    )));
                }
                None => return Err(disagree(format!("tensor `{tensor}` of `{name}` is not in the index"))),
            }
        }
        let listed = weight_map.iter().filter(|(tensor, listed)| *listed == name && !is_old_buffer(tensor));
        for (tensor, _) in listed {
            if !file.entries.contains_key(tensor) {
                return Err(disagree(format!(
                    "the index has tensor `{tensor}` in `{name}`, but it is not there"
                )));
            }
        }
        files.push(file);
    }
    Ok(files)
}

/// Full names to places, and whether the names in the files lacked the prefix.
#[expect(clippy::type_complexity, reason = "the two halves of `Checkpoint` that come from one loop")]
fn name_table(files: &[WeightsFile]) -> Result<(BTreeMap<String, (usize, String)>, bool), WeightsError> {
    let mut tensors = BTreeMap::new();
    let mut base_model_only = false;
    for (index, file) in files.iter().enumerate() {
        for inner in file.entries.keys().filter(|name| !is_old_buffer(name)) {
            let bare = ["h.", "wte.", "ln_f."].iter().any(|start| inner.starts_with(start));
            let name = if bare { format!("{PREFIX}{inner}") } else { inner.clone() };
            base_model_only |= bare;
            if tensors.insert(name.clone(), (index, inner.clone())).is_some() {
                return Err(WeightsError::BothPrefixes { file: file.mapped.path().to_owned(), name });
            }
        }
    }
    Ok((tensors, base_model_only))
}

/// True for the causal mask and its fill value, which old versions of transformers saved with the weights.
fn is_old_buffer(name: &str) -> bool {
    name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
