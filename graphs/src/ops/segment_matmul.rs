//! Causal products inside segments: what attention multiplies, forward and backward.
//!
//! Letters: M slots, NH heads, HD elements a head, D = NH * HD, S the bound of a segment's length. `segment` i32`[M]`
//! is the segment of each slot, `segment_table` i32`[segments, 2]` its (first slot, length). A slot t of the segment
//! that starts at s0 sees the keys j in `0..=t - s0`, which are the slots `s0 + j`; its *band* is those of a row of S.
//!
//! Queries are the slots, or R labelled rows: then the ops take `labelled` i32`[R]`, the slot of each row, as their last
//! operand, and a row sees what its slot sees. Keys are always slots.
//!
//! Numerics: each output is one chain of additions in ascending order of the summed index (d, j or t). Operands may be
//! bf16; sums and results are f32.
//!
//! Does not: scale, or mask beyond the band: outside of it scores are 0 and [`super::masked_softmax`] does not look.

use super::check::{self, TypeError};
use super::{
    AttributeError, Attributes, AutodiffError, EvalError, Operation, Real, Tensor, VjpContext, no_attributes,
};
use crate::autodiff::ONLY_IN_GRADIENTS;
use crate::entities::ValueId;
use crate::interp::index_below;
use crate::shape::{Dim, Extent, Extents, TensorType};

/// The first slot of each slot's segment.
///
/// # Errors
/// [`EvalError::Index`] if a slot is not in the segment that it names, or further from its start than `window`.
pub(crate) fn segment_starts<F: Real>(
    segment: &Tensor<F>,
    segment_table: &Tensor<F>,
    window: usize,
) -> Result<Vec<usize>, EvalError> {
    let (table, segments) = (segment_table.ints()?, segment_table.dims[0]);
    let start = |(slot, &segment): (usize, &i32)| {
        let pair = usize::try_from(segment).ok().and_then(|segment| table.chunks_exact(2).nth(segment));
        let Some(&[first, length]) = pair else {
            return Err(EvalError::Index { what: "segment", index: i64::from(segment), bound: segments });
        };
        let place = slot as i64 - i64::from(first);
        let bound = window.min(usize::try_from(length).unwrap_or(0));
        match usize::try_from(first) {
            Ok(start) if (0..bound as i64).contains(&place) => Ok(start),
            _ => Err(EvalError::Index { what: "place of a slot in its segment", index: place, bound }),
        }
    };
    segment.ints()?.iter().enumerate().map(start).collect()
}

/// The slot of each query, and the first slot of its segment. `tables` are `segment`, `segment_table` and, if queries
/// are rows, `labelled`.
///
/// # Errors
/// As [`segment_starts`], and [`EvalError::Index`] if a row's slot does not exist.
pub(crate) fn queries<F: Real>(
    tables: &[&Tensor<F>],
    window: usize,
) -> Result<Vec<(usize, usize)>, EvalError> {
    let starts = segment_starts(tables[0], tables[1], window)?;
    let Some(labelled) = tables.get(2) else { return Ok(starts.into_iter().enumerate().collect()) };
    let of_row = |&slot: &i32| {
        let slot = index_below("labelled slot", slot, starts.len())?;
        Ok((slot, starts[slot]))
    };
    labelled.ints()?.iter().map(of_row).collect()
}

/// Operands `segment` and `segment_table`, of which `segment` is number `index`, for this dimension of slots.
pub(crate) fn segment_operands(
    index: usize,
    segment: &TensorType,
    segment_table: &TensorType,
    slots: Dim,
) -> Result<(), TypeError> {
    check::index_vector(index, segment, slots)?;
    check::range_table(index + 1, segment_table, Extent::Segments)?;
    Ok(())
}

/// Operands from `first` on: `segment`, `segment_table` and perhaps `labelled`, for operand `queries` of this dimension.
/// Gives the dimension of slots.
pub(crate) fn query_operands(
    first: usize,
    tables: &[&TensorType],
    queries: (usize, &TensorType),
) -> Result<Dim, TypeError> {
    let (index, of_queries) = queries;
    match tables {
        [segment, table] => {
            segment_operands(first, segment, table, of_queries.dims[0])?;
            Ok(of_queries.dims[0])
        }
        [segment, table, labelled] => {
            if of_queries.dims[0].extent != Extent::Rows {
                return Err(check::mismatch(index, "labelled rows, since `labelled` is given", of_queries));
            }
            let slots = match segment.dims.as_slice() {
                [slots] if slots.extent == Extent::Slots => *slots,
                _ => return Err(check::mismatch(first, "a vector i32[slots:_]", segment)),
            };
            segment_operands(first, segment, table, slots)?;
            check::index_vector(first + 2, labelled, of_queries.dims[0])?;
            Ok(slots)
        }
        _ => Err(TypeError::Count { expected: first + 2, found: first + tables.len() }),
    }
}

