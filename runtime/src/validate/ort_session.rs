//! One model in ONNX Runtime: the steps of [`super::ort_engine`].
//!
//! The cache stays in ONNX Runtime's own tensors from step to step; nothing of it is copied here.
//!
//! Does not: pad, choose tokens, or keep a cache.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use gptjc_graphs::onnx::EditedModel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Tensor, TensorRef};

use super::engine::EngineError;
use super::library::OnnxRuntime;
use super::onnx_directory::{ModelSizes, OnnxDirectory};
use super::step::{Step, StepOutput, StepSession, Wanted, cache_name, last_slots};

/// Input that says from which slot on logits are computed, in models that were changed to have it.
const LOGITS_FROM: &str = "gptjc/logits_from";
/// Where a model in memory has the files of its weights.
const WEIGHTS_FOLDER: &str = "session.model_external_initializers_file_folder_path";

/// A model that is ready to run.
pub struct OrtSession {
    session: Session,
    sizes: ModelSizes,
    engine: String,
    /// Whether the model takes [`LOGITS_FROM`].
    cuts_logits: bool,
}

impl OrtSession {
    /// Loads a checked model, changed so that it need not compute logits that nobody wants: lm_head is a large part of a
    /// small model, and a prompt needs one row of it.
    pub(super) fn open(
        directory: &OnnxDirectory,
        runtime: &OnnxRuntime,
        threads: Option<usize>,
        engine: String,
    ) -> Result<Self, EngineError> {
        let failed = |error: String| EngineError::Failed {
            engine: engine.clone(),
            action: "load the model",
            reason: error,
        };
        let edited = cut_logits(directory).map_err(failed)?;
        let session = match &edited {
            Some(model) => open_edited(directory, runtime, threads, model),
            None => session_builder(directory, runtime, threads).and_then(|mut builder| {
                builder.commit_from_file(&directory.model).map_err(|error| error.to_string())
            }),
        };
        let cuts_logits = edited.is_some();
        Ok(OrtSession {
            session: session.map_err(failed)?,
            sizes: directory.sizes.clone(),
            engine,
            cuts_logits,
        })
    }

    fn cache_inputs<'v>(&self, past: &'v [DynValue]) -> Vec<(Cow<'static, str>, SessionInputValue<'v>)> {
        let name = |index| Cow::Owned(cache_name("past_key_values", index));
        past.iter().enumerate().map(|(index, value)| (name(index), value.into())).collect()
    }

    fn failed(&self, action: &'static str, error: ort::Error) -> EngineError {
        EngineError::Failed { engine: self.engine.clone(), action, reason: error.to_string() }
    }
}

impl StepSession for OrtSession {
    type Value = DynValue;

    fn name(&self) -> &str {
        &self.engine
    }

    fn sizes(&self) -> &ModelSizes {
        &self.sizes
    }

    fn empty_cache(&self, rows: usize) -> Result<Vec<DynValue>, EngineError> {
        let shape = [rows, self.sizes.n_head, 0, self.sizes.n_embd / self.sizes.n_head];
        let empty = || Tensor::<f32>::new(self.session.allocator(), shape).map(Tensor::into_dyn);
        (0..2 * self.sizes.n_layer)
            .map(|_| empty().map_err(|error| self.failed("make a cache", error)))
            .collect()
    }

