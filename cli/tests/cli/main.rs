//! The gptjc binary, as a user runs it. Nothing here looks inside it.
#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

mod bad_input;
mod bad_questions;
mod bench;
mod case;
mod commands;
mod common;
mod compare;
mod completions;
mod data;
mod demo;
mod doctor;
mod evaluation;
mod export_merge;
mod inspect;
mod lora_targets;
mod models;
#[cfg(feature = "mpi")]
mod mpirun;
mod questions;
#[cfg(not(feature = "mpi"))]
mod ranks;
mod reference_workflow;
mod resume;
mod synth;
mod synth_data;
mod tiny_model;
mod training_flags;
