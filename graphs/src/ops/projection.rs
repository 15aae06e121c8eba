//! Fused projections: several weights that read one operand, with their adapters, biases, activations and residuals,
//! and the gradient of what they read.
//!
//! Letters: M tokens, K inputs, N outputs, r rank of the adapters. The projections are the op's *members*; a member in
//! the set `adapted` has an adapter, whose lower half `a[r, K]` is another op's business
//! ([`AdapterDown`](super::adapter::AdapterDown)), in `biased` a bias, in `gelu` an activation as a result of its own.
//! The order of operands and results is [`layout`]'s.
//!
//! Numerics: each output is one chain of additions in f32: the base product in ascending order of the summed index,
//! then the adapter's products, the bias, the residuals. It depends neither on M nor on the row's place. Operands may be
//! bf16; a result is rounded once, to `dtype`, and an activation is taken of the rounded projection.
//!
//! Does not: have gradient rules; fusion comes after autodiff.

use super::check::{self, TypeError};
use super::dropout::{Mask, check_masks};
use super::gelu::{ACTIVATION_FLOPS, GRADIENT_FLOPS, activation, derivative};
use super::{AttributeError, Attributes, AutodiffError, EvalError, Operation, Real, Tensor, VjpContext};
use crate::autodiff::ONLY_AFTER_FUSION;
use crate::dtype::DType;
use crate::interp::round_to;
use crate::layout::{self, ProjectionGradOperands, ProjectionOperands, SITES, members_of};
use crate::shape::{Extents, TensorType};

/// `projection %x[M, K], weights [N, K], biases f32[N], (low f32[M, r], b f32[N, r]) of each adapter, residuals f32[M, N]
/// -> projections [M, N], activations [M, N]`.
///
/// `y = x · wᵀ + (scale · low) · bᵀ + bias + residuals`, rounded to `dtype`; `act = gelu_tanh(y)` of `y` before it is
/// rounded, rounded to `activation`.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    /// Number of projections; at most [`layout::MAX_MEMBERS`].
    pub members: usize,
    /// Set of the members with a bias.
    pub biased: usize,
    /// Set of the members with an adapter.
    pub adapted: usize,
    /// Set of the members whose activation is a result.
    pub gelu: usize,
    /// Number of tensors that are added; only to a single member.
    pub residuals: usize,
    /// Factor of the adapters.
    pub scale: f64,
    /// Type of the projections.
    pub dtype: DType,
    /// Type of the activations.
    pub activation: DType,
}

impl Projection {
    /// The operands by what they are; none if there is another number of them.
    pub fn operands<T: Clone>(&self, operands: &[T]) -> Option<ProjectionOperands<T>> {
        ProjectionOperands::split(operands, self.members, self.biased, self.adapted, self.residuals)
    }

    /// The projection and the activation of each member; none if there is another number of results.
    pub fn results<T: Clone>(&self, results: &[T]) -> Option<Vec<(T, Option<T>)>> {
        layout::split_projection_results(results, self.members, self.gelu)
    }

    fn check_attributes(&self) -> Result<(), TypeError> {
        let sets = [("biased", self.biased), ("adapted", self.adapted), ("gelu", self.gelu)];
        check::members(self.members, &sets)?;
        check::finite("scale", self.scale)?;
        if self.residuals > 0 && self.members > 1 {
            let reason = format!("they are added to a single member, not to {}", self.members);
            return Err(check::attribute("residuals", self.residuals, reason));
        }
        Ok(())
    }
}

impl Operation for Projection {
    const NAME: &'static str = "projection";

    fn from_attributes(attributes: &Attributes) -> Result<Self, AttributeError> {
        attributes.only(&[
            "members",
            "biased",
            "adapted",
            "gelu",
            "residuals",
            "scale",
            "dtype",
            "activation",
        ])?;
        Ok(Self {
            members: attributes.get_int("members")?,
            biased: attributes.get_int("biased")?,
            adapted: attributes.get_int("adapted")?,
            gelu: attributes.get_int("gelu")?,
            residuals: attributes.get_int("residuals")?,
            scale: attributes.get_float("scale")?,
            dtype: attributes.get_float_type("dtype")?,
            activation: attributes.get_float_type("activation")?,
        })
    }

