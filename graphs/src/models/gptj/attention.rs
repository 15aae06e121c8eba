//! Causal self-attention inside segments, with rotary positions.

use super::builder::{Batch, Builder, ModelError};
use super::decode::Decode;
use super::names::Projection;
use crate::entities::ValueId;
use crate::graph::Role;
use crate::ops::cache::{CacheStore, CachedMix, CachedScores, CachedSoftmax};
use crate::ops::elementwise::Scale;
use crate::ops::masked_softmax::MaskedSoftmax;
use crate::ops::rotary::Rotary;
use crate::ops::segment_matmul::{SegmentMix, SegmentScores};
use crate::shape::TensorType;

impl Builder<'_> {
    /// `h[T, D] -> [T, D]`: attention with its output projection.
    pub(super) fn attention(
        &mut self,
        layer: usize,
        h: ValueId,
        batch: &Batch,
        rotary: (ValueId, ValueId),
    ) -> Result<ValueId, ModelError> {
        let heads = self.heads();
        let [q, k, v] = self.rotated(layer, h, batch.position, batch.window_table, rotary)?;
        let (segment, table) = (batch.segment, batch.segment_table);
        let scores = SegmentScores { heads, window: self.window_length() };
        let s = self.graph.push1(scores, &[q, k, segment, table])?;
        let s = self.graph.push1(self.score_scale(), &[s])?;
        let p = self.graph.push1(MaskedSoftmax, &[s, segment, table])?;
        let mixed = self.graph.push1(SegmentMix, &[p, v, segment, table])?;
        self.projection(layer, Projection::Out, mixed, batch.window_table)
    }

    /// The same over a key/value cache that the new tokens are added to first.
    pub(super) fn cached_attention(
        &mut self,
        layer: usize,
        h: ValueId,
        decode: &Decode,
        rotary: (ValueId, ValueId),
    ) -> Result<ValueId, ModelError> {
        let heads = self.heads();
        let [q, k, v] = self.rotated(layer, h, decode.position, decode.window_table, rotary)?;
        let keys = self.cached(&format!("cache.key.{layer}"), k, decode.cache_slot)?;
        let values = self.cached(&format!("cache.value.{layer}"), v, decode.cache_slot)?;
        let (slot, position) = (decode.cache_slot, decode.position);
        let scores = CachedScores { heads, window: self.window_length() };
        let s = self.graph.push1(scores, &[q, keys, slot, position])?;
        let s = self.graph.push1(self.score_scale(), &[s])?;
        let p = self.graph.push1(CachedSoftmax, &[s, position])?;
        let mixed = self.graph.push1(CachedMix, &[p, values, slot, position])?;
        self.projection(layer, Projection::Out, mixed, decode.window_table)
    }

    /// Queries, keys and values of `h`, queries and keys rotated.
    fn rotated(
        &mut self,
        layer: usize,
        h: ValueId,
        position: ValueId,
        window_table: ValueId,
        (sin, cos): (ValueId, ValueId),
    ) -> Result<[ValueId; 3], ModelError> {
        let q = self.projection(layer, Projection::Q, h, window_table)?;
        let k = self.projection(layer, Projection::K, h, window_table)?;
        let v = self.projection(layer, Projection::V, h, window_table)?;
        self.graph.set_module(&format!("transformer.h.{layer}.attn"));
        let rotary = Rotary { heads: self.heads(), inverse: false };
        let q = self.graph.push1(rotary.clone(), &[q, position, sin, cos])?;
        let k = self.graph.push1(rotary, &[k, position, sin, cos])?;
        Ok([q, k, v])
    }

    /// Scores are divided by the root of the head dimension.
    fn score_scale(&self) -> Scale {
        Scale { factor: 1.0 / (self.options.model.head_dim() as f64).sqrt() }
    }

    /// The cache called `name` with the rows of `x` stored.
    fn cached(&mut self, name: &str, x: ValueId, cache_slot: ValueId) -> Result<ValueId, ModelError> {
        let rows = self.options.decode_sequences as usize * self.window_length();
        let ty = TensorType::f32([rows.into(), self.width().into()]);
        let cache = self.graph.input(name, Role::State, ty)?;
        let updated = self.graph.push1(CacheStore, &[cache, x, cache_slot])?;
        self.graph.output(name, updated);
        Ok(updated)
    }
}
