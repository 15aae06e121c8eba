//! Attention as one op, forward and backward: no tensor of scores is stored.
//!
//! Letters: M slots, R queries (the slots, or labelled rows), NH heads, HD elements a head, D = NH * HD, P positions,
//! RD rotary lanes of a head. `segment` i32`[M]`, `segment_table` i32`[segments, 2]` and the *band* of a query are those
//! of [`super::segment_matmul`]; if queries are rows, `labelled` i32`[R]` names their slots.
//!
//! Numerics: everything is computed in f32; `q`, `k`, `v`, `o` and the gradients may be stored as bf16 and are rounded
//! once. Products over d are chains in ascending d. The softmax of a query is online: keys come in tiles of [`KEY_TILE`]
//! from the first slot of the segment, a tile's largest score may raise the maximum, and what was summed so far is then
//! scaled by `exp(old - new)`; inside a tile sums ascend. In the gradient every sum over keys ascends for its query, and
//! every sum over queries for its key.
//!
//! Does not: have a gradient rule. Autodiff sees the ops that this one is fused from.

use super::check::{self, TypeError};
use super::rotary::Rotary;
use super::segment_matmul::{band_flops, queries, query_operands};
use super::{AttributeError, Attributes, AutodiffError, EvalError, Operation, Real, Tensor, VjpContext};
use crate::autodiff::ONLY_AFTER_FUSION;
use crate::dtype::DType;
use crate::shape::{Extents, TensorType};

#[cfg(test)]
mod tests;

/// Keys of a step of the online softmax.
pub const KEY_TILE: usize = 64;

/// Number of operands of [`Attention`] before `segment`.
const BEFORE_SEGMENT: usize = 6;

/// Number of operands of [`AttentionGrad`] before `segment`.
const GRAD_BEFORE_SEGMENT: usize = 9;

/// `attention %q[R, D], %k[M, D], %v[M, D], %position i32[M], %sin f32[P, RD / 2], %cos, %segment, %segment_table
/// [, %labelled] -> o[R, D], lse f32[R, NH]`.
///
/// With q and k rotated as by [`Rotary`], for each query and head, over the keys j of its band:
/// `s[j] = scale * (q · k[j])`, `lse = ln Σ exp(s[j])`, `o = Σ exp(s[j] - lse) * v[j]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Heads of q, k and v.
    pub heads: usize,
    /// Bound of a segment's length.
    pub window: usize,
    /// Factor of the scores.
    pub scale: f64,
    /// Type of `o`.
    pub dtype: DType,
}

impl Operation for Attention {
    const NAME: &'static str = "attention";

    fn from_attributes(attributes: &Attributes) -> Result<Self, AttributeError> {
        attributes.only(&["heads", "window", "scale", "dtype"])?;
        Ok(Self {
            heads: attributes.get_int("heads")?,
            window: attributes.get_int("window")?,
            scale: attributes.get_float("scale")?,
            dtype: attributes.get_float_type("dtype")?,
        })
    }

    fn attributes(&self) -> Attributes {
        Attributes::new()
            .int("heads", self.heads)
            .int("window", self.window)
            .float("scale", self.scale)
            .word("dtype", self.dtype.name())
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        counted(operands, BEFORE_SEGMENT)?;
        common(operands, 0, BEFORE_SEGMENT, self.heads, self.scale)?;
        let q = operands[0];
        Ok(vec![q.with_dtype(self.dtype), TensorType::f32([q.dims[0], self.heads.into()])])
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(ONLY_AFTER_FUSION)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let inputs = Inputs::new(operands, 0, BEFORE_SEGMENT, self.heads, self.window)?;
        let (rows, lanes) = (inputs.queries.len(), inputs.lanes);
        let (mut o, mut lse) =
            (Vec::with_capacity(rows * inputs.width), Vec::with_capacity(rows * self.heads));
        for r in 0..rows {
            for h in 0..self.heads {
                let keys: Vec<usize> = inputs.keys(r).collect();
                let mut online =
                    Online { max: F::neg_infinity(), sum: F::zero(), mixed: vec![F::zero(); lanes] };
                for tile in keys.chunks(KEY_TILE) {
                    let s: Vec<F> =
                        tile.iter().map(|&u| inputs.score(r, h, u) * F::from_f64(self.scale)).collect();
                    online.add(&s, |j| inputs.lanes_of(inputs.v, tile[j], h));
                }
                o.extend(online.mixed.iter().map(|&sum| sum / online.sum));
                lse.push(online.max + online.sum.ln());
            }
        }
        Ok(vec![Tensor::float([rows, inputs.width], o), Tensor::float([rows, self.heads], lse)])
    }

