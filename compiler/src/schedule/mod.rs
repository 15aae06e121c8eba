//! Passes that change the order in which nodes run, and nothing else.

pub mod early_updates;
mod reorder;

pub use early_updates::EarlyUpdates;
pub(crate) use reorder::reorder;
