//! The embedding, and a block: one layer norm, attention and MLP side by side, and the residual sum.

use super::builder::{Batch, Builder, ModelError};
use super::decode::Decode;
use crate::entities::ValueId;
use crate::ops::elementwise::Add;
use crate::ops::embedding::Embedding;
use crate::ops::layer_norm::LayerNorm;
use crate::ops::rows::GatherRows;

impl Builder<'_> {
    /// `tokens[T] -> [T, D]`.
    pub(super) fn embedding(&mut self, tokens: ValueId) -> Result<ValueId, ModelError> {
        self.graph.set_module("transformer.wte");
        let vocab = self.options.model.vocab_size as usize;
        let table = self.weight("transformer.wte.weight", &[vocab, self.width()])?;
        Ok(self.graph.push1(Embedding, &[table, tokens])?)
    }

    /// `x[M, D] -> [M, D]`, normalised over D.
    pub(super) fn layer_norm(&mut self, module: &str, x: ValueId) -> Result<ValueId, ModelError> {
        self.graph.set_module(module);
        let weight = self.weight(&format!("{module}.weight"), &[self.width()])?;
        let bias = self.weight(&format!("{module}.bias"), &[self.width()])?;
        let epsilon = self.options.model.layer_norm_epsilon;
        let node = self.graph.push(LayerNorm::new(epsilon), &[x, weight, bias])?;
        Ok(self.graph.node(node).results[0])
    }

    /// `x[T, D] -> [T, D]`; the last block gives labelled rows only, `[rows, D]`.
    ///
    /// A slot without a label reaches the loss through the keys and values that later slots see, and through nothing
    /// else of the last block.
    pub(super) fn block(
        &mut self,
        layer: usize,
        x: ValueId,
        batch: &Batch,
        rotary: (ValueId, ValueId),
    ) -> Result<ValueId, ModelError> {
        let h = self.layer_norm(&format!("transformer.h.{layer}.ln_1"), x)?;
        let (x, queries, tokens) = if layer + 1 == self.options.model.n_layer as usize {
            self.graph.set_module(&format!("transformer.h.{layer}"));
            let [x, queries] = [x, h].map(|of| self.graph.push1(GatherRows, &[of, batch.labelled]));
            (x?, queries?, batch.rows())
        } else {
            (x, h, batch.slots())
        };
        let attention = self.attention(layer, h, (queries, tokens), batch, rotary)?;
        let mlp = self.mlp(layer, queries, tokens)?;
        self.residual_sum(layer, x, attention, mlp)
    }

    /// The same over a key/value cache.
    pub(super) fn cached_block(
        &mut self,
        layer: usize,
        x: ValueId,
        decode: &Decode,
        rotary: (ValueId, ValueId),
    ) -> Result<ValueId, ModelError> {
        let h = self.layer_norm(&format!("transformer.h.{layer}.ln_1"), x)?;
        let attention = self.cached_attention(layer, h, decode, rotary)?;
        let mlp = self.mlp(layer, h, decode.slots())?;
        self.residual_sum(layer, x, attention, mlp)
    }

    fn residual_sum(
        &mut self,
        layer: usize,
        x: ValueId,
        attention: ValueId,
        mlp: ValueId,
    ) -> Result<ValueId, ModelError> {
        self.graph.set_module(&format!("transformer.h.{layer}"));
        let sum = self.graph.push1(Add, &[attention, mlp])?;
        Ok(self.graph.push1(Add, &[sum, x])?)
    }
}
