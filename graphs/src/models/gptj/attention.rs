//! Causal self-attention inside segments, with rotary positions.

use super::builder::{Batch, Builder, ModelError};
use super::names::Projection;
use crate::entities::ValueId;
use crate::ops::elementwise::Scale;
use crate::ops::masked_softmax::MaskedSoftmax;
use crate::ops::rotary::Rotary;
use crate::ops::segment_matmul::{SegmentMix, SegmentScores};

impl Builder<'_> {
    /// `h[T, D] -> [T, D]`: attention with its output projection.
    pub(super) fn attention(
        &mut self,
        layer: usize,
        h: ValueId,
        batch: &Batch,
        (sin, cos): (ValueId, ValueId),
    ) -> Result<ValueId, ModelError> {
        let heads = self.heads();
        let q = self.projection(layer, Projection::Q, h, batch.window_table)?;
        let k = self.projection(layer, Projection::K, h, batch.window_table)?;
        let v = self.projection(layer, Projection::V, h, batch.window_table)?;
        self.graph.set_module(&format!("transformer.h.{layer}.attn"));
        let rotary = Rotary { heads, inverse: false };
        let q = self.graph.push1(rotary.clone(), &[q, batch.position, sin, cos])?;
        let k = self.graph.push1(rotary, &[k, batch.position, sin, cos])?;
        let (segment, table) = (batch.segment, batch.segment_table);
        let scores = SegmentScores { heads, window: self.window_length() };
        let s = self.graph.push1(scores, &[q, k, segment, table])?;
        let factor = 1.0 / (self.options.model.head_dim() as f64).sqrt();
        let s = self.graph.push1(Scale { factor }, &[s])?;
        let p = self.graph.push1(MaskedSoftmax, &[s, segment, table])?;
        let mixed = self.graph.push1(SegmentMix, &[p, v, segment, table])?;
        self.projection(layer, Projection::Out, mixed, batch.window_table)
    }
}
