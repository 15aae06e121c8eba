//! Files that appear whole or not at all.

pub mod atomic;
mod error;

pub use error::FileError;
