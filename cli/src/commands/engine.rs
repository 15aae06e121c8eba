//! The model that a command asks: found and checked first, loaded when it is known how long the questions are.

use super::model::load_adapter;
use super::weights::{self, Needed};
use crate::console::Console;
use crate::error::CliError;
use crate::flags::{EngineFlags, EngineName, ModelFlags};
use crate::settings;
use gptjc_compiler::CompileError;
use gptjc_graphs::plan::{CompileOptions, ModelConfig, Plan, Precision};
use gptjc_runtime::adapter::Adapter;
use gptjc_runtime::data::tokenizer::GptJTokenizer;
use gptjc_runtime::machine;
use gptjc_runtime::topology::Topology;
use gptjc_runtime::train::Start;
use gptjc_runtime::validate::Engine;
use gptjc_runtime::validate::library::{OnnxRuntime, Surroundings, load};
use gptjc_runtime::validate::native_engine::NativeEngine;
use gptjc_runtime::validate::onnx_directory::OnnxDirectory;
use gptjc_runtime::validate::ort_engine::OrtEngine;
use gptjc_runtime::weights::Checkpoint;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// New tokens that a run of the compiled plan takes at most: enough to keep matmuls busy; each costs a row of logits.
const MOST_SLOTS: u64 = 512;

/// A model that can be loaded.
pub(crate) struct Source {
    directory: PathBuf,
    kind: Kind,
}

enum Kind {
    Onnx { runtime: OnnxEngine, positions: usize },
    Native(Box<Native>),
}

/// What runs exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnnxEngine {
    Ort,
    Tract,
}

struct Native {
    config: ModelConfig,
    checkpoint: Checkpoint,
    adapter: Option<(PathBuf, Adapter)>,
}

impl Source {
    /// Finds what `flags` name, and checks the files.
    pub(crate) fn find(flags: &EngineFlags, console: Console) -> Result<Self, CliError> {
        check_one_model(flags)?;
        let runtime = check_engine(flags)?;
        if let (Some(directory), Some(runtime)) = (&flags.onnx, runtime) {
            let found = OnnxDirectory::open(directory).map_err(|source| unusable(directory, source))?;
            let kind = Kind::Onnx { runtime, positions: found.sizes.n_positions };
            return Ok(Self { directory: directory.clone(), kind });
        }
        let model = ModelFlags { model: flags.model.clone(), ..ModelFlags::default() };
        let directory = settings::model_dir(&model)?.to_owned();
        let config = settings::model_config(&model)?;
        let needed = Needed::frozen(flags.precision.unwrap_or(Precision::Bf16));
        let checkpoint = weights::open(&directory, &config, needed, console)?;
        let adapter = match &flags.adapter {
            Some(path) => Some((path.clone(), load_adapter(path)?)),
            None => None,
        };
        Ok(Self { directory, kind: Kind::Native(Box::new(Native { config, checkpoint, adapter })) })
    }

    /// Tokens that a sequence can have.
    pub(crate) fn positions(&self) -> usize {
        match &self.kind {
            Kind::Onnx { positions, .. } => *positions,
            Kind::Native(native) => native.config.n_positions as usize,
        }
    }

    /// The tokenizer that `flags` name, or the model's.
    pub(crate) fn tokenizer(&self, flags: &EngineFlags) -> Result<GptJTokenizer, CliError> {
        let directory = flags.tokenizer.as_deref().unwrap_or(&self.directory);
        GptJTokenizer::from_dir(directory).map_err(|source| CliError::Tokenizer(source.into()))
    }

    /// Loads the model for sequences of at most `longest` tokens, of which `sequences` are asked for in all.
    pub(crate) fn open(
        self,
        flags: &EngineFlags,
        longest: usize,
        sequences: usize,
        console: Console,
    ) -> Result<Box<dyn Engine>, CliError> {
        match self.kind {
            Kind::Onnx { runtime, .. } => open_onnx(&self.directory, runtime, flags.threads),
            Kind::Native(native) => {
                let side_by_side = flags.batch_size.min(sequences as u64);
                let precision = flags.precision.unwrap_or(Precision::Bf16);
                let plan = decode_plan(&native, precision, longest as u64, side_by_side, console)?;
                let start = match native.adapter {
                    Some((path, adapter)) => Start::Adapter(adapter, path.display().to_string()),
                    None => Start::Fresh,
                };
                let threads = thread_count(flags.threads);
                let engine = NativeEngine::new(plan, Arc::new(native.checkpoint), start, threads);
                Ok(Box::new(engine.map_err(|source| unusable(&self.directory, source))?))
            }
        }
    }
}

/// Refuses an export together with a model.
fn check_one_model(flags: &EngineFlags) -> Result<(), CliError> {
    let of_model = [
        ("--model", flags.model.is_some()),
        ("--adapter", flags.adapter.is_some()),
        ("--precision", flags.precision.is_some()),
    ];
    match of_model.into_iter().find(|(_, typed)| *typed) {
        Some((flag, _)) if flags.onnx.is_some() => Err(CliError::Usage {
            what: format!("--onnx is one model and {flag} is of another"),
            advice:
                "give one of them, or compare them: gptjc validate --onnx DIR --model DIR --compare native"
                    .to_owned(),
        }),
        _ => Ok(()),
    }
}

