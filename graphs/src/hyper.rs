//! Layout of the `hyper` input: what the optimizer is told each step, f32`[LEN]`.
//!
//! The trainer fills it, [`crate::ops::optimizer`] and its kernels read it. Bias corrections are of the step that is
//! taken, counted from 1: `1 - beta^step`; the trainer computes them, and the differences from one, in f64 and rounds once.

/// Learning rate of this step.
pub const LEARNING_RATE: usize = 0;
/// Decoupled weight decay.
pub const WEIGHT_DECAY: usize = 1;
/// Decay of the first moment.
pub const BETA1: usize = 2;
/// `1 - beta1`.
pub const ONE_MINUS_BETA1: usize = 3;
/// Decay of the second moment.
pub const BETA2: usize = 4;
/// `1 - beta2`.
pub const ONE_MINUS_BETA2: usize = 5;
/// What is added to the root of the second moment.
pub const EPSILON: usize = 6;
/// `learning_rate / (1 - beta1^step)`.
pub const STEP_SIZE: usize = 7;
/// `sqrt(1 - beta2^step)`.
pub const SQRT_BIAS_CORRECTION2: usize = 8;
/// Largest norm of all gradients together; at most 0 for no clipping.
pub const MAX_GRAD_NORM: usize = 9;
/// `1 - learning_rate * weight_decay`.
pub const DECAY: usize = 10;
/// Elements; the last one is reserved and 0.
pub const LEN: usize = 12;
