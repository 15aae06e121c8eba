//! What a plan expects of a tensor in a file.

/// A tensor that must be present: its name in the file and its shape.
///
/// The dtype is not part of it: f32, f16 and bf16 are all accepted and converted while reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name as in the file: `transformer.h.3.attn.q_proj.weight`.
    pub name: String,
    /// Dimensions, outermost first; a linear layer's weight is `[out, in]`.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// A spec of `name` with `shape`.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> TensorSpec {
        TensorSpec { name: name.into(), shape: shape.into() }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True if a dimension is zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
