//! Tests across crates: what they share.

pub mod golden;
pub mod interpreted;
pub mod random_model;
