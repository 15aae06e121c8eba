//! What a converted directory was made of.
//!
//! Files are compared by length and time of change, as build tools do: hashing 24 GB would take as long as converting
//! them. Their names are compared without directories, so that a model that was moved is still the same.

use std::fs::{self, Metadata};
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::write::PlannedFile;
use super::{ConvertError, ConvertRequest, Rounding};
use crate::export::Sidecar;
use crate::files::FileError;

/// The record's file in the directory.
pub const RECORD_FILE: &str = "gptjc_conversion.json";
/// Version of the record; another one is another conversion.
const FORMAT: u32 = 1;
/// Bytes of a record at most.
const LONGEST: u64 = 1 << 20;

/// What a converted directory was made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// The directory that it was made of.
    source: String,
    /// The files that were read.
    source_files: Vec<FileRecord>,
    /// The type of its weights, as transformers names it.
    dtype: String,
    max_shard_bytes: u64,
    /// The files of weights that were written.
    files: Vec<FileRecord>,
    /// What rounding changed.
    rounding: Rounding,
}

/// A file, as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileRecord {
    name: String,
    bytes: u64,
    /// Nanoseconds since 1970; none of files that were written, whose time depends on who copied them.
    modified: Option<u64>,
}

impl FileRecord {
    /// The file at `path` as it is now.
    fn of(path: &Path) -> Result<FileRecord, FileError> {
        let metadata = fs::metadata(path).map_err(|source| FileError::new("read", path, source))?;
        Ok(FileRecord { name: name(path), bytes: metadata.len(), modified: modified(&metadata) })
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn modified(metadata: &Metadata) -> Option<u64> {
    let since = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}

impl Record {
    /// The record of a conversion that has been written.
    pub(super) fn of(
        request: &ConvertRequest<'_>,
        sidecars: &[Sidecar],
        files: &[PlannedFile],
        rounding: Rounding,
    ) -> Result<Record, FileError> {
        let written =
            |file: &PlannedFile| FileRecord { name: file.name.clone(), bytes: file.bytes, modified: None };
        Ok(Record {
            format: FORMAT,
            source: request.checkpoint.origin().display().to_string(),
            source_files: source_files(request, sidecars)?,
            dtype: request.dtype.hugging_face_name().to_owned(),
            max_shard_bytes: request.max_shard_bytes,
            files: files.iter().map(written).collect(),
            rounding,
        })
    }

    /// The record in `directory`; none if there is none that can be read.
    pub fn read(directory: &Path) -> Option<Record> {
        let path = directory.join(RECORD_FILE);
        if fs::metadata(&path).ok()?.len() > LONGEST {
            return None;
        }
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// What rounding changed.
    pub fn rounding(&self) -> &Rounding {
        &self.rounding
    }

    /// Writes it into `inside`, which is to become `directory`.
    pub(super) fn write(&self, inside: &Path, directory: &Path) -> Result<(), ConvertError> {
        let failed = |source| FileError::new("write", &directory.join(RECORD_FILE), source);
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.into()))?;
        Ok(fs::write(inside.join(RECORD_FILE), format!("{text}\n")).map_err(failed)?)
    }

    /// True if it is of what `request` asks for, and everything is there.
    pub(super) fn holds(&self, request: &ConvertRequest<'_>, sidecars: &[Sidecar]) -> bool {
        let asked = (FORMAT, request.dtype.hugging_face_name(), request.max_shard_bytes);
        let is_whole = |file: &FileRecord| {
            fs::metadata(request.directory.join(&file.name)).is_ok_and(|found| found.len() == file.bytes)
        };
        (self.format, self.dtype.as_str(), self.max_shard_bytes) == asked
            && source_files(request, sidecars).is_ok_and(|files| files == self.source_files)
            && self.files.iter().all(is_whole)
    }
}

/// The files that a conversion reads.
fn source_files(request: &ConvertRequest<'_>, sidecars: &[Sidecar]) -> Result<Vec<FileRecord>, FileError> {
    let copied = sidecars.iter().filter_map(|sidecar| match sidecar {
        Sidecar::Copy(path) => Some(path.as_path()),
        Sidecar::Text { .. } => None,
    });
    request.checkpoint.files().chain(copied).map(FileRecord::of).collect()
}
