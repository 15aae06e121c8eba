//! Fused projections and the gradient of what they read.
//!
//! `Projection` and `ProjectionGrad` say what a call is bound to and how its work is cut; every variant takes them.
//!
//! # Numerics
//! An output is one chain in f32: the base product ascending, then (forward) the products of the adapter with its
//! lower half already scaled, bias, residuals; or (gradient) for each adapter its own product, masked, then the
//! activation's derivative, residuals. It is rounded once to the result's type; an activation is taken of the number
//! before that.

mod portable;
#[cfg(test)]
mod tests;
pub(super) mod vector;

use super::blocks::Blocks;
use super::dropout::Masks;
use super::elementwise::leading;
use super::matmul::with_factors;
use super::{Call, Kernel, KernelError, View};
use gptjc_graphs::dtype::DType::F32;
use gptjc_graphs::layout::{self, ProjectionGradOperands, ProjectionOperands};
use gptjc_graphs::shape::{Dim, Extents};
use portable::{forward, grad};
use std::ops::Range;

/// One of the projections of a [`Projection`].
pub(super) struct Member {
    /// `[outputs, inputs]`.
    pub(super) weight: View,
    pub(super) outputs: usize,
    pub(super) bias: Option<View>,
    pub(super) adapter: Option<Adapter>,
    /// The projection.
    pub(super) y: View,
    /// Its activation, of the sums before they are rounded; of a type of its own.
    pub(super) activation: Option<View>,
}

/// The upper half of an adapter.
pub(super) struct Adapter {
    /// What the lower half gave: f32 `[tokens, rank]`.
    pub(super) low: View,
    /// f32 `[outputs, rank]`.
    pub(super) upper: View,
    pub(super) rank: usize,
}

/// What a call of `projection` is bound to.
pub(super) struct Projection {
    /// `[tokens, inputs]`.
    pub(super) x: View,
    pub(super) inputs: usize,
    pub(super) members: Vec<Member>,
    /// f32 `[tokens, outputs]` each, of the only member.
    pub(super) residuals: Vec<View>,
    /// Factor of the adapters.
    pub(super) scale: f32,
    pub(super) blocks: Blocks,
}

/// A tile of a [`Projection`].
pub(super) struct Tile<'p> {
    pub(super) member: &'p Member,
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
}

impl Projection {
    fn new(call: &Call) -> Result<Self, KernelError> {
        let (count, gelu) = (call.int("members")?, call.int("gelu")?);
        let (biased, adapted) = (call.int("biased")?, call.int("adapted")?);
        let (residuals, scale) = (call.int("residuals")?, call.float("scale")? as f32);
        let operands = ProjectionOperands::split(&call.operands, count, biased, adapted, residuals);
        let results = layout::split_projection_results(&call.results, count, gelu);
        let (Some(operands), Some(results)) = (operands, results) else { return Err(call.refuse_count()) };
        let first = results.first().ok_or_else(|| call.refuse_count())?.0.ty().dtype;
        let weights = operands.members[0].weight.ty().dtype;
        let mut members = Vec::new();
        for (member, (y, activation)) in operands.members.into_iter().zip(results) {
            call.check_type("weight", &member.weight, weights)?;
            call.check_float("result", &y)?;
            call.check_type("result", &y, first)?;
            activation.iter().try_for_each(|activation| call.check_float("activation", activation))?;
            member.bias.iter().try_for_each(|bias| call.check_type("bias", bias, F32))?;
            let adapter = member.adapter.map(|(low, upper)| Adapter { rank: low.row_elements(), low, upper });
            if let Some(adapter) = &adapter {
                call.check_type("adapter", &adapter.low, F32)?;
                call.check_type("adapter", &adapter.upper, F32)?;
            }
            let (outputs, bias, weight) = (y.row_elements(), member.bias, member.weight);
            members.push(Member { weight, outputs, bias, adapter, y, activation });
        }
        operands.residuals.iter().try_for_each(|residual| call.check_type("residual", residual, F32))?;
        let (x, residuals) = (operands.x, operands.residuals);
        let (inputs, blocks) = (x.row_elements(), Blocks::new(call.partition, leading(&x).bound));
        Ok(Self { x, inputs, members, residuals, scale, blocks })
    }

    /// Tokens in use.
    pub(super) fn tokens(&self, extents: &Extents) -> usize {
        extents.of(leading(&self.x))
    }

    /// Number of tiles: member by member.
    pub(super) fn tiles(&self, extents: &Extents) -> usize {
        let tokens = self.tokens(extents);
        self.members.iter().map(|member| self.blocks.count(tokens, member.outputs)).sum()
    }

