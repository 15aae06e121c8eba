//! Where the files of a dataset are.
//!
//! Does: find the files of a split in a directory, under the names that GLUE, MultiNLI and Hugging Face give them. A
//! snapshot in the Hugging Face cache ([`crate::hub`]) is such a directory.
//!
//! Does not: fetch anything, or look into a file.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A part of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// To train on.
    Train,
    /// To evaluate on: of MNLI's two validation splits, that of the genres that were trained on.
    Matched,
    /// To evaluate on: that of other genres.
    Mismatched,
}

/// The extensions of files, the preferred one first.
const EXTENSIONS: [&str; 6] = ["jsonl", "json", "tsv", "csv", "parquet", "txt"];

impl Split {
    /// The names, without extension, under which its files are looked for, the preferred one first.
    pub const fn stems(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train", "multinli_1.0_train"],
            Self::Matched => {
                &["validation_matched", "dev_matched", "multinli_1.0_dev_matched", "validation", "dev"]
            }
            Self::Mismatched => &["validation_mismatched", "dev_mismatched", "multinli_1.0_dev_mismatched"],
        }
    }
}

/// Why there are no files.
#[derive(Debug, Error)]
pub enum DatasetError {
    /// A directory cannot be listed.
    #[error("cannot read {}: {source}", directory.display())]
    Io {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Of several shards, not all are there.
    #[error("{} is not there, one of {total} files of that dataset; fetch it too", file.display())]
    MissingShard {
        /// The shard.
        file: PathBuf,
        /// How many there should be.
        total: usize,
    },
}

/// The files of `split` in `directory`, in order: one file, or all shards of a Parquet file. Looked for there, then in
/// its folders `config` (also in capitals, as GLUE's archives have it) and `data`. None if there is none.
///
/// # Errors
/// See [`DatasetError`].
pub fn files(directory: &Path, config: &str, split: Split) -> Result<Option<Vec<PathBuf>>, DatasetError> {
    let folders = [
        directory.to_owned(),
        directory.join(config),
        directory.join(config.to_uppercase()),
        directory.join("data"),
    ];
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        for stem in split.stems() {
            let named = EXTENSIONS.iter().map(|extension| folder.join(format!("{stem}.{extension}")));
            if let Some(file) = named.into_iter().find(|file| file.is_file()) {
                return Ok(Some(vec![file]));
            }
            if let Some(shards) = shards(folder, stem)? {
                return Ok(Some(shards));
            }
        }
    }
    Ok(None)
}

/// The files `stem-00000-of-00002.parquet` and on.
fn shards(folder: &Path, stem: &str) -> Result<Option<Vec<PathBuf>>, DatasetError> {
    let failed = |source| DatasetError::Io { directory: folder.to_owned(), source };
    let mut found: Vec<(usize, usize, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if let Some((index, total)) = path.file_name().and_then(|name| shard(name, stem)) {
            found.push((total, index, path));
        }
    }
    // Where two cuts of a dataset lie side by side, the one of most shards is taken whole.
    found.sort();
    let Some(&(total, ..)) = found.last() else { return Ok(None) };
    found.retain(|&(of, ..)| of == total);
    for expected in 0..total {
        if found.get(expected).is_none_or(|&(_, index, _)| index != expected) {
            let file = folder.join(format!("{stem}-{expected:05}-of-{total:05}.parquet"));
            return Err(DatasetError::MissingShard { file, total });
        }
    }
    Ok(Some(found.into_iter().map(|(.., path)| path).collect()))
}

/// Index and number of shards of a file's name, if it is one of `stem`.
fn shard(name: &OsStr, stem: &str) -> Option<(usize, usize)> {
    let numbers = name.to_str()?.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(".parquet")?;
    let (index, total) = numbers.split_once("-of-")?;
    let (index, total) = (index.parse().ok()?, total.parse().ok()?);
    (index < total).then_some((index, total))
}

#[cfg(test)]
#[path = "dataset_tests.rs"]
mod tests;
