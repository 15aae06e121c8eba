//! One model in ONNX Runtime: a step over a batch, from token ids and cache to logits and longer cache.
//!
//! The cache stays in ONNX Runtime's own tensors from step to step; nothing of it is copied here.
//!
//! Does not: pad, choose tokens, or keep a cache.

use std::borrow::Cow;

use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Tensor, TensorRef};

use super::engine::EngineError;
use super::library::OnnxRuntime;
use super::onnx_directory::{ModelSizes, OnnxDirectory};

/// A model that is ready to run.
pub(super) struct OrtSession {
    session: Session,
    pub(super) sizes: ModelSizes,
    engine: String,
}

/// The inputs of a step but for the cache; all row-major.
pub(super) struct Step<'a> {
    pub(super) rows: usize,
    /// `[rows, width]`
    pub(super) tokens: &'a [i64],
    /// `[rows, width]`
    pub(super) positions: &'a [i64],
    /// `[rows, past + width]`
    pub(super) mask: &'a [i64],
}

/// What a step gives.
pub(super) struct StepOutput {
    logits: DynValue,
    /// Keys and values of every block, past and new.
    pub(super) present: Vec<DynValue>,
}

impl OrtSession {
    /// Loads a checked model.
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
        let mut builder = session_builder(directory, runtime, threads).map_err(failed)?;
        let session =
            builder.commit_from_file(&directory.model).map_err(|error| failed(error.to_string()))?;
        Ok(OrtSession { session, sizes: directory.sizes.clone(), engine })
    }

    /// The cache before the first token: `[rows, heads, 0, head_dim]` for every block.
    pub(super) fn empty_cache(&self, rows: usize) -> Result<Vec<DynValue>, EngineError> {
        let shape = [rows, self.sizes.n_head, 0, self.sizes.n_embd / self.sizes.n_head];
        let empty = || Tensor::<f32>::new(self.session.allocator(), shape).map(Tensor::into_dyn);
        (0..2 * self.sizes.n_layer)
            .map(|_| empty().map_err(|error| self.failed("make a cache", error)))
            .collect()
    }

    /// Runs the model over new tokens after a cache.
    pub(super) fn run(&mut self, step: &Step<'_>, past: &[DynValue]) -> Result<StepOutput, EngineError> {
        let mut inputs = self.cache_inputs(past);
        let ids =
            [("input_ids", step.tokens), ("position_ids", step.positions), ("attention_mask", step.mask)];
        for (name, values) in ids {
            let shape = [step.rows, values.len() / step.rows.max(1)];
            let tensor = TensorRef::from_array_view((shape, values))
                .map_err(|error| self.failed("read its input", error))?;
            inputs.push((Cow::Borrowed(name), tensor.into()));
        }
        let engine = self.engine.clone();
        let failed =
            |reason: String| EngineError::Failed { engine: engine.clone(), action: "run the model", reason };
        let mut outputs = self.session.run(inputs).map_err(|error| failed(error.to_string()))?;
        let mut take = |name: String| {
            outputs.remove(&name).ok_or_else(|| failed(format!("there is no output `{name}`")))
        };
        let logits = take("logits".into())?;
        let mut present = Vec::with_capacity(2 * self.sizes.n_layer);
        for layer in 0..self.sizes.n_layer {
            for part in ["key", "value"] {
                present.push(take(format!("present.{layer}.{part}"))?);
            }
        }
        Ok(StepOutput { logits, present })
    }

    fn cache_inputs<'v>(&self, past: &'v [DynValue]) -> Vec<(Cow<'static, str>, SessionInputValue<'v>)> {
        let name = |index: usize| {
            let part = if index.is_multiple_of(2) { "key" } else { "value" };
            Cow::Owned(format!("past_key_values.{}.{part}", index / 2))
        };
        past.iter().enumerate().map(|(index, value)| (name(index), value.into())).collect()
    }

    /// The logits of a step, `[rows, width, vocabulary]`.
    pub(super) fn logits<'o>(
        &self,
        output: &'o StepOutput,
        step: &Step<'_>,
    ) -> Result<&'o [f32], EngineError> {
        let (shape, values) =
            output.logits.try_extract_tensor::<f32>().map_err(|error| self.failed("give logits", error))?;
        let expected = step.tokens.len() * self.sizes.vocab_size;
        if values.len() != expected {
            return Err(EngineError::Failed {
                engine: self.engine.clone(),
                action: "give logits",
                reason: format!("they have shape {shape:?}, expected {expected} values"),
            });
        }
        Ok(values)
    }

    fn failed(&self, action: &'static str, error: ort::Error) -> EngineError {
        EngineError::Failed { engine: self.engine.clone(), action, reason: error.to_string() }
    }
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
    if directory.has_half_weights {
        // Folding would widen every weight to f32 when the model is loaded, and double what it takes.
        builder = builder.with_disabled_optimizers("ConstantFolding").map_err(text)?;
    }
    Ok(builder)
}
