//! Computing it.
