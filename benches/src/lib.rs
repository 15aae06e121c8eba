//! Benchmarks by criterion, on the shapes of GPT-J-6B: `cargo bench -p gptjc-benches`.
//!
//! They compare a kernel with itself, before and after a change. How far a kernel is from the machine's peak, and what
//! a whole step takes, is what `gptjc bench` measures.