/// What runs an export, if it is one that is asked. Refuses an engine that does not run what is asked.
fn check_engine(flags: &EngineFlags) -> Result<Option<OnnxEngine>, CliError> {
    match (flags.engine, &flags.onnx) {
        (None | Some(EngineName::Ort), Some(_)) => Ok(Some(OnnxEngine::Ort)),
        (Some(EngineName::Tract), Some(_)) => {
            check_built_in(EngineName::Tract)?;
            Ok(Some(OnnxEngine::Tract))
        }
        (Some(EngineName::Native), Some(_)) => Err(CliError::Usage {
            what: "--engine native runs a --model, and --onnx is an export".to_owned(),
            advice: "give --engine ort, or compare both: --onnx DIR --model DIR --compare native".to_owned(),
        }),
        (None | Some(EngineName::Native), None) => Ok(None),
        (Some(EngineName::Ort | EngineName::Tract), None) => Err(CliError::Usage {
            what: "--engine ort and tract run exports, and --model is none".to_owned(),
            advice: "export it with `gptjc export` and give --onnx DIR, or compare: --compare ort".to_owned(),
        }),
    }
}

/// Refuses tract in a program that was built without it.
pub(crate) fn check_built_in(engine: EngineName) -> Result<(), CliError> {
    match engine {
        EngineName::Tract if cfg!(not(feature = "tract")) => Err(without_tract()),
        EngineName::Ort | EngineName::Tract | EngineName::Native => Ok(()),
    }
}

fn without_tract() -> CliError {
    CliError::Usage {
        what: "this gptjc was built without tract".to_owned(),
        advice: "build it with `cargo build --release -p gptjc --features tract`, or take ONNX Runtime: ort"
            .to_owned(),
    }
}

/// ONNX Runtime's library.
pub(crate) fn onnx_runtime() -> Result<OnnxRuntime, CliError> {
    load(&Surroundings::of_process()).map_err(|source| CliError::OnnxRuntime(source.into()))
}

/// An export directory under a runtime.
pub(crate) fn open_onnx(
    directory: &Path,
    runtime: OnnxEngine,
    threads: Option<usize>,
) -> Result<Box<dyn Engine>, CliError> {
    let threads = thread_count(threads);
    match runtime {
        OnnxEngine::Ort => {
            let engine = OrtEngine::open(directory, &onnx_runtime()?, Some(threads));
            Ok(Box::new(engine.map_err(|source| unusable(directory, source))?))
        }
        OnnxEngine::Tract => open_tract(directory, threads),
    }
}

#[cfg(feature = "tract")]
fn open_tract(directory: &Path, threads: usize) -> Result<Box<dyn Engine>, CliError> {
    let engine = gptjc_runtime::validate::tract_engine::TractEngine::open(directory, threads);
    Ok(Box::new(engine.map_err(|source| unusable(directory, source))?))
}

#[cfg(not(feature = "tract"))]
fn open_tract(_directory: &Path, _threads: usize) -> Result<Box<dyn Engine>, CliError> {
    Err(without_tract())
}

/// One for each core that this process may use, if nobody asks for another number.
pub(crate) fn thread_count(asked: Option<usize>) -> usize {
    asked.unwrap_or_else(|| Topology::host().threads())
}

fn unusable(directory: &Path, source: impl std::error::Error + Send + Sync + 'static) -> CliError {
    CliError::Weights { path: directory.to_owned(), source: source.into() }
}

/// A plan that continues as many sequences side by side as memory allows, at most `sequences`.
fn decode_plan(
    native: &Native,
    precision: Precision,
    longest: u64,
    sequences: u64,
    console: Console,
) -> Result<Plan, CliError> {
    let adapter = native.adapter.as_ref().map(|(_, adapter)| adapter);
    let mut options = settings::defaults(native.config, machine::host(), adapter);
    if adapter.is_none() {
        options.lora = None;
    }
    options.precision = precision.into();
    plan_beside(&options, longest, sequences, console)
}

/// As many sequences of at most `longest` tokens side by side as the memory of `options` allows, at most `sequences`.
pub(crate) fn plan_beside(
    options: &CompileOptions,
    longest: u64,
    sequences: u64,
    console: Console,
) -> Result<Plan, CliError> {
    let mut side_by_side = sequences.max(1);
    loop {
        let attempt = CompileOptions {
            decode_sequences: side_by_side,
            decode_slots: (side_by_side * longest).min(MOST_SLOTS),
            max_seq_length: longest,
            ..options.clone()
        };
        match gptjc_compiler::compile(&attempt) {
            Err(CompileError::Budget { .. }) if side_by_side > 1 => side_by_side /= 2,
            Err(source) => return Err(CliError::Compile(source.into())),
            Ok(plan) => {
                if side_by_side < sequences {
                    console.note(&format!("memory allows {side_by_side} prompts at a time, not {sequences}"));
                }
                return Ok(plan);
            }
        }
    }
}
