//! Training: what a run does and what it remembers.

pub mod trainer_state;
