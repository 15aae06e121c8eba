//! What a model is trained and judged on.

pub mod pretokenized;