/// `weights` `[R, NH, S]` and `x` `[of_x, D]` with D divided by NH.
fn mix_operands(weights: &TensorType, x: &TensorType, of_x: Dim) -> Result<(), TypeError> {
    check::float(1, x, 2)?;
    let heads = weights.dims[1].bound;
    if x.dims[0] == of_x && heads > 0 && x.dims[1].bound.is_multiple_of(heads) {
        return Ok(());
    }
    let expected = format!("a matrix [{of_x}, D] with D a multiple of {heads} heads");
    Err(check::mismatch(1, expected, x))
}

/// Multiplications and additions of one product of queries `[R, D]`: half of the square of each window, diagonal
/// included.
pub(crate) fn band_flops(queries: &TensorType, window: usize) -> u64 {
    queries.elements() as u64 * (window as u64 + 1)
}

/// `segment_scores %q[R, D], %k[M, D], %segment, %segment_table[, %labelled] {heads, window}`: f32`[R, heads, window]`,
/// for each query and head the products with the keys of its band, `s[t, h, j] = sum_d q[t, h, d] * k[s0 + j, h, d]`,
/// and 0 outside of the band.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentScores {
    /// Heads of `q` and `k`.
    pub heads: usize,
    /// Bound of a segment's length.
    pub window: usize,
}

impl Operation for SegmentScores {
    const NAME: &'static str = "segment_scores";

    fn from_attributes(attributes: &Attributes) -> Result<Self, AttributeError> {
        attributes.only(&["heads", "window"])?;
        Ok(Self { heads: attributes.get_int("heads")?, window: attributes.get_int("window")? })
    }

    fn attributes(&self) -> Attributes {
        Attributes::new().int("heads", self.heads).int("window", self.window)
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [q, k] = leading_two(operands)?;
        check::float(0, q, 2)?;
        check::float(1, k, 2)?;
        let slots = query_operands(2, &operands[2..], (0, q))?;
        if k.dims != [slots, q.dims[1]] {
            return Err(check::mismatch(1, format!("a matrix [{slots}, {}]", q.dims[1]), k));
        }
        let width = q.dims[1].bound;
        if self.heads == 0 || !width.is_multiple_of(self.heads) {
            return Err(check::attribute(
                "heads",
                self.heads,
                format!("it does not divide the width {width}"),
            ));
        }
        Ok(vec![TensorType::f32([q.dims[0], self.heads.into(), self.window.into()])])
    }

    /// For `s = q · kᵀ` on the band: `dq = ds · k`, `dk = dsᵀ · q`, on the band.
    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        let Some(ds) = rule.cotangent(0) else { return Ok(()) };
        let (q, k) = (rule.operand(0), rule.operand(1));
        let dq = rule.push(SegmentMix, &with_tables(rule, [ds, k]))?;
        rule.contribute(0, dq);
        let dk = rule.push(SegmentMixTransposed, &with_tables(rule, [ds, q]))?;
        rule.contribute(1, dk);
        Ok(())
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let (q, k) = (operands[0].floats()?, operands[1].floats()?);
        let (rows, width) = (operands[0].dims[0], operands[0].dims[1]);
        let head_dim = width / self.heads;
        let mut scores = Vec::with_capacity(rows * self.heads * self.window);
        for (row, (t, s0)) in queries(&operands[2..], self.window)?.into_iter().enumerate() {
            for h in 0..self.heads {
                for j in 0..self.window {
                    let lanes = if j <= t - s0 { head_dim } else { 0 };
                    let mut sum = F::zero();
                    for d in h * head_dim..h * head_dim + lanes {
                        sum = sum + q[row * width + d] * k[(s0 + j) * width + d];
                    }
                    scores.push(sum);
                }
            }
        }
        Ok(vec![Tensor::float([rows, self.heads, self.window], scores)])
    }

    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        band_flops(operands[0], self.window)
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// `segment_mix %p, %v, %segment, %segment_table[, %labelled]`: f32`[R, D]`, for each query and head the rows of
/// `v[M, D]` in its band weighted by `p[R, NH, S]`: `o[t, h] = sum_{j <= t - s0} p[t, h, j] * v[s0 + j, h]`.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentMix;

