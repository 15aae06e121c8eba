//! Gradient norm, clipping and AdamW.
//!
//! # Numerics
//! AdamW in f32, in the order of operations of `torch.optim.AdamW` and without fused ones: all variants give the same
//! bits. The sum of squares in f64, rounded once: ascending, or with vectors 16 lanes apart and then these.

use super::elementwise::start_from;
use super::rowwise::RowKernel;
use super::simd::slices::{fold, padded};
use super::simd::{LANES, Simd};
use super::{Call, Kernel, KernelError, Portable};
use gptjc_graphs::dtype::DType::{F32, I32};
use gptjc_graphs::hyper;
use gptjc_graphs::shape::{Dim, Extent};

/// Added to the norm before dividing by it, as `torch.nn.utils.clip_grad_norm_` does.
const NORM_EPSILON: f32 = 1e-6;

/// (what a summed gradient is multiplied by, the norm of the mean gradient) from the sum of squares over everything,
/// the number of labelled tokens and the largest norm allowed.
pub fn clip_scale(sum: f32, labelled: i32, max_norm: f32) -> (f32, f32) {
    let count = labelled.max(1) as f32;
    let norm = sum.sqrt() / count;
    let clipped = max_norm / (norm + NORM_EPSILON);
    // Not `min`: a norm that is not a number must show in the gradients.
    let factor = if max_norm <= 0.0 || clipped >= 1.0 { 1.0 } else { clipped };
    (factor / count, norm)
}

/// What the kernels of this file do to slices.
pub(crate) trait Optimizer: Copy + Send + Sync + 'static {
    /// Sum of the squares of `g`.
    fn sum_squares(self, g: &[f32]) -> f32;

    /// One AdamW step on `p` with moments `m` and `v`, of equal length and all in place; the gradient is `g * scale`.
    fn adamw(self, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], scale: f32, h: &[f32]);
}

impl Optimizer for Portable {
    fn sum_squares(self, g: &[f32]) -> f32 {
        g.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>() as f32
    }

    fn adamw(self, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], scale: f32, h: &[f32]) {
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let g = g * scale;
            *p *= h[hyper::DECAY];
            *m += (g - *m) * h[hyper::ONE_MINUS_BETA1];
            *v = *v * h[hyper::BETA2] + h[hyper::ONE_MINUS_BETA2] * g * g;
            let denominator = v.sqrt() / h[hyper::SQRT_BIAS_CORRECTION2] + h[hyper::EPSILON];
            *p -= h[hyper::STEP_SIZE] * *m / denominator;
        }
    }
}

impl<S: Simd> Optimizer for S {
    fn sum_squares(self, g: &[f32]) -> f32 {
        let s = self;
        s.call(
            #[inline(always)]
            || {
                let sums = fold(
                    s,
                    g,
                    0.0,
                    s.zero_doubles(),
                    #[inline(always)]
                    |sums, g| s.add_squares(sums, g),
                );
                s.doubles(sums).into_iter().sum::<f64>() as f32
            },
        )
    }

    fn adamw(self, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], scale: f32, h: &[f32]) {
        self.call(
            #[inline(always)]
            || adamw_vectors(self, p, g, m, v, (scale, h)),
        );
    }
}

#[inline(always)]
fn adamw_vectors<S: Simd>(
    s: S,
    p: &mut [f32],
    g: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    constants: (f32, &[f32]),
) {
    assert!(p.len() == g.len() && p.len() == m.len() && p.len() == v.len());
    let ((ps, p), (gs, g)) = (p.as_chunks_mut(), g.as_chunks());
    let ((ms, m), (vs, v)) = (m.as_chunks_mut(), v.as_chunks_mut());
    for (((p, g), m), v) in ps.iter_mut().zip(gs).zip(ms).zip(vs) {
        adamw_vector(s, p, g, m, v, constants);
    }
    let rest = p.len();
    if rest > 0 {
        let (mut of_p, mut of_m, mut of_v) = (padded(p), padded(m), padded(v));
        adamw_vector(s, &mut of_p, &padded(g), &mut of_m, &mut of_v, constants);
        p.copy_from_slice(&of_p[..rest]);
        m.copy_from_slice(&of_m[..rest]);
        v.copy_from_slice(&of_v[..rest]);
    }
}

