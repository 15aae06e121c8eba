//! One mapped safetensors file whose header has been read and checked against the length of the file.
//!
//! Does not interpret dtypes or names: checkpoints, adapters and pre-tokenised batches do that, each in its own way.
//!
//! Invariant: the byte range of every entry lies inside the file and has the length that its dtype and shape say.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, SafeTensorError, SafeTensors};
use thiserror::Error;

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
    #[error("`{}` has no valid safetensors header: {source}; copy or download it again", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: SafeTensorError,
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
        let (data_start, metadata) = read_header(path, mapped.bytes())?;
        let entries = metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| {
                let (start, end) = info.data_offsets;
                let entry = Entry {
                    dtype: info.dtype,
                    shape: info.shape.clone(),
                    start: data_start + start,
                    end: data_start + end,
                };
                (name, entry)
            })
            .collect();
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

    /// As [`MappedFile::release`], for bytes counted from the start of the file.
    pub fn release(&self, range: Range<usize>) {
        self.mapped.release(range);
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        self.mapped.path()
    }
}

/// Returns where the data starts, and the table of tensors.
fn read_header(path: &Path, bytes: &[u8]) -> Result<(usize, Metadata), SafetensorsError> {
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(SafetensorsError::LfsPointer { path: path.to_owned() });
    }
    let found = bytes.len() as u64;
    let length = bytes.first_chunk::<8>().map(|field| u64::from_le_bytes(*field));
    let header_end = LENGTH_FIELD.saturating_add(length.unwrap_or(0));
    if length.is_none() || header_end > found {
        return Err(SafetensorsError::HeaderBeyondFile { path: path.to_owned(), header_end, found });
    }
    match SafeTensors::read_metadata(bytes) {
        Ok((header, metadata)) => Ok((LENGTH_FIELD as usize + header, metadata)),
        Err(SafeTensorError::MetadataIncompleteBuffer) => {
            // The header itself is well formed: parse it once more, only to say how long the file should be.
            let header = &bytes[LENGTH_FIELD as usize..header_end as usize];
            let data = serde_json::from_slice::<Metadata>(header).map_or(0, |metadata| metadata.data_len());
            let expected = header_end.saturating_add(data as u64);
            Err(SafetensorsError::Length { path: path.to_owned(), expected, found })
        }
        Err(source) => Err(SafetensorsError::Header { path: path.to_owned(), source }),
    }
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