impl Operation for SegmentMix {
    const NAME: &'static str = "segment_mix";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [p, v] = leading_two(operands)?;
        check::float(0, p, 3)?;
        let slots = query_operands(2, &operands[2..], (0, p))?;
        mix_operands(p, v, slots)?;
        Ok(vec![TensorType::f32([p.dims[0], v.dims[1]])])
    }

    /// For `o = p · v` on the band: `dp = do · vᵀ`, `dv = pᵀ · do`, on the band.
    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        let Some(output) = rule.cotangent(0) else { return Ok(()) };
        let (p, v) = (rule.operand(0), rule.operand(1));
        let [_, heads, window] = [0, 1, 2].map(|index| rule.graph().ty(p).dims[index].bound);
        let dp = rule.push(SegmentScores { heads, window }, &with_tables(rule, [output, v]))?;
        rule.contribute(0, dp);
        let dv = rule.push(SegmentMixTransposed, &with_tables(rule, [p, output]))?;
        rule.contribute(1, dv);
        Ok(())
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        mix(operands, operands[0].dims[0], |query, key| (query, key))
    }

    fn flops(&self, operands: &[&TensorType], results: &[&TensorType]) -> u64 {
        band_flops(results[0], operands[0].dims[2].bound)
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// `segment_mix_transposed %p, %x, %segment, %segment_table[, %labelled]`: f32`[M, D]`, for each slot u and head the rows
/// of `x[R, D]` whose queries see u, weighted by what `p[R, NH, S]` gives it: `y[u, h] = sum_t p[t, h, u - s0] * x[t, h]`
/// over the queries t of u's segment from u on.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentMixTransposed;

impl Operation for SegmentMixTransposed {
    const NAME: &'static str = "segment_mix_transposed";

    no_attributes!();

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [p, x] = leading_two(operands)?;
        check::float(0, p, 3)?;
        let slots = query_operands(2, &operands[2..], (0, p))?;
        mix_operands(p, x, p.dims[0])?;
        Ok(vec![TensorType::f32([slots, x.dims[1]])])
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(ONLY_IN_GRADIENTS)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        mix(operands, operands[2].dims[0], |query, key| (key, query))
    }

    fn flops(&self, operands: &[&TensorType], _results: &[&TensorType]) -> u64 {
        band_flops(operands[1], operands[0].dims[2].bound)
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// Adds to each of `rows` rows `to` the row of `x` at `from` weighted by the pair's `p`, where `roles(query, key)` says
/// which of a pair is (to, from). Pairs come in ascending query and key, so either is a chain in ascending order.
fn mix<F: Real>(
    operands: &[&Tensor<F>],
    rows: usize,
    roles: impl Fn(usize, usize) -> (usize, usize),
) -> Result<Vec<Tensor<F>>, EvalError> {
    let (p, x) = (operands[0].floats()?, operands[1].floats()?);
    let [heads, window, width] = [operands[0].dims[1], operands[0].dims[2], operands[1].dims[1]];
    let head_dim = width / heads;
    let mut y = vec![F::zero(); rows * width];
    for (query, (t, s0)) in queries(&operands[2..], window)?.into_iter().enumerate() {
        for h in 0..heads {
            for j in 0..=t - s0 {
                let (to, from) = roles(query, s0 + j);
                let weight = p[(query * heads + h) * window + j];
                for d in h * head_dim..(h + 1) * head_dim {
                    y[to * width + d] = y[to * width + d] + weight * x[from * width + d];
                }
            }
        }
    }
    Ok(vec![Tensor::float([rows, width], y)])
}

/// The first two operands, if there are at least as many.
fn leading_two<'t>(operands: &[&'t TensorType]) -> Result<[&'t TensorType; 2], TypeError> {
    match operands {
        [first, second, _, ..] => Ok([first, second]),
        _ => Err(TypeError::Count { expected: 4, found: operands.len() }),
    }
}

