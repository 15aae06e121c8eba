//! One mapped safetensors file whose header has been read and checked against the length of the file.
//!
//! Does not interpret dtypes or names: checkpoints, adapters and pre-tokenised batches do that, each in its own way.
//!
//! Invariant: the byte range of every entry lies inside the file and has the length that its dtype and shape say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use thiserror::Error;

use super::safetensors_header;
use crate::memory::mapped_file::{MapError, MappedFile};

/// Bytes of the length field at the start of a safetensors file.
const LENGTH_FIELD: u64 = 8;

/// Why a file is not a whole safetensors file.
#[derive(Debug, Error)]
pub enum SafetensorsError {
    /// The file cannot be opened.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A placeholder of Git LFS, not the file itself.
    #[error(
        "`{}` is a Git LFS pointer, not the tensors themselves: fetch them with `git lfs pull` in its directory",
        path.display()
    )]
    LfsPointer {
        /// The file.
        path: PathBuf,
    },
    /// The file ends inside its header.
    #[error(
        "`{}` is truncated, or no safetensors file: its header should end at byte {header_end}, the file has {found} bytes; copy or download it again",
        path.display()
    )]
    HeaderBeyondFile {
        /// The file.
        path: PathBuf,
        /// Where the header should end.
        header_end: u64,
        /// Length of the file in bytes.
        found: u64,
    },
    /// The file ends inside its data, or has bytes that no tensor owns.
    #[error(
        "`{}` is {}: its header describes {expected} bytes, the file has {found}; copy or download it again",
        path.display(),
        if found < expected { "truncated" } else { "too long" }
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Length that the header implies, in bytes.
        expected: u64,
        /// Length of the file in bytes.
        found: u64,
    },
    /// The header is not what the format asks for.
    #[error("`{}` has no valid safetensors header: {reason}; copy or download it again", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A tensor's place in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Element type as written in the header.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// First byte, counted from the start of the file.
    pub start: usize,
    /// Byte after the last, counted from the start of the file.
    pub end: usize,
}

/// A mapped safetensors file and its table of tensors.
#[derive(Debug)]
pub struct SafetensorsFile {
    mapped: MappedFile,
    entries: BTreeMap<String, Entry>,
}

impl SafetensorsFile {
    /// Maps `path`, reads its header and checks it against the length of the file.
    ///
    /// # Errors
    /// [`SafetensorsError`] if the file cannot be read, is truncated, or is not a safetensors file.
    pub fn open(path: &Path) -> Result<SafetensorsFile, SafetensorsError> {
        let mapped = MappedFile::open(path)?;
        let entries = read_entries(path, mapped.bytes())?;
        Ok(SafetensorsFile { mapped, entries })
    }

    /// The mapped file and the table.
    pub(super) fn into_parts(self) -> (MappedFile, BTreeMap<String, Entry>) {
        (self.mapped, self.entries)
    }

    /// All tensors by name.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// The bytes of `entry`, which must come from this file: little-endian, row-major, of any alignment.
    pub fn bytes(&self, entry: &Entry) -> &[u8] {
        &self.mapped.bytes()[entry.start..entry.end]
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        self.mapped.path()
    }
}

/// The table of tensors of the file `path`, whose bytes are `bytes`.
fn read_entries(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Entry>, SafetensorsError> {
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(SafetensorsError::LfsPointer { path: path.to_owned() });
    }
    let found = bytes.len() as u64;
    let length = bytes.first_chunk::<8>().map(|field| u64::from_le_bytes(*field));
    let header_end = LENGTH_FIELD.saturating_add(length.unwrap_or(0));
    if length.is_none() || header_end > found {
        return Err(SafetensorsError::HeaderBeyondFile { path: path.to_owned(), header_end, found });
    }
    let data_start = header_end as usize; // inside of the file, which is mapped
    let header = safetensors_header::parse(&bytes[LENGTH_FIELD as usize..data_start])
        .map_err(|reason| SafetensorsError::Header { path: path.to_owned(), reason })?;
    let expected = header_end.saturating_add(header.data_length as u64);
    if expected != found {
        return Err(SafetensorsError::Length { path: path.to_owned(), expected, found });
    }
    let mut entries = header.entries;
    for entry in entries.values_mut() {
        entry.start += data_start;
        entry.end += data_start;
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message_for(bytes: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        std::fs::write(&path, bytes).unwrap();
        SafetensorsFile::open(&path).unwrap_err().to_string()
    }

    /// A file with one tensor `w` f32 [2, 3] of the bytes 0..24.
    fn small() -> Vec<u8> {
        let header = br#"{"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#;
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header);
        file.extend(0..24u8);
        file
    }

    #[test]
    fn entries_point_at_the_bytes_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        std::fs::write(&path, small()).unwrap();
        let file = SafetensorsFile::open(&path).unwrap();
        let entry = &file.entries()["w"];
        assert_eq!((entry.dtype, entry.shape.as_slice()), (Dtype::F32, [2, 3].as_slice()));
        assert_eq!(file.bytes(entry), (0..24u8).collect::<Vec<_>>());
        assert_eq!(small()[entry.start..entry.end], *file.bytes(entry));
    }

    #[test]
    fn every_truncation_is_noticed_and_says_how_long_the_file_should_be() {
        let whole = small();
        for len in 0..whole.len() {
            let message = message_for(&whole[..len]);
            assert!(message.contains("model.safetensors` is truncated"), "{len}: {message}");
            assert!(
                message.contains(&format!("{len} bytes")) || message.contains(&format!("has {len};")),
                "{message}"
            );
        }
        assert!(message_for(&whole[..whole.len() - 1]).contains(&format!("describes {} bytes", whole.len())));
    }

    #[test]
    fn bytes_behind_the_data_are_refused() {
        let mut file = small();
        file.push(0);
        assert!(message_for(&file).contains("too long"));
    }

    #[test]
    fn a_header_that_lies_is_refused() {
        let whole = String::from_utf8_lossy(&small()).into_owned();
        for (from, to) in [("[2,3]", "[2,4]"), ("[0,24]", "[1,24]"), ("F32", "F99"), ("{\"w", "[\"w")] {
            let message = message_for(whole.replace(from, to).as_bytes());
            assert!(message.contains("no valid safetensors header"), "{from} -> {to}: {message}");
        }
    }

    #[test]
    fn a_git_lfs_pointer_is_recognised() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n";
        assert!(message_for(pointer).contains("git lfs pull"));
    }
}
