//! The op set on one page.
//!
//! The set is closed: it is what training GPT-J takes, so that `match` is a checklist. An op family is one file, with
//! the shape rule, the gradient rule and the reference meaning of each of its ops together; the same stem names the
//! family's kernels. A graph is differentiated once, so ops that only gradients use have no gradient rule themselves
//! and say so.

use crate::attributes::{AttributeError, Attributes};
use crate::autodiff::{AutodiffError, VjpContext};
use crate::interp::{EvalError, Real, Tensor};
use crate::shape::{Extents, TensorType};

pub mod adapter;
pub mod attention;
pub mod cache;
pub mod check;
pub mod cross_entropy;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
#[cfg(test)]
mod fused_tests;
pub mod gelu;
pub mod layer_norm;
pub mod masked_softmax;
pub mod matmul;
pub mod optimizer;
pub mod projection;
pub mod rotary;
pub mod rows;
pub mod segment_matmul;
pub mod vocab_loss;
pub mod window;

pub use check::TypeError;

/// What every op defines, in one place.
pub trait Operation: Clone + std::fmt::Debug + PartialEq {
    /// Name in the text form and in the plan.
    const NAME: &'static str;

    /// The op with these attributes.
    ///
    /// # Errors
    /// [`AttributeError`] if one is missing, out of range or unknown.
    fn from_attributes(attributes: &Attributes) -> Result<Self, AttributeError>;

    /// The op's attributes, as [`from_attributes`](Self::from_attributes) takes them.
    fn attributes(&self) -> Attributes;

    /// Shape rule: the types of the results.
    ///
    /// # Errors
    /// [`TypeError`] if the op does not take operands of these types.
    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError>;

    /// Gradient rule: adds to the operands' cotangents what the results' cotangents contribute.
    ///
    /// # Errors
    /// [`AutodiffError`] if the op has no gradient rule or the gradient cannot be expressed.
    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError>;

    /// Reference meaning: plain loops over the used part of the operands. `results` are the results' types;
    /// rounding to bf16 is the interpreter's.
    ///
    /// # Errors
    /// [`EvalError`] if the data are out of the op's domain (a token id outside the vocabulary).
    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        results: &[&TensorType],
        extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError>;

    /// Floating-point operations at the bounds; a multiplication and an addition are two, an exponential or a
    /// division is one.
    fn flops(&self, operands: &[&TensorType], results: &[&TensorType]) -> u64;

    /// Memory that a kernel needs besides operands and results, shared by its threads and undefined before and after.
    fn workspace(&self, _operands: &[&TensorType], _results: &[&TensorType]) -> Vec<TensorType> {
        Vec::new()
    }

    /// Pairs (result, operand) that may share memory: the kernel reads each element of the operand before it writes
    /// that element of the result, and no other element of the result depends on it afterwards.
    fn in_place(&self) -> &'static [(usize, usize)];
}

/// The two methods of an op without attributes.
macro_rules! no_attributes {
    () => {
        fn from_attributes(
            attributes: &$crate::attributes::Attributes,
        ) -> Result<Self, $crate::attributes::AttributeError> {
            attributes.only(&[])?;
            Ok(Self)
        }

        fn attributes(&self) -> $crate::attributes::Attributes {
            $crate::attributes::Attributes::new()
        }
    };
}
pub(crate) use no_attributes;

