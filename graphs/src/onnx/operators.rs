//! The ONNX operators that the inference graph uses, one method each.
//!
//! The first argument is always the node's name, then its operands, then its attributes.

use super::builder::{Attribute, ModelBuilder, Value};
use super::recipe::ElementType;
use super::storage::Blockwise;

/// Type of the operator that multiplies with quantised matrices.
pub(super) const MATMUL_NBITS: &str = "MatMulNBits";
/// Its attribute that says how exactly the other factor must be kept.
pub(super) const ACCURACY_LEVEL: &str = "accuracy_level";

impl ModelBuilder {
    /// `a + b`, with broadcasting.
    pub fn add(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.node("Add", name, &[a, b], &[])
    }

    /// `a · b`, element by element, with broadcasting.
    pub fn mul(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.node("Mul", name, &[a, b], &[])
    }

    /// `a / b`, element by element, with broadcasting.
    pub fn div(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.node("Div", name, &[a, b], &[])
    }

    /// `a` to the power of `b`, element by element.
    pub fn pow(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.node("Pow", name, &[a, b], &[])
    }

    /// Hyperbolic tangent.
    pub fn tanh(&mut self, name: &str, x: &Value) -> Value {
        self.node("Tanh", name, &[x], &[])
    }

    /// Matrix product over the last two dimensions.
    pub fn matmul(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.node("MatMul", name, &[a, b], &[])
    }

    /// `a · Wᵀ` with `W`, `[out, in]`, quantised in blocks: MatMulNBits of ONNX Runtime, with the parts of `W` as it wants
    /// them ([`super::QuantizedPart`]).
    pub fn matmul_nbits(
        &mut self,
        name: &str,
        a: &Value,
        parts: [&Value; 3],
        [out, columns]: [usize; 2],
        blockwise: Blockwise,
        accuracy_level: i64,
    ) -> Value {
        let attributes = [
            ("K", Attribute::Int(columns as i64)),
            ("N", Attribute::Int(out as i64)),
            ("bits", Attribute::Int(blockwise.bits.number() as i64)),
            ("block_size", Attribute::Int(blockwise.size as i64)),
            (ACCURACY_LEVEL, Attribute::Int(accuracy_level)),
        ];
        self.contrib_node(MATMUL_NBITS, name, &[a, parts[0], parts[1], parts[2]], &attributes)
    }

    /// Layer normalization over the last dimension.
    pub fn layer_norm(&mut self, name: &str, x: &Value, weight: &Value, bias: &Value, epsilon: f32) -> Value {
        let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(epsilon))];
        self.node("LayerNormalization", name, &[x, weight, bias], &attributes)
    }

    /// Softmax over the last dimension.
    pub fn softmax(&mut self, name: &str, x: &Value) -> Value {
        self.node("Softmax", name, &[x], &[("axis", Attribute::Int(-1))])
    }

    /// The slices of `x` along `axis` that `indices` names.
    pub fn gather(&mut self, name: &str, x: &Value, indices: &Value, axis: i64) -> Value {
        self.node("Gather", name, &[x, indices], &[("axis", Attribute::Int(axis))])
    }

    /// `parts` one after another along `axis`.
    pub fn concat(&mut self, name: &str, parts: &[&Value], axis: i64) -> Value {
        self.node("Concat", name, parts, &[("axis", Attribute::Int(axis))])
    }

    /// `x` with its elements in another shape; 0 copies a dimension, -1 is what remains.
    pub fn reshape(&mut self, name: &str, x: &Value, shape: &Value) -> Value {
        self.node("Reshape", name, &[x, shape], &[])
    }

    /// `x` with its dimensions in another order.
    pub fn transpose(&mut self, name: &str, x: &Value, order: &[i64]) -> Value {
        self.node("Transpose", name, &[x], &[("perm", Attribute::Ints(order))])
    }

    /// `x` with dimensions of size 1 put in at `axes`.
    pub fn unsqueeze(&mut self, name: &str, x: &Value, axes: &Value) -> Value {
        self.node("Unsqueeze", name, &[x, axes], &[])
    }

    /// `x` repeated along its dimensions of size 1, as broadcasting with `shape` would.
    pub fn expand(&mut self, name: &str, x: &Value, shape: &Value) -> Value {
        self.node("Expand", name, &[x, shape], &[])
    }

    /// The dimensions of `x`, int64.
    pub fn shape(&mut self, name: &str, x: &Value) -> Value {
        self.node("Shape", name, &[x], &[])
    }

    /// `x` with everything to the right of its diagonal `offset` set to zero.
    pub fn lower_triangle(&mut self, name: &str, x: &Value, offset: &Value) -> Value {
        self.node("Trilu", name, &[x, offset], &[("upper", Attribute::Int(0))])
    }

    /// `x` where `condition` holds, `y` elsewhere.
    pub fn select(&mut self, name: &str, condition: &Value, x: &Value, y: &Value) -> Value {
        self.node("Where", name, &[condition, x, y], &[])
    }

    /// `x` with its elements converted.
    pub fn cast(&mut self, name: &str, x: &Value, to: ElementType) -> Value {
        self.node("Cast", name, &[x], &[("to", Attribute::Int(i64::from(to.number())))])
    }
}
