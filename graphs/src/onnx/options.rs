//! How a model is exported, and how an exported model says so of itself.
//!
//! Does not: know shapes; see [`super::gptj`].

use std::collections::{BTreeMap, BTreeSet};

use super::recipe::ElementType;
use super::storage::{Blockwise, CodeBits, Storage, StorageError};

/// An adapter that is merged into the exported weights.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraMerge {
    /// `lora_alpha / r`, or `lora_alpha / sqrt(r)` for rsLoRA.
    pub scaling: f64,
    /// The adapted modules, such as `transformer.h.0.attn.q_proj`.
    pub modules: BTreeSet<String>,
}

/// How weights are stored. Vectors (biases, layer norms) are f32 in any case.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportOptions {
    /// Storage of the blocks' matrices. Half types are cast to f32 in the graph, because ONNX Runtime computes in f32 on CPUs;
    /// blocks are multiplied with by MatMulNBits.
    pub matrices: Storage,
    /// Storage of lm_head.
    pub lm_head: Storage,
    /// Storage of the table of token vectors. What is looked up is cast to f32, not the table.
    pub embedding: ElementType,
    /// How exactly MatMulNBits keeps what it multiplies with: 0 or 1 as f32, 4 as int8 in blocks of the same size.
    pub accuracy_level: i64,
    /// Whether the model has the values of these storages as f32 weights that plain operators read: what there is to
    /// compare a model with, to see its graph and its arithmetic alone.
    pub widened: bool,
    /// The adapter to merge, if any.
    pub lora: Option<LoraMerge>,
}

/// Level of accuracy that quantised models have if nobody asks for another: with int8 on both sides, ONNX Runtime's CPU
/// kernels are fastest, and for 8 bits the only ones that do not widen the whole matrix at each product.
pub const ACCURACY_INT8: i64 = 4;

const MATRICES: &str = "gptjc.matrices";
const LM_HEAD: &str = "gptjc.lm_head";
const EMBEDDING: &str = "gptjc.embedding";
const LEVEL: &str = "gptjc.accuracy_level";

impl ExportOptions {
    /// All matrices in one type.
    pub fn plain(element: ElementType, lora: Option<LoraMerge>) -> Self {
        let storage = Storage::Plain(element);
        Self {
            matrices: storage,
            lm_head: storage,
            embedding: element,
            accuracy_level: 0,
            widened: false,
            lora,
        }
    }

    /// The blocks' matrices quantised; lm_head in 8 bits, because its rounding reaches the logits as it is; token vectors
    /// in f16, which loses nothing of weights that were published so and is small beside either quantisation.
    pub fn quantised(blockwise: Blockwise, lora: Option<LoraMerge>) -> Self {
        Self {
            matrices: Storage::Blocks(blockwise),
            lm_head: Storage::Blocks(Blockwise { bits: CodeBits::Eight, ..blockwise }),
            embedding: ElementType::F16,
            accuracy_level: ACCURACY_INT8,
            widened: false,
            lora,
        }
    }

    /// The options as notes in a model.
    pub(super) fn metadata(&self) -> [(&'static str, String); 4] {
        [
            (MATRICES, self.matrices.to_string()),
            (LM_HEAD, self.lm_head.to_string()),
            (EMBEDDING, self.embedding.name().into()),
            (LEVEL, self.accuracy_level.to_string()),
        ]
    }

    /// The options that a model was exported with, from its notes; `None` if it has none, because something else made it.
    /// Which adapter was merged is not noted.
    ///
    /// # Errors
    /// [`StorageError`] if a note makes no sense.
    pub fn of_metadata(metadata: &BTreeMap<String, String>) -> Result<Option<Self>, StorageError> {
        let [Some(matrices), Some(lm_head), Some(embedding), Some(level)] =
            [MATRICES, LM_HEAD, EMBEDDING, LEVEL].map(|key| metadata.get(key))
        else {
            return Ok(None);
        };
        let embedding = match embedding.parse()? {
            Storage::Plain(element) => element,
            Storage::Blocks(_) => return Err(StorageError::new(embedding)),
        };
        Ok(Some(Self {
            matrices: matrices.parse()?,
            lm_head: lm_head.parse()?,
            embedding,
            accuracy_level: level.parse().map_err(|_| StorageError::new(level))?,
            widened: false,
            lora: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_back_from_a_model() {
        let blockwise = Blockwise { bits: CodeBits::Four, size: 64 };
        let cases =
            [ExportOptions::plain(ElementType::Bf16, None), ExportOptions::quantised(blockwise, None)];
        for options in cases {
            let notes = options.metadata().map(|(key, value)| (key.to_owned(), value));
            let mut notes = BTreeMap::from(notes);
            assert_eq!(ExportOptions::of_metadata(&notes), Ok(Some(options)));
            notes.insert(EMBEDDING.into(), "int4/32".into());
            assert!(ExportOptions::of_metadata(&notes).is_err());
            notes.remove(LM_HEAD);
            assert_eq!(ExportOptions::of_metadata(&notes), Ok(None));
        }
    }
}
