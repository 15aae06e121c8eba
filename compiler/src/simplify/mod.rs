//! Passes that make a graph smaller and leave its meaning alone.

mod dead_code;

pub use dead_code::DeadCode;
