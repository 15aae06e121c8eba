//! The thin products of low-rank adapters: lower halves with their dropout, and gradients.
//!
//! `Down`, `UpGrad` and `Grad` say what a call is bound to and how its work is cut; every variant takes them.
//!
//! # Numerics
//! Each sum is one f32 chain in ascending order of its index; sums over tokens stop at windows. An element of x that is
//! kept is scaled before the product.

mod portable;
#[cfg(test)]
mod tests;
mod vector;

use super::blocks::Blocks;
use super::dropout::Masks;
use super::elementwise::leading;
use super::simd::Simd;
use super::{Call, Kernel, KernelError, View};
use gptjc_graphs::dtype::DType::{Bf16, F32, I32};
use gptjc_graphs::layout::{
    AdapterDownOperands, AdapterGradOperands, split_adapter_grad_results, split_adapter_up_grad,
};
use gptjc_graphs::plan::Partition;
use gptjc_graphs::shape::Extents;
use half::bf16;
use std::ops::Range;

/// One of the adapters of a [`Down`].
pub(super) struct DownMember {
    /// f32 `[rank, inputs]`.
    pub(super) lower: View,
    pub(super) rank: usize,
    /// Its dropout, if anything is dropped.
    pub(super) site: Option<u16>,
    /// f32 `[tokens, rank]`.
    pub(super) low: View,
}

/// What a call of `adapter_down` is bound to; tiles are rows of tokens, for all members.
pub(super) struct Down {
    /// `[tokens, inputs]`.
    pub(super) x: View,
    pub(super) inputs: usize,
    pub(super) members: Vec<DownMember>,
    pub(super) masks: Option<Masks>,
    pub(super) rows: u32,
}

impl Down {
    fn new(call: &Call) -> Result<Self, KernelError> {
        let (count, p) = (call.int("members")?, call.float("p")?);
        let parts = AdapterDownOperands::split(&call.operands, count, p > 0.0)
            .filter(|_| call.results.len() == count)
            .ok_or_else(|| call.refuse_count())?;
        call.check_float("x", &parts.x)?;
        let sites = match parts.masks {
            Some(_) => call.sites(count)?.into_iter().map(Some).collect(),
            None => vec![None; count],
        };
        let mut members = Vec::new();
        for ((lower, low), site) in parts.lower.into_iter().zip(call.results.clone()).zip(sites) {
            call.check_type("lower half", &lower, F32)?;
            call.check_type("result", &low, F32)?;
            members.push(DownMember { rank: low.row_elements(), lower, site, low });
        }
        let tokens = leading(&parts.x);
        let masks = parts.masks.map(|masks| Masks::new(call, masks, tokens, p)).transpose()?;
        let (x, inputs, rows) = (parts.x, lower_inputs(&members), call.partition.rows);
        Ok(Self { x, inputs, members, masks, rows })
    }
}

/// Columns of x, as the lower halves have them.
fn lower_inputs(members: &[DownMember]) -> usize {
    members.first().map_or(0, |member| member.lower.row_elements())
}

/// One of the adapters of an [`UpGrad`].
pub(super) struct UpGradMember {
    /// `[tokens, outputs]`.
    pub(super) dy: View,
    pub(super) outputs: usize,
    /// f32 `[outputs, rank]`.
    pub(super) upper: View,
    pub(super) rank: usize,
    /// f32 `[tokens, rank]`.
    pub(super) dlow: View,
}

/// What a call of `adapter_up_grad` is bound to; tiles are rows of tokens, for all members.
pub(super) struct UpGrad {
    pub(super) members: Vec<UpGradMember>,
    pub(super) scale: f32,
    pub(super) rows: u32,
}

impl UpGrad {
    fn new(call: &Call) -> Result<Self, KernelError> {
        let (count, scale) = (call.int("members")?, call.float("scale")? as f32);
        let parts = split_adapter_up_grad(&call.operands, count)
            .filter(|_| call.results.len() == count && count > 0)
            .ok_or_else(|| call.refuse_count())?;
        let of_dy = parts[0].0.ty().dtype;
        let mut members = Vec::new();
        for ((dy, upper), dlow) in parts.into_iter().zip(call.results.clone()) {
            call.check_type("dy", &dy, of_dy)?;
            call.check_float("dy", &dy)?;
            call.check_type("upper half", &upper, F32)?;
            call.check_type("result", &dlow, F32)?;
            let (outputs, rank) = (dy.row_elements(), dlow.row_elements());
            members.push(UpGradMember { dy, outputs, upper, rank, dlow });
        }
        Ok(Self { members, scale, rows: call.partition.rows })
    }
}

/// One of the adapters of a [`Grad`].
pub(super) struct GradMember {
    /// `[tokens, outputs]`.
    pub(super) dy: View,
    pub(super) outputs: usize,
    /// f32 `[tokens, rank]`.
    pub(super) low: View,
    /// f32 `[tokens, rank]`.
    pub(super) dlow: View,
    pub(super) rank: usize,
    /// Its dropout, if anything is dropped.
    pub(super) site: Option<u16>,
    /// f32 `[windows, rank, inputs]`.
    pub(super) da: View,
    /// f32 `[windows, outputs, rank]`.
    pub(super) db: View,
}

