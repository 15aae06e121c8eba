//! Tests across crates: what they share.

pub mod golden;