    /// Rotation, two products on the bands of full windows, the softmax, a division for each element of `o`.
    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        const SOFTMAX: u64 = 5; // scale, comparison, difference, exponential, sum
        const A_ROW: u64 = 2; // ln, + max
        let q = operands[0];
        let heads = (q.dims[0].bound * self.heads) as u64;
        2 * band_flops(q, self.window)
            + SOFTMAX * heads * (self.window as u64 + 1) / 2
            + A_ROW * heads
            + q.elements() as u64
            + rotary_flops(&[q, operands[1]], operands[4], self.heads)
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[] // keys are read again for every query
    }
}

/// `attention_grad %do[R, D], %q[R, D], %k[M, D], %v[M, D], %o[R, D], %lse f32[R, NH], %position i32[M],
/// %sin f32[P, RD / 2], %cos, %segment, %segment_table[, %labelled]`: of dq`[R, D]`, dk`[M, D]` and dv`[M, D]` the
/// wanted ones.
///
/// With `s` as in [`Attention`], `p = exp(s - lse)` and `delta = Σ_d do * o`, on the band: `dv[u] = Σ_t p * do[t]`,
/// `ds = p * (do · v[u] - delta) * scale`, `dq[t] = Σ_u ds * k[u]`, `dk[u] = Σ_t ds * q[t]`; dq and dk are then rotated
/// back.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionGrad {
    /// Heads of q, k and v.
    pub heads: usize,
    /// Bound of a segment's length.
    pub window: usize,
    /// Factor of the scores.
    pub scale: f64,
    /// Results: bit 0 is dq, bit 1 dk, bit 2 dv.
    pub wanted: usize,
    /// Type of the results.
    pub dtype: DType,
}

impl AttentionGrad {
    /// Whether dq, dk and dv are results.
    fn wants(&self) -> [bool; 3] {
        [0, 1, 2].map(|bit| self.wanted >> bit & 1 == 1)
    }
}

impl Operation for AttentionGrad {
    const NAME: &'static str = "attention_grad";

    fn from_attributes(attributes: &Attributes) -> Result<Self, AttributeError> {
        attributes.only(&["heads", "window", "scale", "wanted", "dtype"])?;
        Ok(Self {
            heads: attributes.get_int("heads")?,
            window: attributes.get_int("window")?,
            scale: attributes.get_float("scale")?,
            wanted: attributes.get_int("wanted")?,
            dtype: attributes.get_float_type("dtype")?,
        })
    }

    fn attributes(&self) -> Attributes {
        Attributes::new()
            .int("heads", self.heads)
            .int("window", self.window)
            .float("scale", self.scale)
            .int("wanted", self.wanted)
            .word("dtype", self.dtype.name())
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        counted(operands, GRAD_BEFORE_SEGMENT)?;
        common(operands, 1, GRAD_BEFORE_SEGMENT, self.heads, self.scale)?;
        let [output_grad, q, k, v, o, lse] = [0, 1, 2, 3, 4, 5].map(|index| operands[index]);
        for (index, found) in [(0, output_grad), (4, o)] {
            check::float(index, found, 2)?;
            check::same(index, found, &q.with_dtype(found.dtype))?;
        }
        check::f32_of(5, lse, &[q.dims[0], self.heads.into()])?;
        if !(1..8).contains(&self.wanted) {
            return Err(check::attribute("wanted", self.wanted, "it is a set of dq (1), dk (2) and dv (4)"));
        }
        let types = [q, k, v].into_iter().zip(self.wants());
        Ok(types.filter(|(_, wanted)| *wanted).map(|(of, _)| of.with_dtype(self.dtype)).collect())
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(ONLY_AFTER_FUSION)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let inputs = Inputs::new(operands, 1, GRAD_BEFORE_SEGMENT, self.heads, self.window)?;
        let (output_grad, o, lse) = (operands[0].floats()?, operands[4].floats()?, operands[5].floats()?);
        let scale = F::from_f64(self.scale);
        let [mut dq, mut dk, mut dv] =
            [inputs.q.len(), inputs.k.len(), inputs.v.len()].map(|n| vec![F::zero(); n]);
        for r in 0..inputs.queries.len() {
            for h in 0..self.heads {
                let of_output = inputs.lanes_of(output_grad, r, h);
                let delta = dot(of_output, inputs.lanes_of(o, r, h));
                for u in inputs.keys(r) {
                    let p = (inputs.score(r, h, u) * scale - lse[r * self.heads + h]).exp();
                    let dp = dot(of_output, inputs.lanes_of(inputs.v, u, h));
                    let ds = p * (dp - delta) * scale;
                    add_scaled(&mut dv[inputs.lanes_at(u, h)], p, of_output);
                    add_scaled(&mut dq[inputs.lanes_at(r, h)], ds, inputs.lanes_of(&inputs.k, u, h));
                    add_scaled(&mut dk[inputs.lanes_at(u, h)], ds, inputs.lanes_of(&inputs.q, r, h));
                }
            }
        }
        let dq = inputs.rotated_back(dq, &inputs.query_position)?;
        let dk = inputs.rotated_back(dk, inputs.position)?;
        let dv = Tensor::float([dv.len() / inputs.width, inputs.width], dv);
        let results = [dq, dk, dv].into_iter().zip(self.wants());
        Ok(results.filter(|(_, wanted)| *wanted).map(|(of, _)| of).collect())
    }

