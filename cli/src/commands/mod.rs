//! One module a command: flags in, calls to the libraries, what they say out.

pub(crate) mod bench;
mod byte_progress;
mod compare;
pub(crate) mod compile;
pub(crate) mod convert;
pub(crate) mod data;
pub(crate) mod doctor;
mod engine;
mod evaluation;
pub(crate) mod export;
pub(crate) mod generate;
pub(crate) mod inspect;
pub(crate) mod merge;
mod model;
mod output;
mod progress;
mod questions;
pub(crate) mod report;
mod run;
mod run_facts;
pub(crate) mod self_test;
pub(crate) mod synth;
pub(crate) mod synth_data;
pub(crate) mod train;
pub(crate) mod validate;
mod variants;
mod weights;
