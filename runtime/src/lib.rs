//! Computing it: kernels, executor, weights, data, training, adapters.
//!
//! The runtime sees of a model only its plan: it knows no graph and no GPT-J.

pub mod adapter;
pub mod bench;
pub mod convert;
pub mod data;
pub mod diagnosis;
pub mod evaluate;
pub mod executor;
pub mod export;
pub mod files;
mod hex;
pub mod hub;
pub mod isa;
pub mod kernels;
pub mod machine;
pub mod memory;
pub mod merge;
pub mod ranks;
pub mod record;
pub mod self_test;
pub mod synth;
pub mod topology;
pub mod train;
pub mod validate;
pub mod weights;
