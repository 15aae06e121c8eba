//! The MLP of a block: `fc_out(gelu_tanh(fc_in(h)))`, both with bias.

use super::builder::{Builder, ModelError};
use super::names::Projection;
use crate::entities::ValueId;
use crate::ops::elementwise::BiasAdd;
use crate::ops::gelu::GeluTanh;

impl Builder<'_> {
    /// `h[T, D] -> [T, D]`.
    pub(super) fn mlp(
        &mut self,
        layer: usize,
        h: ValueId,
        window_table: ValueId,
    ) -> Result<ValueId, ModelError> {
        let up = self.biased_projection(layer, Projection::FcIn, h, window_table)?;
        self.graph.set_module(&format!("transformer.h.{layer}.mlp.act"));
        let activated = self.graph.push1(GeluTanh, &[up])?;
        self.biased_projection(layer, Projection::FcOut, activated, window_table)
    }

    fn biased_projection(
        &mut self,
        layer: usize,
        projection: Projection,
        x: ValueId,
        window_table: ValueId,
    ) -> Result<ValueId, ModelError> {
        let y = self.projection(layer, projection, x, window_table)?;
        let (outputs, _) = projection.shape(&self.options.model);
        let bias = self.weight(&format!("{}.bias", projection.module(layer)), &[outputs])?;
        Ok(self.graph.push1(BiasAdd, &[y, bias])?)
    }
}
