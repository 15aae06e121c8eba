//! From the last block to the loss: final layer norm, lm_head and cross entropy, on labelled rows only.
//!
//! Rows without a label cannot reach the loss, and all of this works row by row, so they are left out first.

use super::builder::{Batch, Builder, ModelError};
use crate::entities::ValueId;
use crate::ops::cross_entropy::CrossEntropy;
use crate::ops::elementwise::BiasAdd;
use crate::ops::matmul::Matmul;
use crate::ops::rows::GatherRows;

impl Builder<'_> {
    /// `x[T, D] -> [rows]`: the negative log-likelihood of each label.
    pub(super) fn head(&mut self, x: ValueId, batch: &Batch) -> Result<ValueId, ModelError> {
        let logits = self.logits(x, batch.labelled)?;
        self.graph.set_module("loss");
        let node = self.graph.push(CrossEntropy, &[logits, batch.labels])?;
        Ok(self.graph.node(node).results[0])
    }

    /// `x[T, D] -> [rows, V]`: the logits of the slots in `labelled`.
    pub(super) fn logits(&mut self, x: ValueId, labelled: ValueId) -> Result<ValueId, ModelError> {
        self.graph.set_module("transformer");
        let rows = self.graph.push1(GatherRows, &[x, labelled])?;
        let h = self.layer_norm("transformer.ln_f", rows)?;
        self.graph.set_module("lm_head");
        let vocab = self.options.model.vocab_size as usize;
        let weight = self.weight("lm_head.weight", &[vocab, self.width()])?;
        let bias = self.weight("lm_head.bias", &[vocab])?;
        let logits = self.graph.push1(Matmul::nt(), &[h, weight])?;
        Ok(self.graph.push1(BiasAdd, &[logits, bias])?)
    }
}
