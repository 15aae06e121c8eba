//! One model in tract: the steps of [`super::tract_engine`].
//!
//! The model is prepared once for batches of any size; the cache is passed on from step to step without a copy.
//!
//! Does not: pad, choose tokens, or keep a cache.

use std::borrow::Cow;
use std::sync::Arc;

use tract_linalg::multithread::{Executor, multithread_tract_scope};
use tract_onnx::prelude::{
    Framework, InferenceModelExt, IntoRunnable, IntoTValue, TValue, TVec, Tensor, TractResult,
    TypedRunnableModel,
};

use super::engine::EngineError;
use super::onnx_directory::{ModelSizes, OnnxDirectory};
use super::step::{Step, StepOutput, StepSession, Wanted, cache_name, last_slots};
use super::tract_trilu::trilu;

/// A model that is ready to run.
pub struct TractSession {
    model: Arc<TypedRunnableModel>,
    /// Names of the inputs, in the order in which the model takes them.
    inputs: Vec<String>,
    /// Names of the outputs, in the order in which the model gives them.
    outputs: Vec<String>,
    sizes: ModelSizes,
    executor: Executor,
    engine: String,
}

impl TractSession {
    /// Loads a checked model.
    pub(super) fn open(directory: &OnnxDirectory, threads: usize) -> Result<Self, EngineError> {
        let engine = "tract".to_owned();
        let executor = if threads > 1 { Executor::multithread(threads) } else { Executor::SingleThread };
        let prepared = prepare(directory).map_err(|error| EngineError::Failed {
            engine: engine.clone(),
            action: "load the model",
            reason: format!("{error:#}"),
        })?;
        let Prepared { model, inputs, outputs } = prepared;
        Ok(TractSession { model, inputs, outputs, sizes: directory.sizes.clone(), executor, engine })
    }

    fn failed(&self, action: &'static str, reason: String) -> EngineError {
        EngineError::Failed { engine: self.engine.clone(), action, reason }
    }

    /// The tensor that the input `name` gets.
    fn input(&self, name: &str, step: &Step<'_>, past: &[TValue]) -> Result<TValue, EngineError> {
        let values = match name {
            "input_ids" => step.tokens,
            "position_ids" => step.positions,
            "attention_mask" => step.mask,
            _ => {
                let index = (0..past.len()).find(|&index| cache_name("past_key_values", index) == name);
                let unknown = || self.failed("run the model", format!("it has an unknown input `{name}`"));
                return index.map(|index| past[index].clone()).ok_or_else(unknown);
            }
        };
        let shape = [step.rows, values.len() / step.rows.max(1)];
        let tensor = Tensor::from_shape(&shape, values);
        Ok(tensor.map_err(|error| self.failed("read its input", format!("{error:#}")))?.into_tvalue())
    }

    /// The output `name` of a run.
    fn output(&self, name: &str, outputs: &[TValue]) -> Result<TValue, EngineError> {
        let found = self.outputs.iter().zip(outputs).find(|(found, _)| *found == name);
        let missing = || self.failed("run the model", format!("there is no output `{name}`"));
        found.map(|(_, value)| value.clone()).ok_or_else(missing)
    }
}

impl StepSession for TractSession {
    type Value = TValue;

    fn name(&self) -> &str {
        &self.engine
    }

    fn sizes(&self) -> &ModelSizes {
        &self.sizes
    }

    fn empty_cache(&self, rows: usize) -> Result<Vec<TValue>, EngineError> {
        let shape = [rows, self.sizes.n_head, 0, self.sizes.n_embd / self.sizes.n_head];
        let empty = || Tensor::zero::<f32>(&shape).map(Tensor::into_tvalue);
        (0..2 * self.sizes.n_layer)
            .map(|_| empty().map_err(|error| self.failed("make a cache", format!("{error:#}"))))
            .collect()
    }

    fn run(&mut self, step: &Step<'_>, past: &[TValue]) -> Result<StepOutput<TValue>, EngineError> {
        let inputs: TVec<TValue> =
            self.inputs.iter().map(|name| self.input(name, step, past)).collect::<Result<_, _>>()?;
        let outputs = multithread_tract_scope(self.executor.clone(), || self.model.run(inputs));
        let outputs = outputs.map_err(|error| self.failed("run the model", format!("{error:#}")))?;
        let present = (0..past.len()).map(|index| self.output(&cache_name("present", index), &outputs));
        Ok(StepOutput {
            logits: self.output("logits", &outputs)?,
            present: present.collect::<Result<_, _>>()?,
        })
    }

    fn logits<'o>(
        &self,
        output: &'o StepOutput<TValue>,
        step: &Step<'_>,
    ) -> Result<Cow<'o, [f32]>, EngineError> {
        let values = output.logits.try_as_plain_ram().and_then(|view| view.as_slice::<f32>());
        let values = values.map_err(|error| self.failed("give logits", format!("{error:#}")))?;
        let expected = step.tokens.len() * self.sizes.vocab_size;
        if values.len() != expected {
            let shape = output.logits.shape();
            return Err(
                self.failed("give logits", format!("they have shape {shape:?}, expected {expected} values"))
            );
        }
        Ok(match step.wanted {
            Wanted::All => Cow::Borrowed(values),
            Wanted::Last => Cow::Owned(last_slots(values, step.rows, self.sizes.vocab_size)),
        })
    }
}

struct Prepared {
    model: Arc<TypedRunnableModel>,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

fn prepare(directory: &OnnxDirectory) -> TractResult<Prepared> {
    // Shapes are inferred from those of the inputs: what a file says of its inner values may be of one batch only.
    let mut reader = tract_onnx::onnx().with_ignore_value_info(true);
    reader.op_register.insert("Trilu", trilu);
    let model = reader.model_for_path(&directory.model)?;
    let inputs = model.input_outlets()?.iter().map(|outlet| model.node(outlet.node).name.clone()).collect();
    let name = |outlet| model.outlet_label(outlet).unwrap_or_default().to_owned();
    let outputs = model.output_outlets()?.iter().map(|&outlet| name(outlet)).collect();
    Ok(Prepared { inputs, outputs, model: model.into_optimized()?.into_runnable()? })
}
