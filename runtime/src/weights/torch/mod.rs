//! The files of `torch.save`: `pytorch_model.bin`, in the zip format and in the one before it (torch 1.5 and older).
//!
//! Both are a pickled state dict and the elements of its storages, as they are in memory. The pickle is read by a
//! machine of our own that runs nothing ([`pickle`]), and the elements stay where they are in the mapped file.
//!
//! Does not: read TorchScript, whole pickled modules, or tensors that are no run of elements; swap bytes.

mod error;
mod legacy;
mod pickle;
mod state_dict;
mod zip_directory;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

pub use error::{PickleProblem, TorchError};
use pickle::{Storage, Unpickled};
use state_dict::Refusal;
use zip_directory::Directory;

use super::safetensors_file::Entry;
use crate::memory::mapped_file::MappedFile;

/// Maps the file at `path` and finds its tensors, but those whose names `is_ignored` says.
///
/// Every entry lies inside the file, and has the bytes that its type and shape say.
///
/// # Errors
/// [`TorchError`]: what is no state dict of `torch.save`, or is damaged.
pub(super) fn open(
    path: &Path,
    is_ignored: fn(&str) -> bool,
) -> Result<(MappedFile, BTreeMap<String, Entry>), TorchError> {
    let mapped = MappedFile::open(path)?;
    let entries = entries(path, mapped.bytes(), is_ignored)?;
    Ok((mapped, entries))
}

/// The tensors of the file `path`, whose bytes are `bytes`.
fn entries(
    path: &Path,
    bytes: &[u8],
    is_ignored: fn(&str) -> bool,
) -> Result<BTreeMap<String, Entry>, TorchError> {
    if zip_directory::is_zip(bytes) {
        return zip_entries(path, bytes, is_ignored);
    }
    if legacy::is_legacy(bytes) {
        return legacy::entries(path, bytes, is_ignored);
    }
    let again = "copy or download it again";
    let (found, advice) = if bytes.is_empty() {
        ("empty", again)
    } else if bytes.starts_with(b"version https://git-lfs") {
        ("a Git LFS pointer, not the tensors themselves", "fetch them with `git lfs pull` in its directory")
    } else if bytes.starts_with(b"<") {
        ("a web page", again)
    } else {
        ("of an unknown format", again)
    };
    Err(TorchError::NotTorch { path: path.to_owned(), found, advice })
}

fn zip_entries(
    path: &Path,
    bytes: &[u8],
    is_ignored: fn(&str) -> bool,
) -> Result<BTreeMap<String, Entry>, TorchError> {
    let damaged = |reason: String| TorchError::Archive { path: path.to_owned(), reason };
    let directory = zip_directory::read(bytes).map_err(damaged)?;
    let folder = folder(&directory).map_err(|reason| damaged(reason.to_owned()))?;
    let record = |name: &str| directory.get(format!("{folder}/{name}").as_str()).cloned();
    if record("byteorder").is_some_and(|range| bytes[range] != *b"little") {
        return Err(big_endian(path));
    }
    let range = record("data.pkl").unwrap_or_default();
    let place = |storage: &Storage<'_>| {
        let record = record(&format!("data/{}", storage.key));
        record.ok_or_else(|| {
            format!("there is no record `{folder}/data/{}`", state_dict::shortened(storage.key))
        })
    };
    let unpickled = pickle::load(&bytes[range]).map_err(|error| refused(path, error))?;
    table(path, &unpickled, is_ignored, place)
}

/// The folder that everything in the archive is in.
fn folder<'a>(directory: &Directory<'a>) -> Result<&'a str, &'static str> {
    let mut found = directory.keys().filter_map(|name| name.strip_suffix("/data.pkl"));
    let folder = found.next().ok_or("there is no record `data.pkl` in a folder")?;
    match found.next() {
        Some(_) => Err("there are several records `data.pkl`"),
        None => Ok(folder),
    }
}

/// The tensors of a state dict, whose storages are where `place` says.
fn table<'a>(
    path: &Path,
    unpickled: &Unpickled<'a>,
    is_ignored: fn(&str) -> bool,
    place: impl Fn(&Storage<'a>) -> Result<Range<usize>, String>,
) -> Result<BTreeMap<String, Entry>, TorchError> {
    let path_of = || path.to_owned();
    let refused = |refusal| match refusal {
        Refusal::NotAStateDict(reason) => TorchError::NotAStateDict { path: path_of(), reason },
        Refusal::Tensor(name, reason) => TorchError::Tensor { path: path_of(), name, reason },
    };
    let tensors = state_dict::tensors(unpickled, is_ignored).map_err(refused)?;
    let mut entries = BTreeMap::new();
    for (name, tensor) in tensors {
        let damaged = |reason: String| {
            let reason = format!("{reason}; copy or download the file again");
            refused(Refusal::Tensor(state_dict::shortened(name), reason))
        };
        let storage = &tensor.storage;
        let range = place(storage).map_err(damaged)?;
        if state_dict::storage_bytes(storage) != Some(range.len()) {
            let (elements, found) = (storage.elements, range.len());
            return Err(damaged(format!(
                "its storage of {elements} elements takes {found} bytes in the file"
            )));
        }
        let entry = state_dict::entry(&unpickled.heap, name, tensor, range).map_err(refused)?;
        entries.insert(name.to_owned(), entry);
    }
    Ok(entries)
}

fn refused(path: &Path, error: pickle::PickleError) -> TorchError {
    TorchError::Pickle { path: path.to_owned(), source: PickleProblem(error) }
}

fn big_endian(path: &Path) -> TorchError {
    TorchError::NotTorch {
        path: path.to_owned(),
        found: "from a big-endian machine",
        advice: "load it on such a machine and save it as safetensors",
    }
}

#[cfg(test)]
mod tests;
