//! Computing it.

pub mod data;
