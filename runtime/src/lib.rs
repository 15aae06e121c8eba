//! Computing it.

pub mod adapter;
pub mod data;
pub mod files;
pub mod memory;
pub mod train;
pub mod weights;
