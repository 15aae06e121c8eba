//! One module a command: flags in, calls to the libraries, what they say out.

pub(crate) mod compile;
mod data;
pub(crate) mod inspect;
mod output;
mod progress;
pub(crate) mod train;
