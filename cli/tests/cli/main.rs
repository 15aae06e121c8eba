//! The gptjc binary, as a user runs it. Nothing here looks inside it.
#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

mod bad_input;
mod commands;
mod common;
mod export_merge;
mod reference_workflow;