    fn attributes(&self) -> Attributes {
        Attributes::new()
            .int("members", self.members)
            .int("biased", self.biased)
            .int("adapted", self.adapted)
            .int("gelu", self.gelu)
            .int("residuals", self.residuals)
            .float("scale", self.scale)
            .word("dtype", self.dtype.name())
            .word("activation", self.activation.name())
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        self.check_attributes()?;
        let count = ProjectionOperands::<()>::count(self.members, self.biased, self.adapted, self.residuals);
        let parts = self
            .operands(&check::numbered(operands))
            .ok_or(TypeError::Count { expected: count, found: operands.len() })?;
        check::float(parts.x.0, parts.x.1, 2)?;
        let (tokens, inputs) = (parts.x.1.dims[0], parts.x.1.dims[1]);
        let mut rank = None;
        let mut outputs = Vec::new();
        for member in &parts.members {
            let n = check::weight(member.weight, inputs, parts.members[0].weight.1)?;
            if let Some((operand, bias)) = member.bias {
                check::f32_of(operand, bias, &[n])?;
            }
            if let Some((low, (operand, upper))) = member.adapter {
                let rank = check::thin(low, tokens, &mut rank)?;
                check::f32_of(operand, upper, &[n, rank])?;
            }
            outputs.push(TensorType::new(self.dtype, [tokens, n]));
        }
        for (operand, residual) in parts.residuals {
            check::f32_of(operand, residual, &outputs[0].dims)?;
        }
        let activations: Vec<_> =
            members_of(self.gelu).map(|member| outputs[member].with_dtype(self.activation)).collect();
        Ok([outputs, activations].concat())
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(ONLY_AFTER_FUSION)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        _extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let wrong = EvalError::Operands { op: Self::NAME, found: operands.len() };
        let parts = self.operands(operands).ok_or(wrong)?;
        let (x, inputs) = (parts.x.floats()?, parts.x.dims[1]);
        let residuals = parts.residuals.iter().map(|r| r.floats()).collect::<Result<Vec<_>, _>>()?;
        let scale = F::from_f64(self.scale);
        let mut results = Vec::new();
        for member in &parts.members {
            let (weight, outputs) = (member.weight.floats()?, member.weight.dims[0]);
            let bias = member.bias.map(Tensor::floats).transpose()?;
            let adapter = member.adapter.map(Factors::new).transpose()?;
            let mut y = Vec::with_capacity(parts.x.dims[0] * outputs);
            for token in 0..parts.x.dims[0] {
                let x = &x[token * inputs..(token + 1) * inputs];
                for n in 0..outputs {
                    let mut sum = F::zero();
                    for k in 0..inputs {
                        sum = sum + x[k] * weight[n * inputs + k];
                    }
                    if let Some(adapter) = &adapter {
                        for i in 0..adapter.rank {
                            sum = sum
                                + (scale * adapter.token(token, i)) * adapter.matrix[n * adapter.rank + i];
                        }
                    }
                    if let Some(bias) = bias {
                        sum = sum + bias[n];
                    }
                    for residual in &residuals {
                        sum = sum + residual[token * outputs + n];
                    }
                    y.push(sum);
                }
            }
            results.push(Tensor::float([parts.x.dims[0], outputs], y));
        }
        for member in members_of(self.gelu) {
            let y =
                results[member].floats()?.iter().map(|&y| round_to(activation(y), self.activation)).collect();
            results.push(Tensor::float(results[member].dims.clone(), y));
        }
        for y in &mut results[..self.members] {
            let rounded = y.floats()?.iter().map(|&y| round_to(y, self.dtype)).collect();
            *y = Tensor::float(y.dims.clone(), rounded);
        }
        Ok(results)
    }