#[inline(always)]
fn adamw_vector<S: Simd>(
    s: S,
    p: &mut [f32; LANES],
    g: &[f32; LANES],
    m: &mut [f32; LANES],
    v: &mut [f32; LANES],
    (scale, h): (f32, &[f32]),
) {
    let g = s.mul(s.load(g), s.splat(scale));
    let decayed = s.mul(s.load(p), s.splat(h[hyper::DECAY]));
    let of_m = s.load(m);
    let first = s.add(of_m, s.mul(s.sub(g, of_m), s.splat(h[hyper::ONE_MINUS_BETA1])));
    let of_g = s.mul(s.mul(s.splat(h[hyper::ONE_MINUS_BETA2]), g), g);
    let second = s.add(s.mul(s.load(v), s.splat(h[hyper::BETA2])), of_g);
    let root = s.div(s.sqrt(second), s.splat(h[hyper::SQRT_BIAS_CORRECTION2]));
    let step = s.div(s.mul(s.splat(h[hyper::STEP_SIZE]), first), s.add(root, s.splat(h[hyper::EPSILON])));
    s.store(s.sub(decayed, step), p);
    s.store(first, m);
    s.store(second, v);
}

pub(super) fn bind_sum_squares(
    call: &Call,
    arithmetic: impl Optimizer,
) -> Result<Box<dyn Kernel>, KernelError> {
    let ([g], [sum]) = call.views([F32], [F32])?;
    let size = g.ty().elements();
    if g.ty().dims.iter().any(|dim| dim.extent != Extent::Fixed) {
        return Err(call.refuse(format!("{}, of which a batch may use a part only", g.ty())));
    }
    Ok(RowKernel::boxed(Dim::fixed(1), 1, move |_, _, _| {
        // SAFETY: the promises of `run_tile`; there is one tile.
        unsafe { sum.write::<f32>(0..1)[0] = arithmetic.sum_squares(g.read(0..size)) }
    }))
}

pub(super) fn bind_clip_scale(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let [scale, norm] = call.results()?;
    let [totals, hyper_view, first, rest @ ..] = call.operands.as_slice() else {
        return Err(call.refuse(format!("{} operands", call.operands.len())));
    };
    let sums = [std::slice::from_ref(first), rest].concat();
    call.check_types("result", &call.results, &[F32, F32])?;
    call.check_types("operand", &call.operands, &[I32, F32])?;
    call.check_types("operand", &call.operands[2..], &vec![F32; sums.len()])?;
    let (totals, hyper_view) = (totals.clone(), hyper_view.clone());
    Ok(RowKernel::boxed(Dim::fixed(1), 1, move |_, _, _| {
        // SAFETY: the promises of `run_tile`; there is one tile.
        unsafe {
            let mut sum = 0.0;
            for part in &sums {
                sum += part.read::<f32>(0..1)[0];
            }
            let labelled = totals.read::<i32>(0..2)[1];
            let max_norm = hyper_view.read_to::<f32>(hyper::LEN)[hyper::MAX_GRAD_NORM];
            (scale.write::<f32>(0..1)[0], norm.write::<f32>(0..1)[0]) = clip_scale(sum, labelled, max_norm);
        }
    }))
}

