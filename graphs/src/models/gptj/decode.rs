//! The entry points of inference: `setup`, and `decode` over a key/value cache.
//!
//! `decode` takes new tokens of several sequences, adds their keys and values to the cache and gives the logits of the
//! slots in `labelled`: a whole prompt, a part of one, or one token a sequence. Adapters stay apart from the weights.

use super::builder::{Builder, ModelError, Tokens};
use super::program::{check, out_of_range, setup};
use crate::entities::ValueId;
use crate::graph::{Graph, Role};
use crate::ops::rows::GatherRows;
use crate::plan::CompileOptions;
use crate::shape::{Dim, TensorType};

/// The values that carry new tokens.
#[derive(Clone, Copy)]
pub(super) struct Decode {
    pub(super) tokens: ValueId,
    pub(super) position: ValueId,
    pub(super) cache_slot: ValueId,
    pub(super) labelled: ValueId,
    /// For adapters' dropout, which inference does not have: never read.
    pub(super) window_table: ValueId,
}

impl Decode {
    /// All slots.
    pub(super) fn slots(&self) -> Tokens {
        Tokens { window_table: self.window_table, labelled: None }
    }
}

/// Builds the graphs for `options.decode_sequences` sequences and runs of at most `options.decode_slots` new tokens.
///
/// # Errors
/// [`ModelError`] if an option is out of its range or a LoRA target does not exist.
pub fn decode_graphs(options: &CompileOptions) -> Result<Vec<Graph>, ModelError> {
    check(options)?;
    for (option, value) in
        [("decode_sequences", options.decode_sequences), ("decode_slots", options.decode_slots)]
    {
        if !(1..=1 << 24).contains(&value) {
            return Err(out_of_range(option, format!("a number from 1 to {}", 1 << 24), value));
        }
    }
    Ok(vec![setup(options)?, decode(options)?])
}

fn decode(options: &CompileOptions) -> Result<Graph, ModelError> {
    let mut builder = Builder::new("decode", options, 1, false);
    let slots = options.decode_slots as usize;
    let mut input = |name: &str, dim: Dim| builder.graph.input(name, Role::Batch, TensorType::i32([dim]));
    let decode = Decode {
        tokens: input("tokens", Dim::slots(slots))?,
        position: input("position", Dim::slots(slots))?,
        cache_slot: input("cache_slot", Dim::slots(slots))?,
        labelled: input("labelled", Dim::rows(slots))?,
        window_table: builder.graph.input(
            "window_table",
            Role::Batch,
            TensorType::i32([Dim::windows(1), Dim::fixed(2)]),
        )?,
    };
    let rotary = builder.rotary_tables()?;
    let mut x = builder.embedding(decode.tokens)?;
    for layer in 0..options.model.n_layer as usize {
        x = builder.cached_block(layer, x, &decode, rotary)?;
    }
    builder.graph.set_module("transformer");
    let rows = builder.graph.push1(GatherRows, &[x, decode.labelled])?;
    let logits = builder.logits(rows)?;
    builder.graph.output("logits", logits);
    Ok(builder.graph)
}
