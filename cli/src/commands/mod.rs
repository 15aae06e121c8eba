//! One module a command: flags in, calls to the libraries, what they say out.

pub(crate) mod compile;
mod data;
pub(crate) mod doctor;
mod engine;
pub(crate) mod generate;
pub(crate) mod inspect;
mod output;
mod progress;
pub(crate) mod train;
pub(crate) mod validate;
