//! Kernels whose binding is the same for every variant, and which differ in what they do to a row.

use super::cross_entropy::CrossEntropy;
use super::dropout::Dropout;
use super::gelu::Gelu;
use super::layer_norm::LayerNorm;
use super::optimizer::Optimizer;
use super::rotary::Rotary;
use super::simd::Simd;
use super::{Call, Kernel, KernelError};
use super::{
    adapter, cross_entropy, dropout, elementwise, embedding, gelu, layer_norm, optimizer, rotary, rows,
    window,
};
use crate::isa;
use gptjc_graphs::plan::Isa;

/// Everything that such a kernel does to a row.
pub(crate) trait RowArithmetic:
    LayerNorm + CrossEntropy + Dropout + Gelu + Optimizer + Rotary
{
}

impl<A: LayerNorm + CrossEntropy + Dropout + Gelu + Optimizer + Rotary> RowArithmetic for A {}

/// Binds the variant of an instruction set with vectors.
///
/// # Errors
/// As for [`super::bind`].
pub(super) fn bind_vector(call: &Call, isa: Isa) -> Result<Box<dyn Kernel>, KernelError> {
    let missing = || KernelError::Isa { kernel: call.kernel.clone(), isa };
    match isa {
        Isa::Portable => bind(call, super::Portable),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => bind_simd(call, isa::Avx2::detect().ok_or_else(missing)?),
        // Nothing element by element is gained from products of pairs or tiles.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => {
            bind_simd(call, isa::Avx512::detect().ok_or_else(missing)?)
        }
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => Err(missing()),
    }
}

#[cfg(target_arch = "x86_64")]
fn bind_simd(call: &Call, s: impl Simd) -> Result<Box<dyn Kernel>, KernelError> {
    match call.kernel.op.as_str() {
        "adapter_down" => adapter::bind_down_vector(call, s),
        "adapter_up_grad" => adapter::bind_up_grad_vector(call, s),
        "adapter_grad" => adapter::bind_grad_vector(call, s),
        _ => bind(call, s),
    }
}

/// Binds the kernel with this arithmetic.
///
/// # Errors
/// [`KernelError`] if the op has no such kernel, or it does not take the operands or attributes.
pub(super) fn bind(call: &Call, arithmetic: impl RowArithmetic) -> Result<Box<dyn Kernel>, KernelError> {
    match call.kernel.op.as_str() {
        "embedding" => embedding::bind_forward(call, arithmetic),
        "embedding_grad" => embedding::bind_grad(call, arithmetic),
        "layer_norm" => layer_norm::bind_forward(call, arithmetic),
        "layer_norm_grad" => layer_norm::bind_grad(call, arithmetic),
        "layer_norm_param_grad" => layer_norm::bind_param_grad(call, arithmetic),
        "add" => elementwise::bind_add(call, arithmetic),
        "bias_add" => elementwise::bind_bias_add(call, arithmetic),
        "scale" => elementwise::bind_scale(call, arithmetic),
        "cast" => elementwise::bind_cast(call, arithmetic),
        "fill" => elementwise::bind_fill(call),
        "rotary" => rotary::bind_rotary(call, arithmetic),
        "gelu_tanh" => gelu::bind_forward(call, arithmetic),
        "gelu_tanh_grad" => gelu::bind_grad(call, arithmetic),
        "dropout" => dropout::bind(call, arithmetic),
        "gather_rows" => rows::bind_gather(call),
        "scatter_rows" => rows::bind_scatter(call),
        "cross_entropy" => cross_entropy::bind_forward(call, arithmetic),
        "cross_entropy_grad" => cross_entropy::bind_grad(call, arithmetic),
        "window_sum" => window::bind_sum(call, arithmetic),
        "tree_accumulate" => window::bind_accumulate(call, arithmetic),
        "tree_finish" => window::bind_finish(call, arithmetic),
        "sum_squares" => optimizer::bind_sum_squares(call, arithmetic),
        "clip_scale" => optimizer::bind_clip_scale(call),
        "adamw" => optimizer::bind_adamw(call, arithmetic),
        _ => Err(KernelError::Unknown(call.kernel.clone())),
    }
}
