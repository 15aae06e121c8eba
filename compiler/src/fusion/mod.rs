//! Fusion: patterns of primitive nodes become one node each.
//!
//! A pass finds *candidates* (`replace::Candidate`): nodes to absorb, and the fused nodes that stand for them. What is
//! the same for all of them, `replace::replace` does once: a candidate is refused, with the reason, if a value that it
//! would lose is read elsewhere; fused nodes are put where the last node that they absorb was, or earlier if somebody
//! reads them earlier.
//!
//! Fusions keep the numbers but for the order of sums, which each op's reference meaning states; nothing is rounded
//! here. That is [`crate::precision`]'s business, which comes after.

pub mod attention;
pub mod layer_norm_residual;
pub(crate) mod matcher;
pub mod projection;
pub mod projection_grad;
pub(crate) mod replace;
pub mod vocab_loss;

pub use attention::FuseAttention;
pub use layer_norm_residual::FuseLayerNormResidual;
pub use projection::FuseProjection;
pub use projection_grad::FuseProjectionGrad;
pub use vocab_loss::FuseVocabLoss;
