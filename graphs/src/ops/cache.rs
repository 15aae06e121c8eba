//! Attention over a key/value cache: new tokens meet the tokens before them.
//!
//! A cache `[C, D]` holds rows of many sequences; a sequence's rows lie one after another. A new slot `t` has its own
//! row `cache_slot[t]` and its `position[t]` in the sequence, so the sequence begins at row
//! `cache_slot[t] - position[t]` and slot `t` meets the rows `j` in `0..=position[t]` from there: its *band*. These ops
//! are for inference: none has a gradient.
//!
//! Numerics: as [`super::segment_matmul`] and [`super::masked_softmax`], so that decoding token by token gives the
//! bits of decoding all at once.

use super::check::{self, TypeError};
use super::{
    AttributeError, Attributes, AutodiffError, EvalError, Operation, Real, Tensor, VjpContext, no_attributes,
};
use crate::shape::{Dim, Extent, Extents, TensorType};

const INFERENCE_ONLY: &str = "it is for inference";

/// A cache is a fixed matrix as wide as `width`.
fn cache_operand(operand: usize, cache: &TensorType, width: Dim) -> Result<(), TypeError> {
    match cache.dims.as_slice() {
        [rows, columns] if rows.extent == Extent::Fixed && *columns == width && cache.dtype.is_float() => {
            Ok(())
        }
        _ => Err(check::mismatch(operand, format!("a cache [C, {width}]"), cache)),
    }
}

/// First row of the cache and number of rows that slot `t` meets.
fn band(cache_slot: &[i32], position: &[i32], rows: usize, t: usize) -> Result<(usize, usize), EvalError> {
    let first = i64::from(cache_slot[t]) - i64::from(position[t]);
    if first < 0 || position[t] < 0 || cache_slot[t] as usize >= rows {
        return Err(EvalError::Index { what: "row of the cache", index: cache_slot[t].into(), bound: rows });
    }
    Ok((first as usize, position[t] as usize + 1))
}

/// `cache_store %cache, %x, %cache_slot`: the cache with row `cache_slot[t]` replaced by row `t` of `x`.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheStore;

impl Operation for CacheStore {
    const NAME: &'static str = "cache_store";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [cache, x, cache_slot] = check::operands(operands)?;
        check::float(1, x, 2)?;
        cache_operand(0, cache, x.dims[1])?;
        check::same(1, x, &TensorType::new(cache.dtype, [x.dims[0], x.dims[1]]))?;
        check::index_vector(2, cache_slot, x.dims[0])?;
        Ok(vec![cache.clone()])
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(INFERENCE_ONLY)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let (mut cache, x, slots) =
            (operands[0].floats()?.to_vec(), operands[1].floats()?, operands[2].ints()?);
        let (rows, width) = (operands[0].dims[0], operands[0].dims[1]);
        for (row, &slot) in x.chunks_exact(width).zip(slots) {
            if slot < 0 || slot as usize >= rows {
                return Err(EvalError::Index { what: "row of the cache", index: slot.into(), bound: rows });
            }
            cache[slot as usize * width..][..width].copy_from_slice(row);
        }
        Ok(vec![Tensor::float(operands[0].dims.clone(), cache)])
    }

    fn flops(&self, _operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        0
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0)]
    }
}

/// `cached_scores %q, %cache, %cache_slot, %position {heads, window}`: `s[t, h, j] = q[t, h] · cache[first + j, h]` on the
/// band, 0 elsewhere; `f32[slots, heads, window]`.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedScores {
    /// Heads that a row of `q` is cut into.
    pub heads: usize,
    /// Tokens of a sequence at most.
    pub window: usize,
}

impl Operation for CachedScores {
    const NAME: &'static str = "cached_scores";

    fn from_attributes(attributes: &Attributes) -> Result<Self, AttributeError> {
        attributes.only(&["heads", "window"])?;
        Ok(Self { heads: attributes.get_int("heads")?, window: attributes.get_int("window")? })
    }

