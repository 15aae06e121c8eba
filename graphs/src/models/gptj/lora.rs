//! A projection with its adapter, if it has one.
//!
//! ```text
//! base = x · Wᵀ
//! y    = base + scaling · ((dropout(x) · Aᵀ) · Bᵀ)
//! ```
//!
//! Source: Hu et al. 2021, LoRA; the order of operations is that of PEFT's `lora.Linear.forward`.

use super::builder::{Builder, ModelError, Tokens};
use super::names::{Projection, lora_a, lora_b};
use crate::entities::ValueId;
use crate::graph::Role;
use crate::ops::dropout::Dropout;
use crate::ops::elementwise::{Add, Scale};
use crate::ops::matmul::Matmul;
use crate::shape::{Dim, TensorType};

impl Builder<'_> {
    /// `x[T, inputs] -> [T, outputs]`, without bias; row t of `x` is a slot as `tokens` says.
    pub(super) fn projection(
        &mut self,
        layer: usize,
        projection: Projection,
        x: ValueId,
        tokens: Tokens,
    ) -> Result<ValueId, ModelError> {
        let module = projection.module(layer);
        let (outputs, inputs) = projection.shape(&self.options.model);
        self.graph.set_module(&module);
        let weight = self.weight(&format!("{module}.weight"), &[outputs, inputs])?;
        let base = self.graph.push1(Matmul::nt(), &[x, weight])?;
        let Some(lora) = self.adapter(layer, projection) else { return Ok(base) };
        let (rank, dropout, factor) = (lora.rank as usize, lora.dropout, lora.scaling());
        let a = self.parameter(&lora_a(&module), &[rank, inputs])?;
        let b = self.parameter(&lora_b(&module), &[outputs, rank])?;
        let x = if self.training && dropout > 0.0 {
            let counter = self.counter()?;
            let op = Dropout { p: dropout, site: projection.dropout_site(layer) };
            let mut operands = vec![x, tokens.window_table, counter];
            operands.extend(tokens.labelled);
            self.graph.push1(op, &operands)?
        } else {
            x
        };
        let low = self.graph.push1(Matmul::nt(), &[x, a])?;
        let up = self.graph.push1(Matmul::nt(), &[low, b])?;
        let scaled = self.graph.push1(Scale { factor }, &[up])?;
        Ok(self.graph.push1(Add, &[base, scaled])?)
    }

    /// The control input (seed low, seed high, optimizer step, first global window).
    pub(super) fn counter(&mut self) -> Result<ValueId, ModelError> {
        match self.graph.find_input("counter") {
            Some(input) => Ok(input.value),
            None => Ok(self.graph.input("counter", Role::Control, TensorType::i32([Dim::fixed(4)]))?),
        }
    }
}
