//! Where temporaries live: live ranges, and their packing into one arena.
//!
//! What is decided here is proved again by [`gptjc_graphs::plan::verify`], which looks at the steps alone.

pub mod arena;
pub mod liveness;
