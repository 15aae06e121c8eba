//! Tensors of the reference interpreter.

use crate::dtype::DType;
use crate::interp::EvalError;
use num_traits::Float;

/// Arithmetic of the interpreter: f32 or f64.
pub trait Real: Float + std::fmt::Debug + std::iter::Sum + Send + Sync + 'static {
    /// The nearest number of this type.
    fn from_f64(value: f64) -> Self;
    /// The same number in f64.
    fn to_f64(self) -> f64;
}

impl Real for f32 {
    fn from_f64(value: f64) -> Self {
        value as f32
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }
    fn to_f64(self) -> f64 {
        self
    }
}

/// `x` as a value of `dtype` is stored: rounded to bf16 (nearest, ties to even), or unchanged.
pub(crate) fn round_to<F: Real>(x: F, dtype: DType) -> F {
    match dtype {
        // Through f32 first: a bf16 value is made from an f32 one, as the kernels make it.
        DType::Bf16 => F::from_f64(f64::from(half::bf16::from_f32(x.to_f64() as f32).to_f32())),
        DType::F32 | DType::I32 => x,
    }
}

/// Elements of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Data<F> {
    /// Elements of a floating-point type.
    Float(Vec<F>),
    /// Elements of an integer type.
    Int(Vec<i32>),
}

/// A dense row-major tensor, with the used dimensions only.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<F> {
    /// Dimensions, outermost first.
    pub dims: Vec<usize>,
    /// `dims.iter().product()` elements.
    pub data: Data<F>,
}

impl<F: Real> Tensor<F> {
    /// A floating-point tensor.
    ///
    /// # Panics
    /// If the number of elements is not the product of the dimensions.
    pub fn float(dims: impl Into<Vec<usize>>, data: Vec<F>) -> Self {
        let dims = dims.into();
        assert_eq!(dims.iter().product::<usize>(), data.len(), "elements of a tensor of dimensions {dims:?}");
        Self { dims, data: Data::Float(data) }
    }

    /// An integer tensor.
    ///
    /// # Panics
    /// If the number of elements is not the product of the dimensions.
    pub fn int(dims: impl Into<Vec<usize>>, data: Vec<i32>) -> Self {
        let dims = dims.into();
        assert_eq!(dims.iter().product::<usize>(), data.len(), "elements of a tensor of dimensions {dims:?}");
        Self { dims, data: Data::Int(data) }
    }

    /// A floating-point tensor of zeros.
    pub fn zeros(dims: impl Into<Vec<usize>>) -> Self {
        let dims = dims.into();
        let elements = dims.iter().product();
        Self { dims, data: Data::Float(vec![F::zero(); elements]) }
    }

    /// The elements of a floating-point tensor.
    ///
    /// # Errors
    /// [`EvalError::Kind`] if the tensor is of integers.
    pub fn floats(&self) -> Result<&[F], EvalError> {
        match &self.data {
            Data::Float(data) => Ok(data),
            Data::Int(_) => Err(EvalError::Kind { expected: "floating-point" }),
        }
    }

    /// The elements of an integer tensor.
    ///
    /// # Errors
    /// [`EvalError::Kind`] if the tensor is of floating-point numbers.
    pub fn ints(&self) -> Result<&[i32], EvalError> {
        match &self.data {
            Data::Int(data) => Ok(data),
            Data::Float(_) => Err(EvalError::Kind { expected: "integer" }),
        }
    }
}
