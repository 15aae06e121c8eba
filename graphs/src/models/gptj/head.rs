//! From the last block to the loss: final layer norm, lm_head and cross entropy, on labelled rows only.

use super::builder::{Batch, Builder, ModelError};
use crate::entities::ValueId;
use crate::ops::cross_entropy::CrossEntropy;
use crate::ops::elementwise::BiasAdd;
use crate::ops::matmul::Matmul;

impl Builder<'_> {
    /// `x[rows, D] -> [rows]`: the negative log-likelihood of each label.
    pub(super) fn head(&mut self, x: ValueId, batch: &Batch) -> Result<ValueId, ModelError> {
        let logits = self.logits(x)?;
        self.graph.set_module("loss");
        let node = self.graph.push(CrossEntropy, &[logits, batch.labels])?;
        Ok(self.graph.node(node).results[0])
    }

    /// `x[rows, D] -> [rows, V]`.
    pub(super) fn logits(&mut self, x: ValueId) -> Result<ValueId, ModelError> {
        let h = self.layer_norm("transformer.ln_f", x)?;
        self.graph.set_module("lm_head");
        let vocab = self.options.model.vocab_size as usize;
        let weight = self.weight("lm_head.weight", &[vocab, self.width()])?;
        let bias = self.weight("lm_head.bias", &[vocab])?;
        let logits = self.graph.push1(Matmul::nt(), &[h, weight])?;
        Ok(self.graph.push1(BiasAdd, &[logits, bias])?)
    }
}
