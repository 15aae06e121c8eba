//! Rows in vectors.
//!
//! # Numerics
//! Statistics and means are sums of [`LANES`](super::super::simd::LANES) lanes: lane i adds elements i, i + 16, ... in
//! ascending order; then the lanes are added in halves. Products and sums are fused.

use super::super::simd::Simd;
use super::super::simd::slices::{fold, fold3, map_with, map_with2};
use super::{LayerNorm, RowOf};

impl<S: Simd> LayerNorm for S {
    fn forward(self, row: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) -> (f32, f32) {
        let s = self;
        s.call(
            #[inline(always)]
            || {
                let count = row.len() as f32;
                let zero = s.splat(0.0);
                let mean = s.sum(fold(
                    s,
                    row,
                    0.0,
                    zero,
                    #[inline(always)]
                    |sum, x| s.add(sum, x),
                )) / count;
                let of_mean = s.splat(mean);
                let squares = fold(
                    s,
                    row,
                    mean,
                    zero,
                    #[inline(always)]
                    |sum, x| {
                        let difference = s.sub(x, of_mean);
                        s.fma(difference, difference, sum)
                    },
                );
                let rstd = 1.0 / (s.sum(squares) / count + epsilon).sqrt();
                let of_rstd = s.splat(rstd);
                map_with2(
                    s,
                    row,
                    weight,
                    bias,
                    #[inline(always)]
                    |x, weight, bias| s.fma(s.mul(s.sub(x, of_mean), of_rstd), weight, bias),
                );
                (mean, rstd)
            },
        )
    }

    fn grad(self, dy: &mut [f32], row: RowOf<'_>, weight: &[f32]) {
        let s = self;
        s.call(
            #[inline(always)]
            || {
                let (mean, rstd, zero) = (s.splat(row.mean), s.splat(row.rstd), s.splat(0.0));
                let sums = fold3(
                    s,
                    [dy, row.x, weight],
                    (zero, zero),
                    #[inline(always)]
                    |(of_g, of_gh), [dy, x, weight]| {
                        let g = s.mul(dy, weight);
                        (s.add(of_g, g), s.fma(g, s.mul(s.sub(x, mean), rstd), of_gh))
                    },
                );
                let count = row.x.len() as f32;
                let (mean_g, mean_gh) = (s.splat(s.sum(sums.0) / count), s.splat(s.sum(sums.1) / count));
                map_with2(
                    s,
                    dy,
                    row.x,
                    weight,
                    #[inline(always)]
                    |dy, x, weight| {
                        let h = s.mul(s.sub(x, mean), rstd);
                        let g = s.sub(s.mul(dy, weight), mean_g);
                        s.mul(rstd, s.fnma(h, mean_gh, g))
                    },
                );
            },
        );
    }

    fn param_grad(self, dy: &[f32], row: RowOf<'_>, dweight: &mut [f32], dbias: &mut [f32]) {
        let s = self;
        s.call(
            #[inline(always)]
            || {
                let (mean, rstd) = (s.splat(row.mean), s.splat(row.rstd));
                map_with2(
                    s,
                    dweight,
                    dy,
                    row.x,
                    #[inline(always)]
                    |dweight, dy, x| s.fma(dy, s.mul(s.sub(x, mean), rstd), dweight),
                );
                map_with(
                    s,
                    dbias,
                    dy,
                    #[inline(always)]
                    |dbias, dy| s.add(dbias, dy),
                );
            },
        );
    }
}
