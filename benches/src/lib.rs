//! Benchmarks by criterion, on the shapes of GPT-J-6B: `cargo bench -p gptjc-benches`.
//!
//! `products` and `step_kernels` compare a kernel with itself, before and after a change; `peers` compares products with
//! those of other libraries. How far a kernel is from the machine's peak, and what
//! a whole step takes, is what `gptjc bench` measures.
