//! Computing it.

pub mod files;
pub mod memory;
pub mod weights;
