//! The pass that decides where numbers are rounded to bf16.

pub mod assign_precision;

pub use assign_precision::{AssignPrecision, Products};
