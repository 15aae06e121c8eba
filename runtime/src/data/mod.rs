//! From rows of text, or of token ids, to the micro-batches that a plan takes.
//!
//! In the order in which data flows: [`dataset`] finds files, [`mod@format`] says how to read one, [`table`] takes records
//! out of it, and [`mnli`], [`completion`] or [`document`] rows out of those, which [`rows`] holds. [`prompt`] writes an
//! MNLI row as a prompt and its answer, [`tokenizer`] and [`examples`] turn rows into ids and labels, [`packing`] puts
//! examples into [`window`]s, [`sampler`] says which windows an optimizer step takes, [`micro_batch`] lays the windows of
//! a micro-step back to back. [`pretokenized`] reads batches that were tokenised elsewhere. [`survey`] counts what became
//! of it all.
//!
//! No pad slot exists after [`window`]: what was padding is dropped there, and nothing later has to mask it.
//!
//! Does not: run anything, print anything, or open the network.

pub mod completion;
pub mod dataset;
pub mod document;
pub mod examples;
pub mod format;
pub mod micro_batch;
pub mod mnli;
pub mod packing;
pub mod pretokenized;
pub mod prompt;
pub mod rows;
pub mod sampler;
pub mod survey;
pub mod table;
pub mod tokenizer;
pub mod window;

#[cfg(test)]
mod golden_tests;
