//! Memory that is not the ordinary heap.
//!
//! Today: [`mapped_file`], files read in place through the page cache.

pub mod mapped_file;
