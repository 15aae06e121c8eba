//! Values inside a graph: one run of a changed model over one row, with any of its values as outputs.
//!
//! Does not: keep the session; a probe loads the model, runs it once and is gone.

use std::borrow::Cow;
use std::fs;

use gptjc_graphs::onnx::EditedModel;
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Tensor, TensorElementType};

use super::engine::EngineError;
use super::library::OnnxRuntime;
use super::onnx_directory::OnnxDirectory;
use super::ort_session::open_edited;

/// What a value holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    Floats(Vec<f32>),
    /// 64-bit integers, or truth values.
    Integers(Vec<i64>),
    /// Of a type that is not compared, such as a half type before it is widened.
    Other,
}

/// A model to look into.
pub(super) struct Probe<'a> {
    pub(super) directory: &'a OnnxDirectory,
    pub(super) runtime: &'a OnnxRuntime,
    pub(super) threads: usize,
    /// For messages.
    pub(super) engine: String,
}

impl Probe<'_> {
    /// The model, with exact products.
    pub(super) fn model(&self) -> Result<EditedModel, EngineError> {
        let path = &self.directory.model;
        let bytes = fs::read(path).map_err(|error| self.failed("read the model", &error))?;
        let mut model = EditedModel::decode(&bytes).map_err(|error| self.failed("read the model", &error))?;
        model.exact_products();
        Ok(model)
    }

    /// The values of these names when the model reads `tokens`.
    pub(super) fn run(
        &self,
        mut model: EditedModel,
        tokens: &[u32],
        names: &[String],
    ) -> Result<Vec<Values>, EngineError> {
        model.set_outputs(names);
        let session = open_edited(self.directory, self.runtime, Some(self.threads), &model);
        let mut session =
            session.map_err(|reason| self.failed("load the model with inner values as outputs", &reason))?;
        let inputs = self.inputs(&session, tokens)?;
        let outputs = session.run(inputs).map_err(|error| self.failed("run the model", &error))?;
        names
            .iter()
            .map(|name| match outputs.get(name) {
                Some(value) => self.values(value),
                None => Err(self.failed("give an inner value", &format!("there is no `{name}`"))),
            })
            .collect()
    }

    fn inputs(
        &self,
        session: &Session,
        tokens: &[u32],
    ) -> Result<Vec<(Cow<'static, str>, SessionInputValue<'static>)>, EngineError> {
        let sizes = &self.directory.sizes;
        let failed = |error: ort::Error| self.failed("make its input", &error);
        let ids = |values: Vec<i64>| -> Result<SessionInputValue<'static>, EngineError> {
            Ok(Tensor::from_array(([1, values.len()], values)).map_err(failed)?.into_dyn().into())
        };
        let length = tokens.len();
        let mut inputs = vec![
            (Cow::Borrowed("input_ids"), ids(tokens.iter().map(|&token| i64::from(token)).collect())?),
            (Cow::Borrowed("attention_mask"), ids(vec![1; length])?),
            (Cow::Borrowed("position_ids"), ids((0..length as i64).collect())?),
        ];
        let head_dim = sizes.n_embd / sizes.n_head;
        for layer in 0..sizes.n_layer {
            for part in ["key", "value"] {
                let empty = Tensor::<f32>::new(session.allocator(), [1, sizes.n_head, 0, head_dim]);
                let empty = empty.map_err(failed)?.into_dyn();
                inputs.push((Cow::Owned(format!("past_key_values.{layer}.{part}")), empty.into()));
            }
        }
        Ok(inputs)
    }

    fn values(&self, value: &DynValue) -> Result<Values, EngineError> {
        let failed = |error: ort::Error| self.failed("give an inner value", &error);
        match value.dtype().tensor_type() {
            Some(TensorElementType::Float32) => {
                Ok(Values::Floats(value.try_extract_tensor::<f32>().map_err(failed)?.1.to_vec()))
            }
            Some(TensorElementType::Int64) => {
                Ok(Values::Integers(value.try_extract_tensor::<i64>().map_err(failed)?.1.to_vec()))
            }
            Some(TensorElementType::Bool) => {
                let truths = value.try_extract_tensor::<bool>().map_err(failed)?.1;
                Ok(Values::Integers(truths.iter().map(|&truth| i64::from(truth)).collect()))
            }
            _ => Ok(Values::Other),
        }
    }

    fn failed(&self, action: &'static str, reason: &dyn ToString) -> EngineError {
        EngineError::Failed { engine: self.engine.clone(), action, reason: reason.to_string() }
    }
}
