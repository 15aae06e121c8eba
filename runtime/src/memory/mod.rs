//! Memory that does not belong to Rust's allocator: mapped files, and anonymous regions that plans are bound to.

pub mod file_reader;
pub mod mapped_file;
pub(crate) mod node_policy;
pub mod region;