    /// Tile `tile` of [`tiles`](Self::tiles).
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn tile(&self, mut tile: usize, extents: &Extents) -> Tile<'_> {
        let tokens = self.tokens(extents);
        for member in &self.members {
            let count = self.blocks.count(tokens, member.outputs);
            if tile < count {
                let (rows, columns) = self.blocks.tile(tile, tokens, member.outputs);
                return Tile { member, rows, columns };
            }
            tile -= count;
        }
        panic!("there are not so many tiles")
    }
}

/// One of the projections of a [`ProjectionGrad`].
pub(super) struct GradMember {
    /// `[tokens, outputs]`.
    pub(super) dy: View,
    /// `[outputs, inputs]`.
    pub(super) weight: View,
    pub(super) outputs: usize,
    pub(super) adapter: Option<GradAdapter>,
}

/// The lower half of an adapter.
pub(super) struct GradAdapter {
    /// f32 `[tokens, rank]`.
    pub(super) dlow: View,
    /// f32 `[rank, inputs]`.
    pub(super) lower: View,
    pub(super) rank: usize,
    /// Its dropout, if anything is dropped.
    pub(super) site: Option<u16>,
}

/// What a call of `projection_grad` is bound to.
pub(super) struct ProjectionGrad {
    pub(super) members: Vec<GradMember>,
    pub(super) masks: Option<Masks>,
    /// The operand of the activation before the projections, `[tokens, inputs]`.
    pub(super) u: Option<View>,
    /// f32 `[tokens, inputs]` each.
    pub(super) residuals: Vec<View>,
    /// `[tokens, inputs]`.
    pub(super) dx: View,
    pub(super) inputs: usize,
    pub(super) blocks: Blocks,
}

impl ProjectionGrad {
    fn new(call: &Call) -> Result<Self, KernelError> {
        let (count, adapted) = (call.int("members")?, call.int("adapted")?);
        let (gelu, residuals, p) = (call.flag("gelu")?, call.int("residuals")?, call.float("p")?);
        let masked = p > 0.0;
        let parts = ProjectionGradOperands::split(&call.operands, count, adapted, masked, gelu, residuals)
            .filter(|parts| !parts.members.is_empty())
            .ok_or_else(|| call.refuse_count())?;
        let [dx] = call.results()?;
        call.check_float("result", &dx)?;
        let (first, tokens) = (&parts.members[0], leading(&dx));
        let (of_dy, of_weight) = (first.dy.ty().dtype, first.weight.ty().dtype);
        let mut sites = match parts.masks {
            Some(_) => call.sites(adapted.count_ones() as usize)?.into_iter(),
            None => Vec::new().into_iter(),
        };
        let mut members = Vec::new();
        for member in parts.members {
            call.check_type("dy", &member.dy, of_dy)?;
            call.check_type("weight", &member.weight, of_weight)?;
            let adapter = member.adapter.map(|(dlow, lower)| {
                let rank = dlow.row_elements();
                GradAdapter { dlow, lower, rank, site: sites.next() }
            });
            if let Some(adapter) = &adapter {
                call.check_type("adapter", &adapter.dlow, F32)?;
                call.check_type("adapter", &adapter.lower, F32)?;
            }
            let (outputs, dy, weight) = (member.dy.row_elements(), member.dy, member.weight);
            members.push(GradMember { dy, weight, outputs, adapter });
        }
        let masks = parts.masks.map(|masks| Masks::new(call, masks, tokens, p)).transpose()?;
        parts.u.iter().try_for_each(|u| call.check_float("u", u))?;
        parts.residuals.iter().try_for_each(|residual| call.check_type("residual", residual, F32))?;
        let (u, residuals, inputs) = (parts.u, parts.residuals, dx.row_elements());
        let blocks = Blocks::new(call.partition, tokens.bound);
        Ok(Self { members, masks, u, residuals, dx, inputs, blocks })
    }

    /// The dimension of tokens.
    pub(super) fn tokens(&self) -> Dim {
        leading(&self.dx)
    }
}

pub(super) fn bind_forward(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let bound = Projection::new(call)?;
    let types = (bound.x.ty().dtype, bound.members[0].weight.ty().dtype);
    with_factors!(call, types, forward, bound)
}

pub(super) fn bind_grad(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let bound = ProjectionGrad::new(call)?;
    let types = (bound.members[0].dy.ty().dtype, bound.members[0].weight.ty().dtype);
    with_factors!(call, types, grad, bound)
}