    /// The base products and the adapters' products; besides, scaled lower halves, biases, residuals and activations.
    fn flops(&self, operands: &[&TensorType], results: &[&TensorType]) -> u64 {
        let Some(parts) = self.operands(operands) else { return 0 };
        let (tokens, inputs) = (parts.x.dims[0].bound as u64, parts.x.dims[1].bound as u64);
        let mut flops = 0;
        for (index, member) in parts.members.iter().enumerate() {
            let outputs = member.weight.dims[0].bound as u64;
            let rank = member.adapter.map_or(0, |(low, _)| low.dims[1].bound as u64);
            flops += tokens * outputs * (2 * inputs + 2 * rank) + tokens * rank;
            let activation = if self.gelu >> index & 1 == 1 { ACTIVATION_FLOPS } else { 0 };
            let bias = u64::from(member.bias.is_some());
            flops += results[index].elements() as u64 * (bias + self.residuals as u64 + activation);
        }
        flops
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// The factors of an adapter's product: a vector of each token, and a matrix.
struct Factors<'t, F> {
    tokens: &'t [F],
    rank: usize,
    matrix: &'t [F],
}

impl<'t, F: Real> Factors<'t, F> {
    fn new((tokens, matrix): (&'t Tensor<F>, &'t Tensor<F>)) -> Result<Self, EvalError> {
        Ok(Self { tokens: tokens.floats()?, rank: tokens.dims[1], matrix: matrix.floats()? })
    }

    fn token(&self, token: usize, i: usize) -> F {
        self.tokens[token * self.rank + i]
    }
}

/// `projection_grad dy [M, N] and weights [N, K] of the members, (dlow f32[M, r], a f32[r, K]) of each adapter, masks, u
/// [M, K], residuals f32[M, K] -> dx [M, K]`: the gradient of what projections read.
///
/// `dx = (Σ dy · w + Σ mask · (dlow · a)) · gelu_tanh'(u) + residuals`, rounded to `dtype`; the base products are one
/// chain over members and outputs, and each adapter's product is summed apart.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectionGrad {
    /// Number of projections; at most [`layout::MAX_MEMBERS`].
    pub members: usize,
    /// Set of the members with an adapter.
    pub adapted: usize,
    /// Whether what was projected is an activation, whose operand `u` is given: the gradient is then that of `u`.
    pub gelu: bool,
    /// Number of tensors that are added.
    pub residuals: usize,
    /// Share of the adapters' inputs that was dropped.
    pub p: f64,
    /// Dropout of each adapter, in the order of the members.
    pub sites: Vec<usize>,
    /// Type of the result.
    pub dtype: DType,
}

impl ProjectionGrad {
    /// The operands by what they are; none if there is another number of them.
    pub fn operands<T: Clone>(&self, operands: &[T]) -> Option<ProjectionGradOperands<T>> {
        let masked = self.p > 0.0;
        ProjectionGradOperands::split(operands, self.members, self.adapted, masked, self.gelu, self.residuals)
    }

    fn count(&self) -> usize {
        let masked = self.p > 0.0;
        ProjectionGradOperands::<()>::count(self.members, self.adapted, masked, self.gelu, self.residuals)
    }
}

impl Operation for ProjectionGrad {
    const NAME: &'static str = "projection_grad";

    fn from_attributes(attributes: &Attributes) -> Result<Self, AttributeError> {
        const OWN: [&str; 6] = ["members", "adapted", "gelu", "residuals", "p", "dtype"];
        attributes.only(&[&OWN[..], &SITES].concat())?;
        Ok(Self {
            members: attributes.get_int("members")?,
            adapted: attributes.get_int("adapted")?,
            gelu: attributes.get_flag("gelu")?,
            residuals: attributes.get_int("residuals")?,
            p: attributes.get_float("p")?,
            sites: layout::sites(attributes)?,
            dtype: attributes.get_float_type("dtype")?,
        })
    }

    fn attributes(&self) -> Attributes {
        let own = Attributes::new()
            .int("members", self.members)
            .int("adapted", self.adapted)
            .int("gelu", usize::from(self.gelu))
            .int("residuals", self.residuals)
            .float("p", self.p)
            .word("dtype", self.dtype.name());
        layout::with_sites(own, &self.sites)
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        check::members(self.members, &[("adapted", self.adapted)])?;
        let parts = self
            .operands(&check::numbered(operands))
            .ok_or(TypeError::Count { expected: self.count(), found: operands.len() })?;
        let first = &parts.members[0];
        check::float(first.dy.0, first.dy.1, 2)?;
        check::float(first.weight.0, first.weight.1, 2)?;
        let (tokens, inputs) = (first.dy.1.dims[0], first.weight.1.dims[1]);
        let mut rank = None;
        for member in &parts.members {
            let n = check::weight(member.weight, inputs, first.weight.1)?;
            check::matrix(member.dy, [tokens, n], Some(first.dy.1))?;
            if let Some((dlow, (operand, lower))) = member.adapter {
                let rank = check::thin(dlow, tokens, &mut rank)?;
                check::f32_of(operand, lower, &[rank, inputs])?;
            }
        }
        let adapters = self.adapted.count_ones() as usize;
        check_masks((self.p, &self.sites, adapters), first.dy, parts.masks.as_ref())?;
        if let Some(u) = parts.u {
            check::matrix(u, [tokens, inputs], None)?;
        }
        for (operand, residual) in parts.residuals {
            check::f32_of(operand, residual, &[tokens, inputs])?;
        }
        Ok(vec![TensorType::new(self.dtype, [tokens, inputs])])
    }

