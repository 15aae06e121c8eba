//! Where temporaries and weights live: live ranges, their packing into one arena, and the streaming of weights.
//!
//! What is decided here is proved again by [`gptjc_graphs::plan::verify`], which looks at the steps alone.

pub mod arena;
pub mod liveness;
pub mod residency;
pub mod stream;
