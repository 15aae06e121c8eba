//! One step of a model with a key/value cache, whatever library runs it: from token ids and cache to logits and longer
//! cache.
//!
//! Does not: pad, choose tokens, or keep a cache; see [`super::cached_engine`].

use std::borrow::Cow;

use super::engine::EngineError;
use super::onnx_directory::ModelSizes;

/// The slots whose logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of the step's slots.
    All,
    /// The last slot of each row.
    Last,
}

/// The inputs of a step but for the cache; all row-major.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Rows of the batch.
    pub rows: usize,
    /// `[rows, width]`
    pub tokens: &'a [i64],
    /// `[rows, width]`
    pub positions: &'a [i64],
    /// `[rows, past + width]`
    pub mask: &'a [i64],
    /// Of the step's slots.
    pub wanted: Wanted,
}

/// What a step gives, in tensors of the library.
#[derive(Debug)]
pub struct StepOutput<V> {
    /// Of the wanted slots at least.
    pub logits: V,
    /// Keys and values of every block, past and new.
    pub present: Vec<V>,
}

/// A loaded model that runs steps.
pub trait StepSession {
    /// A tensor of the library. A cache has two for each block, key and value, `[rows, heads, slots, head_dim]`.
    type Value;

    /// What runs, with its version: for reports.
    fn name(&self) -> &str;

    /// Sizes of the model.
    fn sizes(&self) -> &ModelSizes;

    /// The cache before the first token.
    ///
    /// # Errors
    /// [`EngineError`] if the library has no memory for it.
    fn empty_cache(&self, rows: usize) -> Result<Vec<Self::Value>, EngineError>;

    /// Runs the model over new tokens after a cache.
    ///
    /// # Errors
    /// [`EngineError`] if the library fails.
    fn run(&mut self, step: &Step<'_>, past: &[Self::Value]) -> Result<StepOutput<Self::Value>, EngineError>;

    /// The logits of the wanted slots of a step, `[rows, slots, vocabulary]`.
    ///
    /// # Errors
    /// [`EngineError`] if they are not of that shape.
    fn logits<'o>(
        &self,
        output: &'o StepOutput<Self::Value>,
        step: &Step<'_>,
    ) -> Result<Cow<'o, [f32]>, EngineError>;
}

/// The last slot of each of `rows` rows of `values`, which have `vocabulary` values a slot.
pub(super) fn last_slots(values: &[f32], rows: usize, vocabulary: usize) -> Vec<f32> {
    let row = values.len() / rows.max(1);
    values.chunks_exact(row.max(1)).flat_map(|row| &row[row.len() - vocabulary..]).copied().collect()
}

/// The name of a cache's tensor among a model's inputs (`past_key_values`) or outputs (`present`).
pub(super) fn cache_name(of: &str, index: usize) -> String {
    let part = if index.is_multiple_of(2) { "key" } else { "value" };
    format!("{of}.{}.{part}", index / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_slot_of_each_row_is_kept() {
        let values: Vec<f32> = (0..12).map(|value| value as f32).collect();
        assert_eq!(last_slots(&values, 2, 2), [4.0, 5.0, 10.0, 11.0]);
        assert_eq!(last_slots(&values, 6, 2), values);
    }

    #[test]
    fn names_are_those_of_optimum() {
        assert_eq!(cache_name("past_key_values", 0), "past_key_values.0.key");
        assert_eq!(cache_name("present", 5), "present.2.value");
    }
}
