//! Passes that make a graph smaller and leave its meaning alone.

pub mod dead_code;

pub use dead_code::DeadCode;
