//! Models as graphs.

pub mod gptj;
