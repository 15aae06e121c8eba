//! The reference interpreter: runs any graph with plain loops, in f32 or f64.
//!
//! It is the oracle for passes, gradient rules and kernels. A value whose type is bf16 is rounded to bf16 (nearest,
//! ties to even) where it is defined, in both modes; everything else is exact in the chosen arithmetic. It runs on the
//! used part of the data only, so its tensors have no padding at all.
//!
//! Does not: run fast, or use memory sparingly.

mod index;
mod run;
mod tensor;

pub(crate) use index::index_below;
pub use run::{EvalError, run};
pub(crate) use tensor::round_to;
pub use tensor::{Data, Real, Tensor};