    fn run(&mut self, step: &Step<'_>, past: &[DynValue]) -> Result<StepOutput<DynValue>, EngineError> {
        let mut inputs = self.cache_inputs(past);
        let ids =
            [("input_ids", step.tokens), ("position_ids", step.positions), ("attention_mask", step.mask)];
        for (name, values) in ids {
            let shape = [step.rows, values.len() / step.rows.max(1)];
            let tensor = TensorRef::from_array_view((shape, values))
                .map_err(|error| self.failed("read its input", error))?;
            inputs.push((Cow::Borrowed(name), tensor.into()));
        }
        let first = match step.wanted {
            Wanted::All => [0_i64],
            Wanted::Last => [-1],
        };
        if self.cuts_logits {
            let tensor = TensorRef::from_array_view(([1], &first[..]))
                .map_err(|error| self.failed("read its input", error))?;
            inputs.push((Cow::Borrowed(LOGITS_FROM), tensor.into()));
        }
        let engine = self.engine.clone();
        let failed =
            |reason: String| EngineError::Failed { engine: engine.clone(), action: "run the model", reason };
        let mut outputs = self.session.run(inputs).map_err(|error| failed(error.to_string()))?;
        let mut take = |name: String| {
            outputs.remove(&name).ok_or_else(|| failed(format!("there is no output `{name}`")))
        };
        let logits = take("logits".into())?;
        let present = (0..2 * self.sizes.n_layer).map(|index| take(cache_name("present", index)));
        Ok(StepOutput { logits, present: present.collect::<Result<_, _>>()? })
    }

    fn logits<'o>(
        &self,
        output: &'o StepOutput<DynValue>,
        step: &Step<'_>,
    ) -> Result<Cow<'o, [f32]>, EngineError> {
        let (shape, values) =
            output.logits.try_extract_tensor::<f32>().map_err(|error| self.failed("give logits", error))?;
        let is_cut = self.cuts_logits && step.wanted == Wanted::Last;
        let slots = if is_cut { step.rows } else { step.tokens.len() };
        let (vocabulary, expected) = (self.sizes.vocab_size, slots * self.sizes.vocab_size);
        if values.len() != expected {
            return Err(EngineError::Failed {
                engine: self.engine.clone(),
                action: "give logits",
                reason: format!("they have shape {shape:?}, expected {expected} values"),
            });
        }
        if is_cut || step.wanted == Wanted::All {
            return Ok(Cow::Borrowed(values));
        }
        Ok(Cow::Owned(last_slots(values, step.rows, vocabulary)))
    }
}

/// The model of a directory with logits that can be cut; `None` if it has no lm_head as ours and Optimum's have it.
fn cut_logits(directory: &OnnxDirectory) -> Result<Option<EditedModel>, String> {
    let bytes = fs::read(&directory.model).map_err(|error| error.to_string())?;
    let mut model = EditedModel::decode(&bytes).map_err(|error| error.to_string())?;
    Ok(model.logits_from(LOGITS_FROM).then_some(model))
}

/// Loads a changed model, with the weights that lie beside its file.
pub(super) fn open_edited(
    directory: &OnnxDirectory,
    runtime: &OnnxRuntime,
    threads: Option<usize>,
    model: &EditedModel,
) -> Result<Session, String> {
    let folder = directory.model.parent().unwrap_or(Path::new("."));
    let folder = folder.canonicalize().map_err(|error| error.to_string())?;
    let builder = session_builder(directory, runtime, threads)?;
    let builder = builder.with_config_entry(WEIGHTS_FOLDER, folder.to_string_lossy());
    let mut builder = builder.map_err(|error| error.to_string())?;
    builder.commit_from_memory(&model.encode()).map_err(|error| error.to_string())
}

fn session_builder(
    directory: &OnnxDirectory,
    runtime: &OnnxRuntime,
    threads: Option<usize>,
) -> Result<SessionBuilder, String> {
    let text = |error: ort::Error<SessionBuilder>| error.to_string();
    let mut builder = Session::builder(&runtime.environment).map_err(|error| error.to_string())?;
    builder = builder.with_optimization_level(GraphOptimizationLevel::All).map_err(text)?;
    if let Some(threads) = threads {
        builder = builder.with_intra_threads(threads).map_err(text)?;
    }
    if directory.widens_weights {
        // Folding would widen every weight to f32 when the model is loaded, and double what it takes.
        builder = builder.with_disabled_optimizers("ConstantFolding").map_err(text)?;
    }
    Ok(builder)
}