    fn attributes(&self) -> Attributes {
        Attributes::new().int("heads", self.heads).int("window", self.window)
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [q, cache, cache_slot, position] = check::operands(operands)?;
        check::float(0, q, 2)?;
        cache_operand(1, cache, q.dims[1])?;
        check::index_vector(2, cache_slot, q.dims[0])?;
        check::index_vector(3, position, q.dims[0])?;
        if self.heads == 0 || !q.dims[1].bound.is_multiple_of(self.heads) {
            let reason = format!("it must divide the width {}", q.dims[1].bound);
            return Err(check::attribute("heads", self.heads, reason));
        }
        Ok(vec![TensorType::f32([q.dims[0], self.heads.into(), self.window.into()])])
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(INFERENCE_ONLY)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        results: &[&TensorType],
        extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let (q, cache) = (operands[0].floats()?, operands[1].floats()?);
        let (cache_slot, position) = (operands[2].ints()?, operands[3].ints()?);
        let (rows, width) = (operands[1].dims[0], operands[1].dims[1]);
        let lanes = width / self.heads;
        let mut s = Tensor::zeros(results[0].used(extents)).floats()?.to_vec();
        for t in 0..cache_slot.len() {
            let (first, keys) = band(cache_slot, position, rows, t)?;
            for head in 0..self.heads {
                for j in 0..keys.min(self.window) {
                    let mut sum = F::zero();
                    for lane in head * lanes..(head + 1) * lanes {
                        sum = sum + q[t * width + lane] * cache[(first + j) * width + lane];
                    }
                    s[(t * self.heads + head) * self.window + j] = sum;
                }
            }
        }
        Ok(vec![Tensor::float(results[0].used(extents), s)])
    }

    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        2 * operands[0].elements() as u64 * self.window as u64
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// `cached_softmax %s, %position`: softmax of each row over its band, 0 elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedSoftmax;

impl Operation for CachedSoftmax {
    const NAME: &'static str = "cached_softmax";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [s, position] = check::operands(operands)?;
        check::float(0, s, 3)?;
        check::f32_of(0, s, &s.dims)?;
        check::index_vector(1, position, s.dims[0])?;
        Ok(vec![s.clone()])
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(INFERENCE_ONLY)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let (s, position) = (operands[0].floats()?, operands[1].ints()?);
        let (heads, window) = (operands[0].dims[1], operands[0].dims[2]);
        let mut p = vec![F::zero(); s.len()];
        for (row, (s, p)) in s.chunks_exact(window).zip(p.chunks_exact_mut(window)).enumerate() {
            let keys = (position[row / heads] as usize + 1).min(window);
            let largest = s[..keys].iter().copied().fold(F::neg_infinity(), F::max);
            let sum: F = s[..keys].iter().map(|&s| (s - largest).exp()).sum();
            for (p, &s) in p.iter_mut().zip(&s[..keys]) {
                *p = (s - largest).exp() / sum;
            }
        }
        Ok(vec![Tensor::float(operands[0].dims.clone(), p)])
    }

    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        4 * operands[0].elements() as u64
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// `cached_mix %p, %cache, %cache_slot, %position`: `o[t, h] = sum p[t, h, j] cache[first + j, h]` over the band;
/// `f32[slots, D]`.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedMix;

impl Operation for CachedMix {
    const NAME: &'static str = "cached_mix";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [p, cache, cache_slot, position] = check::operands(operands)?;
        check::float(0, p, 3)?;
        check::float(1, cache, 2)?;
        cache_operand(1, cache, cache.dims[1])?;
        check::index_vector(2, cache_slot, p.dims[0])?;
        check::index_vector(3, position, p.dims[0])?;
        if p.dims[1].bound == 0 || !cache.dims[1].bound.is_multiple_of(p.dims[1].bound) {
            return Err(check::mismatch(1, format!("a cache [C, a multiple of {} heads]", p.dims[1]), cache));
        }
        Ok(vec![TensorType::f32([p.dims[0], cache.dims[1]])])
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(INFERENCE_ONLY)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let (p, cache) = (operands[0].floats()?, operands[1].floats()?);
        let (cache_slot, position) = (operands[2].ints()?, operands[3].ints()?);
        let (slots, heads, window) = (operands[0].dims[0], operands[0].dims[1], operands[0].dims[2]);
        let (rows, width) = (operands[1].dims[0], operands[1].dims[1]);
        let lanes = width / heads;
        let mut o = vec![F::zero(); slots * width];
        for t in 0..slots {
            let (first, keys) = band(cache_slot, position, rows, t)?;
            for j in 0..keys.min(window) {
                for lane in 0..width {
                    let p = p[(t * heads + lane / lanes) * window + j];
                    o[t * width + lane] = o[t * width + lane] + p * cache[(first + j) * width + lane];
                }
            }
        }
        Ok(vec![Tensor::float([slots, width], o)])
    }