pub(super) fn bind_adamw(call: &Call, arithmetic: impl Optimizer) -> Result<Box<dyn Kernel>, KernelError> {
    let ([p, g, m, v, scale, hyper_view], [p_new, m_new, v_new]) =
        call.views([F32, F32, F32, F32, F32, F32], [F32, F32, F32])?;
    let size = p.ty().elements();
    Ok(RowKernel::boxed(Dim::fixed(size), call.partition.rows, move |range, _, _| {
        // SAFETY: the promises of `run_tile`; each result may lie over its operand, and over no other.
        unsafe {
            let p = start_from::<f32>(&p, &p_new, range.clone());
            let m = start_from::<f32>(&m, &m_new, range.clone());
            let v = start_from::<f32>(&v, &v_new, range.clone());
            let scale = scale.read::<f32>(0..1)[0];
            arithmetic.adamw(p, g.read(range), m, v, scale, hyper_view.read_to(hyper::LEN));
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Batch, Case, U, few};
    use super::*;
    use gptjc_graphs::interp::Tensor;
    use gptjc_graphs::ops::optimizer as ops;
    use gptjc_graphs::shape::TensorType;
    use proptest::prelude::*;

    /// Learning rate 0.01, weight decay 0.1, betas 0.9 and 0.999, at this step.
    fn hyper_of(step: i32, max_norm: f64) -> (TensorType, Tensor<f64>) {
        let mut h = vec![0.0; hyper::LEN];
        h[hyper::ONE_MINUS_BETA1] = 1.0 - 0.9;
        h[hyper::BETA2] = 0.999;
        h[hyper::ONE_MINUS_BETA2] = 1.0 - 0.999;
        h[hyper::EPSILON] = 1e-8;
        h[hyper::STEP_SIZE] = 0.01 / (1.0 - 0.9f64.powi(step));
        h[hyper::SQRT_BIAS_CORRECTION2] = (1.0 - 0.999f64.powi(step)).sqrt();
        h[hyper::MAX_GRAD_NORM] = max_norm;
        h[hyper::DECAY] = 1.0 - 0.01 * 0.1;
        Batch::given(&[hyper::LEN.into()], &[hyper::LEN], h)
    }

    /// Bounds of p, m and v: see the formulas of the op.
    fn adamw_bounds(case: &Case, expected: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let (scale, h) = (case.floats(4)[0], case.floats(5));
        let mut bounds = vec![Vec::new(); 3];
        for (index, &p) in case.floats(0).iter().enumerate() {
            let (g, m) = ((case.floats(1)[index] * scale).abs(), case.floats(2)[index].abs());
            let denominator = expected[2][index].sqrt() / h[hyper::SQRT_BIAS_CORRECTION2] + h[hyper::EPSILON];
            let step = h[hyper::STEP_SIZE] / denominator;
            let of_m = 4.0 * U * (g + m);
            // v: five roundings, all terms positive; so its root has three, and the quotient six more.
            bounds[0].push(2.0 * U * p.abs() + step * (of_m + expected[1][index].abs() * 9.0 * U));
            bounds[1].push(of_m);
            bounds[2].push(5.0 * U * expected[2][index]);
        }
        bounds
    }

    proptest! {
        #![proptest_config(few())]

        #[test]
        fn a_step_is_that_of_the_op(seed: u64, size in 1usize..70, rows in 1u32..20, step in 1i32..50) {
            let mut batch = Batch::new(seed, 1);
            let dims = [size.into()];
            let (p, g, m) = (batch.f32(&dims), batch.f32(&dims), batch.f32(&dims));
            let v = batch.f32(&dims).1.floats().unwrap().iter().map(|v| v * v).collect();
            let v = Batch::given(&dims, &[size], v);
            let operands = vec![p, g, m, v, batch.f32(&[1.into()]), hyper_of(step, 1.0)];
            Case::new(ops::AdamW, batch.extents(), operands).tile(rows, 0).vector().check(adamw_bounds);
        }

        #[test]
        fn a_sum_of_squares_is_rounded_once(seed: u64, dims in (1usize..9, 1usize..70)) {
            let mut batch = Batch::new(seed, 1);
            let g = batch.f32(&[dims.0.into(), dims.1.into()]);
            let case = Case::new(ops::SumSquares, batch.extents(), vec![g]);
            case.check(|_, expected| vec![vec![U * expected[0][0]]]);
        }

        #[test]
        fn norms_are_those_of_the_op(seed: u64, sums in 1usize..9, tokens in 0i32..900, max_norm in -1.0f64..1.0) {
            let mut batch = Batch::new(seed, 1);
            let mut operands = vec![Batch::fixed(&[3, tokens]), hyper_of(1, max_norm)];
            for _ in 0..sums {
                let sum = batch.f32(&[1.into()]).1.floats().unwrap()[0];
                operands.push(Batch::given(&[1.into()], &[1], vec![sum * sum * 1e3]));
            }
            // Half the roundings of the sum, by the root; a root and two divisions; epsilon, its sum and a division.
            let relative = U * (sums as f64 / 2.0 + 8.0);
            Case::new(ops::ClipScale, batch.extents(), operands).check(|_, expected| {
                expected.iter().map(|result| vec![relative * result[0]]).collect()
            });
        }
    }

    #[test]
    fn a_norm_that_is_no_number_reaches_the_gradients() {
        let (scale, norm) = clip_scale(f32::NAN, 3, 1.0);
        assert!(scale.is_nan() && norm.is_nan(), "scale {scale}, norm {norm}");
        assert_eq!(clip_scale(0.0, 0, 1.0), (1.0, 0.0), "no labelled token");
    }

    #[test]
    fn a_gradient_that_a_batch_fills_in_part_is_refused() {
        let mut batch = Batch::new(1, 3);
        let g = batch.f32(&[Dim::slots(batch.extents().slots + 1)]);
        let case = Case::new(ops::SumSquares, batch.extents(), vec![g]);
        let error = case.run(case.partition, &[], 0, 1).unwrap_err().to_string();
        assert!(error.ends_with("of which a batch may use a part only"), "{error}");
    }
}
