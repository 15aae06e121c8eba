//! GPT-J with LoRA as training graphs.
//!
//! Semantics are those of Hugging Face transformers' `GPTJForCausalLM` and PEFT's `LoraLayer`: a block reads one layer
//! norm for both attention and MLP; the first `rotary_dim` lanes of each head are rotated, interleaved; q, k, v and
//! out_proj have no bias; an adapter adds `scaling * B (A dropout(x))` to its projection.
//!
//! Shapes: T slots of a micro-batch (at most `micro_batch * max_seq_length`), D = n_embd, V = vocab_size, r = rank.

mod attention;
mod block;
mod builder;
pub mod config;
mod decode;
mod head;
mod lora;
mod mlp;
pub mod names;
mod program;
pub mod sites;

pub use builder::ModelError;
pub use decode::decode_graphs;
pub use program::{TrainingProgram, training_program};
