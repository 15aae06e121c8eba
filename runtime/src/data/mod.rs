//! From rows of text, or of token ids, to the micro-batches that a plan takes.
//!
//! In the order in which data flows: [`mnli`] reads labelled rows, [`prompt`] writes each as a prompt and its answer,
//! [`tokenizer`] and [`examples`] turn that into ids and labels, [`packing`] puts examples into [`window`]s, [`sampler`]
//! says which windows an optimizer step takes, [`micro_batch`] lays the windows of a micro-step back to back.
//! [`pretokenized`] reads batches that were tokenised elsewhere.
//!
//! No pad slot exists after [`window`]: what was padding is dropped there, and nothing later has to mask it.
//!
//! Does not: run anything, print anything, or open the network.

pub mod examples;
pub mod micro_batch;
pub mod mnli;
pub mod packing;
pub mod pretokenized;
pub mod prompt;
pub mod sampler;
pub mod tokenizer;
pub mod window;

#[cfg(test)]
mod golden_tests;
