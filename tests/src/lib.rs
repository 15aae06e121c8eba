//! Tests across crates: what they share.
#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

pub mod golden;
pub mod interpreted;
pub mod onnx;
pub mod random_model;
