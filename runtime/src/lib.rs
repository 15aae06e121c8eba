//! Computing it.

pub mod adapter;
pub mod files;
pub mod memory;
pub mod train;
pub mod weights;
