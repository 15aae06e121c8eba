//! A file mapped read-only into memory.
//!
//! Opening costs no reading: pages come from disk when they are first touched, and the kernel may drop
//! them again, so a checkpoint larger than memory can be opened.
//! Does not: write, lock the file, or read ahead.
//!
//! Invariant: the bytes are those of the file when it was opened, as long as nobody changes the file in
//! place. gptjc itself replaces files by rename only (see [`crate::files::atomic`]), which leaves an existing mapping
//! whole.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::{Advice, Mmap, UncheckedAdvice};
use thiserror::Error;

use super::file_reader::FileReader;

/// Why a file could not be mapped.
#[derive(Debug, Error)]
pub enum MapError {
    /// The file cannot be opened or examined.
    #[error("cannot read `{}`: {source}; check that it exists and may be read", path.display())]
    Open {
        /// The file asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path is a directory, a pipe or a device.
    #[error("cannot read `{}`: expected a regular file, found something else; give the path of a file", path.display())]
    NotAFile {
        /// The path asked for.
        path: PathBuf,
    },
    /// The file system or the address space refused the mapping.
    #[error(
        "cannot map `{}` ({len} bytes) into memory: {source}; copy it to a local file system, or raise the limit on address space (`ulimit -v`)",
        path.display()
    )]
    Map {
        /// The file asked for.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
        /// What the system said.
        source: io::Error,
    },
}

/// A read-only view of a whole file.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    file: File,
    map: Mmap,
}

impl MappedFile {
    /// Maps the file at `path`. An empty file gives an empty view.
    ///
    /// # Errors
    /// [`MapError`] if the path is not a readable regular file or cannot be mapped.
    pub fn open(path: &Path) -> Result<MappedFile, MapError> {
        let open_error = |source| MapError::Open { path: path.to_owned(), source };
        let metadata = std::fs::metadata(path).map_err(open_error)?;
        if !metadata.is_file() {
            return Err(MapError::NotAFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(open_error)?;
        // SAFETY: the mapping is read-only and lives as long as the `Mmap` that owns it; every slice of it
        // borrows from `self`. What the type system cannot see is another process that changes or truncates
        // the file in place: that is outside the contract stated in the module's documentation (gptjc never does).
        let map = unsafe { Mmap::map(&file) }.map_err(|source| MapError::Map {
            path: path.to_owned(),
            len: metadata.len(),
            source,
        })?;
        Ok(MappedFile { path: path.to_owned(), file, map })
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Tells the system that the bytes of `range` will not be read soon: their pages no longer count as memory of this
    /// process. Reading them again brings them back from the file. What lies behind the file's end is ignored.
    pub fn release(&self, range: Range<usize>) {
        let length = range.end.min(self.map.len()).saturating_sub(range.start);
        if length == 0 {
            return;
        }
        // SAFETY: the mapping is read-only and of a file, so that no page of it can differ from the file: dropping a page
        // changes no byte that anybody reads, now or later; the next access brings the same contents back. The range
        // lies inside the mapping.
        let result =
            unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, length) };
        // A system that refuses the advice keeps the pages: that costs memory and nothing else.
        let _ = result;
    }

    /// Tells the system that the bytes of `range` will be read soon, so that it begins to fetch them. What lies behind
    /// the file's end is ignored.
    pub fn prefetch(&self, range: Range<usize>) {
        let length = range.end.min(self.map.len()).saturating_sub(range.start);
        if length > 0 {
            let _ = self.map.advise_range(Advice::WillNeed, range.start, length); // it is only advice
        }
    }

    /// A reader of the same file, which takes up no room in this view.
    ///
    /// # Errors
    /// What the system says if it gives no other descriptor.
    pub fn reader(&self) -> io::Result<FileReader> {
        FileReader::new(&self.file)
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_file_even_after_it_is_replaced_by_rename() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights");
        std::fs::write(&path, b"old bytes").unwrap();
        let mapped = MappedFile::open(&path).unwrap();
        std::fs::write(dir.path().join("new"), b"new").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(mapped.bytes(), b"old bytes");
        assert_eq!(mapped.path(), path);
    }

    #[test]
    fn released_bytes_are_still_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights");
        let bytes: Vec<u8> = (0..40_000u32).map(|index| (index % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let mapped = MappedFile::open(&path).unwrap();
        assert_eq!(mapped.bytes(), bytes);
        for range in [0..40_000, 5_000..9_000, 39_999..100_000, 100_000..100_001, 7..7] {
            mapped.release(range.clone());
            mapped.prefetch(range.clone());
            assert_eq!(mapped.bytes(), bytes, "{range:?}");
        }
    }

    #[test]
    fn an_empty_file_is_an_empty_view() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty");
        std::fs::write(&path, b"").unwrap();
        assert_eq!(MappedFile::open(&path).unwrap().bytes(), b"");
    }

    #[test]
    fn a_missing_file_and_a_directory_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing.safetensors");
        let message = MappedFile::open(&missing).unwrap_err().to_string();
        assert!(message.contains("missing.safetensors") && message.contains("No such file"), "{message}");
        let message = MappedFile::open(dir.path()).unwrap_err().to_string();
        assert!(message.contains("expected a regular file"), "{message}");
    }
}
