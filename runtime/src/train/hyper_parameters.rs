//! What an optimizer step is told: the array that clipping and AdamW read.

use super::TrainOptions;
use gptjc_graphs::hyper;

/// The numbers of optimizer step `step`, counted from 0, at learning rate `rate`.
///
/// Computed in f64 and rounded once each, as `torch.optim.AdamW` does before it calls its kernels.
pub(super) fn hyper_parameters(options: &TrainOptions, step: u64, rate: f64) -> [f32; hyper::LEN] {
    let done = (step + 1) as f64;
    let bias_correction1 = 1.0 - options.beta1.powf(done);
    let bias_correction2 = 1.0 - options.beta2.powf(done);
    let mut array = [0.0; hyper::LEN];
    let mut set = |index: usize, value: f64| array[index] = value as f32;
    set(hyper::LEARNING_RATE, rate);
    set(hyper::WEIGHT_DECAY, options.weight_decay);
    set(hyper::BETA1, options.beta1);
    set(hyper::ONE_MINUS_BETA1, 1.0 - options.beta1);
    set(hyper::BETA2, options.beta2);
    set(hyper::ONE_MINUS_BETA2, 1.0 - options.beta2);
    set(hyper::EPSILON, options.epsilon);
    set(hyper::STEP_SIZE, rate / bias_correction1);
    set(hyper::SQRT_BIAS_CORRECTION2, bias_correction2.sqrt());
    set(hyper::MAX_GRAD_NORM, options.max_grad_norm);
    set(hyper::DECAY, 1.0 - rate * options.weight_decay);
    array
}
