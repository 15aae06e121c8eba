//! Rows one element after the other.

use super::super::Portable;
use super::{LayerNorm, RowOf};

impl LayerNorm for Portable {
    fn forward(self, row: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) -> (f32, f32) {
        let count = row.len() as f32;
        let mean = row.iter().sum::<f32>() / count;
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / count;
        let rstd = 1.0 / (variance + epsilon).sqrt();
        for ((x, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
            *x = (*x - mean) * rstd * weight + bias;
        }
        (mean, rstd)
    }

    fn grad(self, dy: &mut [f32], row: RowOf<'_>, weight: &[f32]) {
        let RowOf { x, mean, rstd } = row;
        let count = x.len() as f32;
        let (mut sum_g, mut sum_gh) = (0.0, 0.0);
        for ((dy, x), weight) in dy.iter().zip(x).zip(weight) {
            let g = dy * weight;
            sum_g += g;
            sum_gh += g * ((x - mean) * rstd);
        }
        let (mean_g, mean_gh) = (sum_g / count, sum_gh / count);
        for ((dy, x), weight) in dy.iter_mut().zip(x).zip(weight) {
            *dy = rstd * (*dy * weight - mean_g - (x - mean) * rstd * mean_gh);
        }
    }

    fn param_grad(self, dy: &[f32], row: RowOf<'_>, dweight: &mut [f32], dbias: &mut [f32]) {
        let RowOf { x, mean, rstd } = row;
        for (((dy, x), dweight), dbias) in dy.iter().zip(x).zip(dweight).zip(dbias) {
            *dweight += dy * ((x - mean) * rstd);
            *dbias += dy;
        }
    }
}