    fn vjp(&self, rule: &mut VjpContext<'_>) -> Result<(), AutodiffError> {
        rule.no_rule(ONLY_AFTER_FUSION)
    }

    fn evaluate<F: Real>(
        &self,
        operands: &[&Tensor<F>],
        _results: &[&TensorType],
        extents: &Extents,
    ) -> Result<Vec<Tensor<F>>, EvalError> {
        let wrong = EvalError::Operands { op: Self::NAME, found: operands.len() };
        let parts = self.operands(operands).ok_or(wrong)?;
        let masks = parts.masks.as_ref();
        let mask = masks.map(|masks| Mask::new(masks, self.p, extents.slots)).transpose()?;
        let factor = F::from_f64(1.0 / (1.0 - self.p));
        let (tokens, inputs) = (parts.members[0].dy.dims[0], parts.members[0].weight.dims[1]);
        let u = parts.u.map(Tensor::floats).transpose()?;
        let residuals = parts.residuals.iter().map(|r| r.floats()).collect::<Result<Vec<_>, _>>()?;
        let factors = parts.members.iter().filter_map(|member| member.adapter).map(Factors::new);
        let adapters = factors.collect::<Result<Vec<_>, _>>()?;
        let mut dx = Vec::with_capacity(tokens * inputs);
        for token in 0..tokens {
            for k in 0..inputs {
                let mut sum = base_product(&parts, token, k)?;
                for (index, adapter) in adapters.iter().enumerate() {
                    let mut product = F::zero();
                    for i in 0..adapter.rank {
                        product = product + adapter.token(token, i) * adapter.matrix[i * inputs + k];
                    }
                    sum = match &mask {
                        None => sum + product,
                        Some(mask) if mask.keeps(token, self.sites[index], k) => sum + product * factor,
                        Some(_) => sum,
                    };
                }
                if let Some(u) = u {
                    sum = sum * derivative(u[token * inputs + k]);
                }
                for residual in &residuals {
                    sum = sum + residual[token * inputs + k];
                }
                dx.push(round_to(sum, self.dtype));
            }
        }
        Ok(vec![Tensor::float([tokens, inputs], dx)])
    }

    /// The base products and the adapters' products; besides, masks, the activation's derivative and sums.
    fn flops(&self, operands: &[&TensorType], results: &[&TensorType]) -> u64 {
        let Some(parts) = self.operands(operands) else { return 0 };
        let elements = results[0].elements() as u64;
        let mut an_element = self.residuals as u64 + if self.gelu { GRADIENT_FLOPS } else { 0 };
        for member in &parts.members {
            an_element += 2 * member.weight.dims[0].bound as u64;
            if let Some((dlow, _)) = member.adapter {
                an_element += 2 * dlow.dims[1].bound as u64 + 1 + u64::from(parts.masks.is_some());
            }
        }
        elements * an_element
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
}

/// `Σ dy · w` for one element of `dx`, over members and outputs in ascending order.
fn base_product<F: Real>(
    parts: &ProjectionGradOperands<&Tensor<F>>,
    token: usize,
    k: usize,
) -> Result<F, EvalError> {
    let mut sum = F::zero();
    for member in &parts.members {
        let (dy, weight) = (member.dy.floats()?, member.weight.floats()?);
        let (outputs, inputs) = (member.weight.dims[0], member.weight.dims[1]);
        for n in 0..outputs {
            sum = sum + dy[token * outputs + n] * weight[n * inputs + k];
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests;