    fn flops(&self, operands: &[&TensorType], results: &[&TensorType]) -> u64 {
        2 * results[0].elements() as u64 * operands[0].dims[2].bound as u64
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use crate::interp::{Tensor, run};
    use crate::text::parse;

    /// Two sequences of a cache of 4 rows: row 0..2 and row 2..4; the second token of each is new.
    #[test]
    fn new_tokens_meet_those_before_them() {
        let graph = parse(
            "graph @f(%c: state \"c\" f32[4, 2], %x: batch \"x\" f32[slots:2, 2], %p: batch \"position\" i32[slots:2], \
             %i: batch \"cache_slot\" i32[slots:2]) { \
             %u = cache_store %c, %x, %i : f32[4, 2] \
             %s = cached_scores %x, %u, %i, %p {heads = 1, window = 3} : f32[slots:2, 1, 3] \
             %q = cached_softmax %s, %p : f32[slots:2, 1, 3] \
             %o = cached_mix %q, %u, %i, %p : f32[slots:2, 2] \
             return \"c\" %u, \"s\" %s, \"o\" %o }",
        )
        .unwrap();
        let inputs = [
            ("c", Tensor::<f64>::float([4, 2], vec![1.0, 0.0, 9.0, 9.0, 0.0, 0.0, 9.0, 9.0])),
            ("x", Tensor::float([2, 2], vec![2.0, 0.0, 0.0, 3.0])),
            ("position", Tensor::int([2], vec![1, 0])),
            ("cache_slot", Tensor::int([2], vec![1, 2])),
        ];
        let outputs = run(&graph, &inputs.map(|(name, tensor)| (name.to_owned(), tensor)).into()).unwrap();
        assert_eq!(outputs["c"].floats().unwrap(), [1.0, 0.0, 2.0, 0.0, 0.0, 3.0, 9.0, 9.0]);
        assert_eq!(outputs["s"].floats().unwrap(), [2.0, 4.0, 0.0, 9.0, 0.0, 0.0]);
        let (a, b) = (2f64.exp(), 4f64.exp());
        let o = outputs["o"].floats().unwrap();
        assert!((o[0] - (a + 2.0 * b) / (a + b)).abs() < 1e-12, "{o:?}");
        assert_eq!(o[1..], [0.0, 0.0, 3.0]);
    }

    #[test]
    fn a_cache_of_another_width_is_refused() {
        let error = parse(
            "graph @f(%c: state \"c\" f32[4, 3], %x: batch \"x\" f32[slots:2, 2], \
             %i: batch \"cache_slot\" i32[slots:2]) { %u = cache_store %c, %x, %i : f32[4, 3] return \"c\" %u }",
        )
        .unwrap_err();
        assert!(error.to_string().contains("operand 0: expected a cache [C, 2], found f32[4, 3]"), "{error}");
    }
}
