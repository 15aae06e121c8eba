//! Causal self-attention inside segments, with rotary positions.

use super::builder::{Batch, Builder, ModelError, Tokens};
use super::decode::Decode;
use super::names::Projection;
use crate::entities::ValueId;
use crate::graph::Role;
use crate::ops::cache::{CacheStore, CachedMix, CachedScores, CachedSoftmax};
use crate::ops::elementwise::Scale;
use crate::ops::masked_softmax::MaskedSoftmax;
use crate::ops::rotary::Rotary;
use crate::ops::rows::GatherRows;
use crate::ops::segment_matmul::{SegmentMix, SegmentScores};
use crate::shape::TensorType;

impl Builder<'_> {
    /// Attention with its output projection: `[R, D]` for the R queries `[R, D]`, which are `h[T, D]` or rows of it, over
    /// the keys and values of `h`.
    pub(super) fn attention(
        &mut self,
        layer: usize,
        h: ValueId,
        (queries, tokens): (ValueId, Tokens),
        batch: &Batch,
        rotary: (ValueId, ValueId),
    ) -> Result<ValueId, ModelError> {
        let q = self.projection(layer, Projection::Q, queries, tokens)?;
        let k = self.projection(layer, Projection::K, h, batch.slots())?;
        let v = self.projection(layer, Projection::V, h, batch.slots())?;
        self.graph.set_module(&format!("transformer.h.{layer}.attn"));
        let query_position = match tokens.labelled {
            Some(labelled) => self.graph.push1(GatherRows, &[batch.position, labelled])?,
            None => batch.position,
        };
        let q = self.rotated(q, query_position, rotary)?;
        let k = self.rotated(k, batch.position, rotary)?;
        let mut tables = vec![batch.segment, batch.segment_table];
        tables.extend(tokens.labelled);
        let with = |first: &[ValueId]| [first, &tables].concat();
        let scores = SegmentScores { heads: self.heads(), window: self.window_length() };
        let s = self.graph.push1(scores, &with(&[q, k]))?;
        let s = self.graph.push1(self.score_scale(), &[s])?;
        let p = self.graph.push1(MaskedSoftmax, &with(&[s]))?;
        let mixed = self.graph.push1(SegmentMix, &with(&[p, v]))?;
        self.projection(layer, Projection::Out, mixed, tokens)
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
        let [q, k, v] = [Projection::Q, Projection::K, Projection::V]
            .map(|projection| self.projection(layer, projection, h, decode.slots()));
        self.graph.set_module(&format!("transformer.h.{layer}.attn"));
        let (q, k, v) =
            (self.rotated(q?, decode.position, rotary)?, self.rotated(k?, decode.position, rotary)?, v?);
        let keys = self.cached(&format!("cache.key.{layer}"), k, decode.cache_slot)?;
        let values = self.cached(&format!("cache.value.{layer}"), v, decode.cache_slot)?;
        let (slot, position) = (decode.cache_slot, decode.position);
        let scores = CachedScores { heads, window: self.window_length() };
        let s = self.graph.push1(scores, &[q, keys, slot, position])?;
        let s = self.graph.push1(self.score_scale(), &[s])?;
        let p = self.graph.push1(CachedSoftmax, &[s, position])?;
        let mixed = self.graph.push1(CachedMix, &[p, values, slot, position])?;
        self.projection(layer, Projection::Out, mixed, decode.slots())
    }

    /// Queries or keys, rotated by their positions.
    fn rotated(
        &mut self,
        x: ValueId,
        position: ValueId,
        (sin, cos): (ValueId, ValueId),
    ) -> Result<ValueId, ModelError> {
        let rotary = Rotary { heads: self.heads(), inverse: false };
        Ok(self.graph.push1(rotary, &[x, position, sin, cos])?)
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
