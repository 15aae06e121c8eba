//! The gptjc binary.
fn main() {}
