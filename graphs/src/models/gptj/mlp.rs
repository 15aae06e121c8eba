//! The MLP of a block: `fc_out(gelu_tanh(fc_in(h)))`, both with bias.

use super::builder::{Builder, ModelError, Tokens};
use super::names::Projection;
use crate::entities::ValueId;
use crate::ops::elementwise::BiasAdd;
use crate::ops::gelu::GeluTanh;

impl Builder<'_> {
    /// `h[T, D] -> [T, D]`.
    pub(super) fn mlp(&mut self, layer: usize, h: ValueId, tokens: Tokens) -> Result<ValueId, ModelError> {
        let up = self.biased_projection(layer, Projection::FcIn, h, tokens)?;
        self.graph.set_module(&format!("transformer.h.{layer}.mlp.act"));
        let activated = self.graph.push1(GeluTanh, &[up])?;
        self.biased_projection(layer, Projection::FcOut, activated, tokens)
    }

    fn biased_projection(
        &mut self,
        layer: usize,
        projection: Projection,
        x: ValueId,
        tokens: Tokens,
    ) -> Result<ValueId, ModelError> {
        let y = self.projection(layer, projection, x, tokens)?;
        let (outputs, _) = projection.shape(&self.options.model);
        let bias = self.weight(&format!("{}.bias", projection.module(layer)), &[outputs])?;
        Ok(self.graph.push1(BiasAdd, &[y, bias])?)
    }
}