    /// The products and sums of the wanted results and their rotation; scores are not counted again, though a kernel
    /// computes them again.
    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        const PROBABILITY: u64 = 2; // s - lse, exp
        const SCORE_GRADIENT: u64 = 3; // - delta, two products
        let (q, k) = (operands[1], operands[2]);
        let [dq, dk, dv] = self.wants();
        let (products, an_element) = match dq || dk {
            true => (1 + u64::from(dq) + u64::from(dk) + u64::from(dv), PROBABILITY + SCORE_GRADIENT),
            false => (1, PROBABILITY),
        };
        let band = (q.dims[0].bound * self.heads) as u64 * (self.window as u64 + 1) / 2;
        let delta = if dq || dk { 2 * q.elements() as u64 } else { 0 };
        let rotated: Vec<_> =
            [(dq, q), (dk, k)].into_iter().filter(|(wanted, _)| *wanted).map(|(_, of)| of).collect();
        products * band_flops(q, self.window)
            + an_element * band
            + delta
            + rotary_flops(&rotated, operands[7], self.heads)
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[] // keys and queries are read again
    }
}

/// There are the operands before `segment`, the two tables, and perhaps `labelled`.
fn counted(operands: &[&TensorType], before_segment: usize) -> Result<(), TypeError> {
    let expected = before_segment + 2;
    if (expected..=expected + 1).contains(&operands.len()) {
        return Ok(());
    }
    Err(TypeError::Count { expected, found: operands.len() })
}

/// Operands that both ops have: q, k and v from operand `q` on; position, sin and cos before operand `segment`.
fn common(
    operands: &[&TensorType],
    q: usize,
    segment: usize,
    heads: usize,
    scale: f64,
) -> Result<(), TypeError> {
    let [of_q, of_k, of_v] = [q, q + 1, q + 2].map(|index| operands[index]);
    check::float(q, of_q, 2)?;
    check::float(q + 1, of_k, 2)?;
    check::float(q + 2, of_v, 2)?;
    check::same(q + 2, of_v, &of_k.with_dtype(of_v.dtype))?;
    let slots = query_operands(segment, &operands[segment..], (q, of_q))?;
    check::same(q + 1, of_k, &TensorType::new(of_k.dtype, [slots, of_q.dims[1]]))?;
    let width = of_q.dims[1].bound;
    if heads == 0 || !width.is_multiple_of(heads) {
        return Err(check::attribute("heads", heads, format!("it does not divide the width {width}")));
    }
    if !scale.is_finite() {
        return Err(check::attribute("scale", scale, "it must be a finite number"));
    }
    check::index_vector(segment - 3, operands[segment - 3], of_k.dims[0])?;
    let (sin, head_dim) = (operands[segment - 2], width / heads);
    if sin.dtype != DType::F32 || sin.rank() != 2 || 2 * sin.dims[1].bound > head_dim {
        let expected = format!("a table f32[P, R / 2] with R at most the {head_dim} lanes of a head");
        return Err(check::mismatch(segment - 2, expected, sin));
    }
    check::same(segment - 1, operands[segment - 1], sin)
}

