//! Files that appear whole or not at all.

pub mod atomic;
mod error;
pub mod lock;
pub mod space;

pub use error::FileError;