/// What a call of `adapter_grad` is bound to.
pub(super) struct Grad {
    /// `[tokens, inputs]`.
    pub(super) x: View,
    pub(super) inputs: usize,
    pub(super) members: Vec<GradMember>,
    /// The tokens of each window.
    pub(super) table: View,
    pub(super) masks: Option<Masks>,
    /// Factor of the adapters.
    pub(super) scale: f32,
    /// Inputs or outputs of a tile are its columns.
    pub(super) blocks: Blocks,
}

/// What a tile of a [`Grad`] computes of one window and member.
pub(super) enum Part {
    /// These inputs of the lower half's gradient.
    Lower(Range<usize>),
    /// These outputs of the upper half's gradient.
    Upper(Range<usize>),
}

impl Grad {
    fn new(call: &Call) -> Result<Self, KernelError> {
        let (count, scale, p) = (call.int("members")?, call.float("scale")? as f32, call.float("p")?);
        let parts = AdapterGradOperands::split(&call.operands, count, p > 0.0);
        let results = split_adapter_grad_results(&call.results, count);
        let (Some(parts), Some(results)) = (parts, results) else { return Err(call.refuse_count()) };
        let of_dy = parts.members.first().ok_or_else(|| call.refuse_count())?.dy.ty().dtype;
        call.check_float("x", &parts.x)?;
        call.check_type("table", &parts.table, I32)?;
        let sites = match parts.masks {
            Some(_) => call.sites(count)?.into_iter().map(Some).collect(),
            None => vec![None; count],
        };
        let mut members = Vec::new();
        for ((member, (da, db)), site) in parts.members.into_iter().zip(results).zip(sites) {
            call.check_type("dy", &member.dy, of_dy)?;
            call.check_float("dy", &member.dy)?;
            call.check_type("low", &member.low, F32)?;
            call.check_type("dlow", &member.dlow, F32)?;
            call.check_type("result", &da, F32)?;
            call.check_type("result", &db, F32)?;
            let (outputs, rank) = (member.dy.row_elements(), member.low.row_elements());
            let (dy, low, dlow) = (member.dy, member.low, member.dlow);
            members.push(GradMember { dy, outputs, low, dlow, rank, site, da, db });
        }
        let tokens = leading(&parts.x);
        let masks = parts.masks.map(|masks| Masks::new(call, masks, tokens, p)).transpose()?;
        let (x, inputs, table) = (parts.x.clone(), parts.x.row_elements(), parts.table);
        let blocks = Blocks::new(Partition { rows: 1, ..call.partition }, 1);
        Ok(Self { x, inputs, members, table, masks, scale, blocks })
    }

    /// Tiles of one window.
    fn of_window(&self) -> usize {
        let of_member = |outputs| self.blocks.column_tiles(self.inputs) + self.blocks.column_tiles(outputs);
        self.members.iter().map(|member| of_member(member.outputs)).sum()
    }

    /// Number of tiles: window by window.
    pub(super) fn tiles(&self, extents: &Extents) -> usize {
        extents.windows * self.of_window()
    }

    /// Window, member and part of tile `tile` of [`tiles`](Self::tiles).
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn tile(&self, tile: usize) -> (usize, &GradMember, Part) {
        let (window, mut rest) = (tile / self.of_window(), tile % self.of_window());
        for member in &self.members {
            let (lower, upper) =
                (self.blocks.column_tiles(self.inputs), self.blocks.column_tiles(member.outputs));
            if rest < lower {
                return (window, member, Part::Lower(self.blocks.columns(rest, self.inputs)));
            }
            rest -= lower;
            if rest < upper {
                return (window, member, Part::Upper(self.blocks.columns(rest, member.outputs)));
            }
            rest -= upper;
        }
        panic!("there are not so many tiles")
    }
}

pub(super) fn bind_down(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    Ok(portable::down(Down::new(call)?))
}

pub(super) fn bind_up_grad(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let bound = UpGrad::new(call)?;
    match bound.members[0].dy.ty().dtype {
        F32 => Ok(portable::up_grad::<f32>(bound)),
        Bf16 => Ok(portable::up_grad::<bf16>(bound)),
        I32 => Err(call.refuse("integers as its dy")),
    }
}

pub(super) fn bind_grad(call: &Call) -> Result<Box<dyn Kernel>, KernelError> {
    let bound = Grad::new(call)?;
    match bound.members[0].dy.ty().dtype {
        F32 => Ok(portable::grad::<f32>(bound)),
        Bf16 => Ok(portable::grad::<bf16>(bound)),
        I32 => Err(call.refuse("integers as its dy")),
    }
}

/// Binds `adapter_down` with vectors.
pub(super) fn bind_down_vector(call: &Call, s: impl Simd) -> Result<Box<dyn Kernel>, KernelError> {
    Ok(vector::down(Down::new(call)?, s))
}

/// Binds `adapter_up_grad` with vectors.
pub(super) fn bind_up_grad_vector(call: &Call, s: impl Simd) -> Result<Box<dyn Kernel>, KernelError> {
    Ok(vector::up_grad(UpGrad::new(call)?, s))
}

/// Binds `adapter_grad` with vectors.
pub(super) fn bind_grad_vector(call: &Call, s: impl Simd) -> Result<Box<dyn Kernel>, KernelError> {
    Ok(vector::grad(Grad::new(call)?, s))
}
