//! The pickles that `torch.save` writes for state dicts, and nothing else that a pickle can do.
//!
//! A pickle is a program for a machine with a stack. This machine has no way to run anything: a name of Python is either
//! one of those that state dicts are made of (see [`Global`]), which this code knows what to make of, or the file is
//! refused with that name. Opcodes that state dicts do without are refused as well.
//!
//! Bounds: time is linear in the input. Memory is charged to a budget before it is taken: [`BYTES_PER_BYTE`] times what
//! was read so far, and [`BYTES_BESIDE`], far more than any state dict takes. Nothing recurses: values lie in tables of
//! a [`Heap`], so that no depth of nesting is a depth of calls.

mod error;
mod heap;
mod input;
mod machine;

pub(super) use error::PickleError;
pub(super) use heap::{Heap, Storage, Tensor, Value};

/// Budget for a byte that was read. A table that grows is there twice for a moment, which the budget does not count.
const BYTES_PER_BYTE: usize = 8;
/// Budget beside that.
const BYTES_BESIDE: usize = 2 << 20;

/// What a pickle stands for.
pub(super) struct Unpickled<'a> {
    /// All values.
    pub(super) heap: Heap<'a>,
    /// The value itself.
    pub(super) value: Value<'a>,
    /// Bytes of the input that it took.
    pub(super) length: usize,
}

/// Reads the pickle at the beginning of `bytes`.
///
/// # Errors
/// [`PickleError`]: bytes that are no pickle, or one of something else than a state dict.
pub(super) fn load(bytes: &[u8]) -> Result<Unpickled<'_>, PickleError> {
    machine::Machine::new(bytes).run()
}

#[cfg(test)]
mod tests;
