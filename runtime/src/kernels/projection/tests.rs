//! Against the ops.
