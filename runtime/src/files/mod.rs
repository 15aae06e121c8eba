//! Files that appear whole or not at all.

pub mod atomic;
mod error;
pub mod lock;
pub mod space;
pub(crate) mod target;

pub use error::FileError;
pub use target::TargetError;