/// Rotation of matrices by `table`: two products and a sum for each rotated lane.
fn rotary_flops(matrices: &[&TensorType], table: &TensorType, heads: usize) -> u64 {
    let rows: usize = matrices.iter().map(|of| of.dims[0].bound).sum();
    3 * (rows * heads * 2 * table.dims[1].bound) as u64
}

/// A running softmax, and the sum that it weights.
struct Online<F> {
    max: F,
    sum: F,
    mixed: Vec<F>,
}

impl<F: Real> Online<F> {
    /// Adds a tile of scores `s` and of what they weight.
    fn add<'v>(&mut self, s: &[F], value: impl Fn(usize) -> &'v [F])
    where
        F: 'v,
    {
        let max = s.iter().copied().fold(self.max, F::max);
        let factor = (self.max - max).exp();
        self.sum = self.sum * factor;
        self.mixed.iter_mut().for_each(|mixed| *mixed = *mixed * factor);
        for (j, &s) in s.iter().enumerate() {
            let p = (s - max).exp();
            self.sum = self.sum + p;
            add_scaled(&mut self.mixed, p, value(j));
        }
        self.max = max;
    }
}

/// What both ops read, q and k rotated.
struct Inputs<'t, F> {
    q: Vec<F>,
    k: Vec<F>,
    v: &'t [F],
    position: &'t Tensor<F>,
    query_position: Tensor<F>,
    tables: [&'t Tensor<F>; 2],
    /// The slot of each query and the first slot of its segment.
    queries: Vec<(usize, usize)>,
    heads: usize,
    width: usize,
    lanes: usize,
}

impl<'t, F: Real> Inputs<'t, F> {
    fn new(
        operands: &[&'t Tensor<F>],
        q: usize,
        segment: usize,
        heads: usize,
        window: usize,
    ) -> Result<Self, EvalError> {
        let [position, sin, cos] = [3, 2, 1].map(|before| operands[segment - before]);
        let queries = queries(&operands[segment..], window)?;
        let of_slot = position.ints()?;
        let of_queries: Vec<i32> = queries.iter().map(|&(slot, _)| of_slot[slot]).collect();
        let mut inputs = Self {
            q: Vec::new(),
            k: Vec::new(),
            v: operands[q + 2].floats()?,
            position,
            query_position: Tensor::int([queries.len()], of_queries),
            tables: [sin, cos],
            queries,
            heads,
            width: operands[q].dims[1],
            lanes: operands[q].dims[1] / heads,
        };
        inputs.q = inputs.rotated(operands[q], &inputs.query_position, false)?.floats()?.to_vec();
        inputs.k = inputs.rotated(operands[q + 1], position, false)?.floats()?.to_vec();
        Ok(inputs)
    }

    fn rotated(&self, x: &Tensor<F>, position: &Tensor<F>, inverse: bool) -> Result<Tensor<F>, EvalError> {
        let (rotary, [sin, cos]) = (Rotary { heads: self.heads, inverse }, self.tables);
        let mut rotated = rotary.evaluate(&[x, position, sin, cos], &[], &Extents::default())?;
        Ok(rotated.remove(0))
    }

    fn rotated_back(&self, x: Vec<F>, position: &Tensor<F>) -> Result<Tensor<F>, EvalError> {
        self.rotated(&Tensor::float([x.len() / self.width, self.width], x), position, true)
    }

    /// Slots of the keys of query `r`.
    fn keys(&self, r: usize) -> std::ops::RangeInclusive<usize> {
        let (slot, first) = self.queries[r];
        first..=slot
    }

    /// Where head `h` of row `row` lies in a matrix.
    fn lanes_at(&self, row: usize, h: usize) -> std::ops::Range<usize> {
        let start = row * self.width + h * self.lanes;
        start..start + self.lanes
    }

    fn lanes_of<'x>(&self, x: &'x [F], row: usize, h: usize) -> &'x [F] {
        &x[self.lanes_at(row, h)]
    }

    /// The product of query `r` and the key of slot `u`, before the scale.
    fn score(&self, r: usize, h: usize, u: usize) -> F {
        dot(self.lanes_of(&self.q, r, h), self.lanes_of(&self.k, u, h))
    }
}

fn dot<F: Real>(a: &[F], b: &[F]) -> F {
    a.iter().zip(b).fold(F::zero(), |sum, (&a, &b)| sum + a * b)
}

fn add_scaled<F: Real>(sum: &mut [F], factor: F, x: &[F]) {
    for (sum, &x) in sum.iter_mut().zip(x) {
        *sum = *sum + factor * x;
    }
}
