//! Models and data sets by their names on the Hugging Face hub, as the local cache has them.
//!
//! The cache is a directory of repositories, `models--owner--name` and `datasets--owner--name`, each with `refs/` (a
//! revision's commit), `snapshots/<commit>/` (its files, symbolic links) and `blobs/` (what the links lead to). Where
//! it is follows the variables of `huggingface_hub`; see [`Caches`].
//!
//! Does not: open the network. What is missing is an error with the command that downloads it. Does not know which
//! files a repository should have: a snapshot whose links are whole may still lack a file, which the reader of the
//! snapshot finds out; [`Snapshot::unfinished`] says whether a download was broken off.

mod caches;
mod error;
mod repository;

use std::fs;
use std::path::{Path, PathBuf};

pub use caches::Caches;
pub use error::HubError;
pub use repository::{Kind, Repository};

/// Directories inside a snapshot are followed so far down.
const DEEPEST: usize = 8;
/// The longest content of a file in `refs/` that is read.
const LONGEST_REF: u64 = 256;

/// The files of one commit of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The directory with its files.
    pub directory: PathBuf,
    /// The commit.
    pub commit: String,
    /// Downloads into the repository that were broken off, or are going on: files of the cache, not of the snapshot.
    pub unfinished: Vec<PathBuf>,
}

/// Finds `name` (`owner/name`, or `owner/name@revision`) in the cache of this process's user; without a `revision` it is
/// the main one.
///
/// # Errors
/// [`HubError`]: a name that is none, what is not in the cache, or is there in part; each says what to run.
pub fn find(kind: Kind, name: &str, revision: Option<&str>) -> Result<Snapshot, HubError> {
    Caches::of_process().find(&Repository::new(kind, name, revision)?)
}

impl Caches {
    /// Finds `repository` in the first cache that has it.
    ///
    /// # Errors
    /// As [`find`].
    pub fn find(&self, repository: &Repository) -> Result<Snapshot, HubError> {
        let Some(root) = self.directories().iter().find_map(|cache| folder(cache, repository)) else {
            let looked = self.directories().to_vec();
            return Err(HubError::NotCached { repository: Box::new(repository.clone()), looked });
        };
        let commit = commit(&root, repository)?;
        let directory = root.join("snapshots").join(&commit);
        let unfinished = unfinished(&root.join("blobs"));
        check_links(&directory, repository, &unfinished, DEEPEST)?;
        Ok(Snapshot { directory, commit, unfinished })
    }
}

/// The folder of `repository` in `cache`. The hub tells no names apart that differ in case only, so the cache's may.
fn folder(cache: &Path, repository: &Repository) -> Option<PathBuf> {
    let name = repository.folder();
    let exact = cache.join(&name);
    if exact.is_dir() {
        return Some(exact);
    }
    let entries = fs::read_dir(cache).ok()?.filter_map(Result::ok);
    let same = entries.map(|entry| entry.path()).find(|path| {
        path.file_name()
            .and_then(|found| found.to_str())
            .is_some_and(|found| found.eq_ignore_ascii_case(&name))
    });
    same.filter(|path| path.is_dir())
}

/// The commit of the revision that is asked for.
fn commit(root: &Path, repository: &Repository) -> Result<String, HubError> {
    let revision = repository.revision();
    let reference = root.join("refs").join(revision);
    if reference.is_file() {
        let commit = read_reference(&reference)?;
        if root.join("snapshots").join(&commit).is_dir() {
            return Ok(commit);
        }
        return Err(HubError::NoSnapshot { repository: Box::new(repository.clone()), reference, commit });
    }
    // A commit is its own name.
    if is_commit(revision) && root.join("snapshots").join(revision).is_dir() {
        return Ok(revision.to_owned());
    }
    Err(HubError::NoRevision { repository: Box::new(repository.clone()), present: revisions(root) })
}

/// The commit that a file of `refs/` names.
fn read_reference(path: &Path) -> Result<String, HubError> {
    let read = |source| HubError::Read { path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(read)?.len();
    let text = match length {
        0..=LONGEST_REF => String::from_utf8(fs::read(path).map_err(read)?).unwrap_or_default(),
        _ => String::new(),
    };
    let commit = text.trim();
    match is_commit(commit) {
        true => Ok(commit.to_owned()),
        false => Err(HubError::Reference { path: path.to_owned(), bytes: length }),
    }
}

/// Git's names of commits.
fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The revisions in the cache, sorted, those of pull requests as `refs/pr/1`; without any, the commits.
fn revisions(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let references = root.join("refs");
    let mut pending = vec![(references.clone(), DEEPEST)];
    while let Some((directory, depth)) = pending.pop() {
        for path in fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
        {
            if path.is_dir() && depth > 0 {
                pending.push((path, depth - 1));
            } else if let Some(name) = path.strip_prefix(&references).ok().and_then(Path::to_str) {
                found.push(name.to_owned());
            }
        }
    }
    if found.is_empty() {
        let snapshots = fs::read_dir(root.join("snapshots")).into_iter().flatten();
        found.extend(snapshots.filter_map(|entry| entry.ok()?.file_name().into_string().ok()));
    }
    found.sort();
    found
}

/// Downloads that have not come to their end.
fn unfinished(blobs: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(blobs).into_iter().flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "incomplete")).collect();
    paths.sort();
    paths
}

/// Refuses a snapshot with a link that leads nowhere.
fn check_links(
    directory: &Path,
    repository: &Repository,
    unfinished: &[PathBuf],
    depth: usize,
) -> Result<(), HubError> {
    let read = |source| HubError::Read { path: directory.to_owned(), source };
    for entry in fs::read_dir(directory).map_err(read)? {
        let entry = entry.map_err(read)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(read)?);
        if kind.is_symlink() && !path.exists() {
            let blob = fs::read_link(&path).map_err(read)?;
            let unfinished = unfinished.len();
            return Err(HubError::Dangling {
                repository: Box::new(repository.clone()),
                file: path,
                blob,
                unfinished,
            });
        }
        if kind.is_dir() && depth > 0 {
            check_links(&path, repository, unfinished, depth - 1)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