/// `first`, then the tables of the node.
fn with_tables(rule: &VjpContext<'_>, first: [ValueId; 2]) -> Vec<ValueId> {
    [&first, &rule.operands()[2..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::check::check_vjp;

    fn evaluate(op: &impl Operation, operands: &[&Tensor<f64>]) -> Result<Tensor<f64>, EvalError> {
        op.evaluate(operands, &[], &Extents::default()).map(|mut results| results.remove(0))
    }

    /// Slot 0 alone, slots 1 and 2 together.
    fn segments() -> [Tensor<f64>; 2] {
        [Tensor::int([3], vec![0, 1, 1]), Tensor::int([2, 2], vec![0, 1, 1, 2])]
    }

    fn types(width: usize) -> [TensorType; 3] {
        let slots = Dim::slots(6);
        [
            TensorType::f32([slots, width.into()]),
            TensorType::i32([slots]),
            TensorType::i32([Dim::segments(3), Dim::fixed(2)]),
        ]
    }

    #[test]
    fn scores_are_the_products_on_the_band() {
        let [segment, table] = segments();
        let q = Tensor::float([3, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let k = Tensor::float([3, 2], vec![10.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
        let one_head = evaluate(&SegmentScores { heads: 1, window: 2 }, &[&q, &k, &segment, &table]).unwrap();
        assert_eq!(one_head, Tensor::float([3, 1, 2], vec![50.0, 0.0, 250.0, 0.0, 390.0, 610.0]));
        let two_heads =
            evaluate(&SegmentScores { heads: 2, window: 2 }, &[&q, &k, &segment, &table]).unwrap();
        let expected = vec![10.0, 0.0, 40.0, 0.0, 90.0, 0.0, 160.0, 0.0, 150.0, 250.0, 240.0, 360.0];
        assert_eq!(two_heads, Tensor::float([3, 2, 2], expected));
    }

    #[test]
    fn mixes_weight_the_rows_of_the_band() {
        let [segment, table] = segments();
        // 9 lies outside of the band and must not be read.
        let p = Tensor::float([3, 1, 2], vec![2.0, 9.0, 3.0, 9.0, 5.0, 7.0]);
        let x = Tensor::float([3, 1], vec![1.0, 10.0, 100.0]);
        let operands = [&p, &x, &segment, &table];
        let mixed = evaluate(&SegmentMix, &operands).unwrap();
        assert_eq!(mixed, Tensor::float([3, 1], vec![2.0, 30.0, 750.0]));
        let transposed = evaluate(&SegmentMixTransposed, &operands).unwrap();
        assert_eq!(transposed, Tensor::float([3, 1], vec![2.0, 530.0, 700.0]));
    }

    #[test]
    fn slots_outside_of_their_segment_are_refused() {
        let x = Tensor::zeros([3, 2]);
        let scores = |segment: Vec<i32>, table: Vec<i32>, window| {
            let (segment, table) = (Tensor::int([3], segment), Tensor::int([2, 2], table));
            let error =
                evaluate(&SegmentScores { heads: 1, window }, &[&x, &x, &segment, &table]).unwrap_err();
            error.to_string()
        };
        assert_eq!(scores(vec![0, 2, 1], vec![0, 1, 1, 2], 2), "segment 2 is outside of 0..2");
        let place = "place of a slot in its segment";
        assert_eq!(scores(vec![1, 1, 1], vec![0, 1, 1, 2], 2), format!("{place} -1 is outside of 0..2"));
        assert_eq!(scores(vec![0, 1, 1], vec![0, 1, 1, 1], 2), format!("{place} 1 is outside of 0..1"));
        assert_eq!(scores(vec![0, 1, 1], vec![0, 1, 1, 2], 1), format!("{place} 1 is outside of 0..1"));
        assert_eq!(scores(vec![0, 0, 0], vec![-1, 9, 0, 0], 9), format!("{place} 1 is outside of 0..9"));
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let [q, segment, table] = types(6);
        let [k, ..] = types(4);
        let scores = SegmentScores { heads: 4, window: 3 };
        let error = scores.infer(&[&q, &k, &segment, &table]).unwrap_err().to_string();
        assert_eq!(error, "operand 1: expected a matrix [slots:6, 6], found f32[slots:6, 4]");
        let error = scores.infer(&[&q, &q, &segment, &table]).unwrap_err().to_string();
        assert_eq!(error, "attribute `heads` = 4: it does not divide the width 6");
        let p = TensorType::f32([Dim::slots(6), 4.into(), 3.into()]);
        let error = SegmentMix.infer(&[&p, &q, &segment, &table]).unwrap_err().to_string();
        let expected =
            "operand 1: expected a matrix [slots:6, D] with D a multiple of 4 heads, found f32[slots:6, 6]";
        assert_eq!(error, expected);
        assert!(SegmentMixTransposed.infer(&[&p, &k, &table, &segment]).is_err(), "the tables are exchanged");
    }

    #[test]
    fn flops_count_the_band_of_full_windows() {
        let [q, segment, table] = types(4);
        let scores = SegmentScores { heads: 2, window: 3 };
        // Two windows of three slots, two heads of two: 2 * 2 * 2 flops for each of the 6 pairs of a window.
        assert_eq!(scores.flops(&[&q, &q, &segment, &table], &[]), 2 * (6 * 8));
    }

    const INPUTS: &str = "%segment: batch \"segment\" i32[slots:6], \
                          %table: batch \"segment_table\" i32[segments:2, 2]) {";

    #[test]
    fn queries_that_are_rows_see_what_their_slots_see() {
        let [segment, table] = segments();
        let labelled = Tensor::int([2], vec![0, 2]);
        let q = Tensor::float([2, 1], vec![2.0, 3.0]);
        let k = Tensor::float([3, 1], vec![1.0, 10.0, 100.0]);
        let tables = [&segment, &table, &labelled];
        let with = |first: [_; 2]| [&first[..], &tables].concat();
        let s = evaluate(&SegmentScores { heads: 1, window: 2 }, &with([&q, &k])).unwrap();
        assert_eq!(s, Tensor::float([2, 1, 2], vec![2.0, 0.0, 30.0, 300.0]));
        let mixed = evaluate(&SegmentMix, &with([&s, &k])).unwrap();
        assert_eq!(mixed, Tensor::float([2, 1], vec![2.0, 30300.0]));
        // Slot 1 has no label, and is seen by slot 2; nothing sees slot 2 but itself.
        let transposed = evaluate(&SegmentMixTransposed, &with([&s, &q])).unwrap();
        assert_eq!(transposed, Tensor::float([3, 1], vec![4.0, 90.0, 900.0]));
        let outside = Tensor::int([2], vec![0, 3]);
        let error = evaluate(&SegmentMix, &[&s, &k, &segment, &table, &outside]).unwrap_err().to_string();
        assert_eq!(error, "labelled slot 3 is outside of 0..3");
    }

    #[test]
    fn slots_that_are_given_the_slots_of_rows_are_refused() {
        let [q, segment, table] = types(4);
        let scores = SegmentScores { heads: 2, window: 3 };
        let labelled = TensorType::i32([Dim::rows(5)]);
        let error = scores.infer(&[&q, &q, &segment, &table, &labelled]).unwrap_err().to_string();
        let expected = "operand 0: expected labelled rows, since `labelled` is given, found f32[slots:6, 4]";
        assert_eq!(error, expected);
        let rows = TensorType::f32([Dim::rows(5), 4.into()]);
        let found = scores.infer(&[&rows, &q, &segment, &table, &labelled]).unwrap();
        assert_eq!(found, [TensorType::f32([Dim::rows(5), 2.into(), 3.into()])]);
        assert!(scores.infer(&[&rows, &q, &segment, &table]).is_err(), "rows without their slots");
        assert_eq!(SegmentMixTransposed.infer(&[&found[0], &rows, &segment, &table, &labelled]), Ok(vec![q]));
    }

    #[test]
    fn products_of_rows_match_finite_differences() {
        let inputs = INPUTS.replace(") {", ", %labelled: batch \"labelled\" i32[rows:4]) {");
        check_vjp(&format!(
            "graph @f(%q: batch \"q\" f32[rows:4, 4], %k: batch \"k\" f32[slots:6, 4], {inputs} \
             %s = segment_scores %q, %k, %segment, %table, %labelled {{heads = 2, window = 6}} : f32[rows:4, 2, 6] \
             %o = segment_mix %s, %k, %segment, %table, %labelled : f32[rows:4, 4] return \"o\" %o }}"
        ));
    }

    #[test]
    fn scores_match_finite_differences() {
        check_vjp(&format!(
            "graph @f(%q: batch \"q\" f32[slots:6, 4], %k: batch \"k\" f32[slots:6, 4], {INPUTS} \
             %s = segment_scores %q, %k, %segment, %table {{heads = 2, window = 6}} : f32[slots:6, 2, 6] \
             return \"s\" %s }}"
        ));
    }

    #[test]
    fn a_mix_matches_finite_differences() {
        check_vjp(&format!(
            "graph @f(%p: batch \"p\" f32[slots:6, 2, 6], %v: batch \"v\" f32[slots:6, 4], {INPUTS} \
             %o = segment_mix %p, %v, %segment, %table : f32[slots:6, 4] return \"o\" %o }}"
        ));
    }
}
