//! What is computed: the static training graph, its ops, reverse-mode autodiff, the reference interpreter, GPT-J with
//! LoRA as graphs, and the format of the plan that a compiler makes of them.
//!
//! This crate knows nothing of CPUs and holds no tensor of a real model.
#![forbid(unsafe_code)]

pub mod attributes;
pub mod autodiff;
pub mod dtype;
pub mod edit;
pub mod entities;
pub mod graph;
pub mod hyper;
pub mod interp;
pub mod layout;
pub mod models;
pub mod onnx;
pub mod ops;
pub mod philox;
pub mod plan;
pub mod shape;
pub mod text;
pub mod verify;
pub mod wire;