macro_rules! op_set {
    ($($variant:ident = $path:path),+ $(,)?) => {
        /// An op.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Op {
            $(#[doc = concat!("See [`", stringify!($path), "`].")] $variant($path),)+
        }

        impl Op {
            /// Names of all ops, in the order of the page.
            pub const NAMES: &'static [&'static str] = &[$(<$path as Operation>::NAME),+];

            /// The op with this name and these attributes, or none if no op has the name.
            ///
            /// # Errors
            /// [`AttributeError`] if the attributes are not the op's.
            pub fn from_parts(name: &str, attributes: &Attributes) -> Result<Option<Op>, AttributeError> {
                $(if name == <$path as Operation>::NAME {
                    return <$path as Operation>::from_attributes(attributes).map(|op| Some(Op::$variant(op)));
                })+
                Ok(None)
            }

            /// Name in the text form and in the plan.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$variant(_) => <$path as Operation>::NAME,)+ }
            }

            /// See [`Operation::attributes`].
            pub fn attributes(&self) -> Attributes {
                match self { $(Op::$variant(op) => op.attributes(),)+ }
            }

            /// See [`Operation::infer`].
            ///
            /// # Errors
            /// [`TypeError`] if the op does not take operands of these types.
            pub fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
                match self { $(Op::$variant(op) => op.infer(operands),)+ }
            }

            /// See [`Operation::vjp`].
            ///
            /// # Errors
            /// [`AutodiffError`] if there is no rule.
            pub fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
                match self { $(Op::$variant(op) => op.vjp(rule),)+ }
            }

            /// See [`Operation::evaluate`].
            ///
            /// # Errors
            /// [`EvalError`] if the data are out of the op's domain.
            pub fn evaluate<F: Real>(
                &self,
                operands: &[&Tensor<F>],
                results: &[&TensorType],
                extents: &Extents,
            ) -> Result<Vec<Tensor<F>>, EvalError> {
                match self { $(Op::$variant(op) => op.evaluate(operands, results, extents),)+ }
            }

            /// See [`Operation::flops`].
            pub fn flops(&self, operands: &[&TensorType], results: &[&TensorType]) -> u64 {
                match self { $(Op::$variant(op) => op.flops(operands, results),)+ }
            }

            /// See [`Operation::workspace`].
            pub fn workspace(&self, operands: &[&TensorType], results: &[&TensorType]) -> Vec<TensorType> {
                match self { $(Op::$variant(op) => op.workspace(operands, results),)+ }
            }

            /// See [`Operation::in_place`].
            pub fn in_place(&self) -> &'static [(usize, usize)] {
                match self { $(Op::$variant(op) => op.in_place(),)+ }
            }
        }

        $(impl From<$path> for Op {
            fn from(op: $path) -> Op {
                Op::$variant(op)
            }
        })+
    };
}

op_set! {
    // The forward pass.
    Embedding = embedding::Embedding,
    LayerNorm = layer_norm::LayerNorm,
    Matmul = matmul::Matmul,
    Add = elementwise::Add,
    BiasAdd = elementwise::BiasAdd,
    Scale = elementwise::Scale,
    Cast = elementwise::Cast,
    Fill = elementwise::Fill,
    RotaryTable = rotary::RotaryTable,
    Rotary = rotary::Rotary,
    SegmentScores = segment_matmul::SegmentScores,
    MaskedSoftmax = masked_softmax::MaskedSoftmax,
    SegmentMix = segment_matmul::SegmentMix,
    GeluTanh = gelu::GeluTanh,
    Dropout = dropout::Dropout,
    GatherRows = rows::GatherRows,
    CrossEntropy = cross_entropy::CrossEntropy,
    WindowSum = window::WindowSum,
    // Inference.
    CacheStore = cache::CacheStore,
    CachedScores = cache::CachedScores,
    CachedSoftmax = cache::CachedSoftmax,
    CachedMix = cache::CachedMix,
    // Gradients.
    EmbeddingGrad = embedding::EmbeddingGrad,
    LayerNormGrad = layer_norm::LayerNormGrad,
    LayerNormParamGrad = layer_norm::LayerNormParamGrad,
    WindowMatmul = matmul::WindowMatmul,
    SegmentMixTransposed = segment_matmul::SegmentMixTransposed,
    MaskedSoftmaxGrad = masked_softmax::MaskedSoftmaxGrad,
    GeluTanhGrad = gelu::GeluTanhGrad,
    ScatterRows = rows::ScatterRows,
    CrossEntropyGrad = cross_entropy::CrossEntropyGrad,
    // Fused.
    Projection = projection::Projection,
    ProjectionGrad = projection::ProjectionGrad,
    AdapterDown = adapter::AdapterDown,
    AdapterUpGrad = adapter::AdapterUpGrad,
    AdapterGrad = adapter::AdapterGrad,
    VocabLoss = vocab_loss::VocabLoss,
    Attention = attention::Attention,
    AttentionGrad = attention::AttentionGrad,
    // Sums over windows, and the optimizer.
    TreeAccumulate = window::TreeAccumulate,
    TreeFinish = window::TreeFinish,
    SumSquares = optimizer::SumSquares,
    ClipScale = optimizer::ClipScale,
    AdamW = optimizer::AdamW,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names = Op::NAMES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Op::NAMES.len());
    }

    #[test]
    fn parts_round_trip() {
        let op: Op = matmul::Matmul::nt().into();
        assert_eq!(Op::from_parts(op.name(), &op.attributes()), Ok(Some(op)));
        assert_eq!(Op::from_parts("matmul2", &Attributes::new()), Ok(None));
    }
}
