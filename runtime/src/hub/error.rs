//! Why something is not to be had from the cache.

use std::io;
use std::path::PathBuf;

use super::Repository;

/// Why something is not to be had from the cache.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The text is no name of the hub.
    #[error(
        "`{text}` is neither a directory nor a name on the Hugging Face hub, `owner/name` or `owner/name@revision`; check it"
    )]
    Name {
        /// The text.
        text: String,
    },
    /// Two revisions of one repository.
    #[error("`{name}` contradicts the revision `{revision}`; give one of them")]
    TwoRevisions {
        /// Name and revision as they were typed.
        name: String,
        /// The other revision.
        revision: String,
    },
    /// No cache has it.
    #[error(
        "the {} `{repository}` is not in the Hugging Face cache ({}); {}",
        repository.kind().name(), places(looked), repository.advice()
    )]
    NotCached {
        /// What is looked for.
        repository: Box<Repository>,
        /// Where.
        looked: Vec<PathBuf>,
    },
    /// The repository is in the cache, this revision is not.
    #[error(
        "the {} `{}` is in the Hugging Face cache, but not its revision {}{}; give --revision with one that is there, \
         or download it with\n  {}",
        repository.kind().name(), repository.name(), repository.revision(), there(present), repository.download_command()
    )]
    NoRevision {
        /// What is looked for.
        repository: Box<Repository>,
        /// Revisions in the cache.
        present: Vec<String>,
    },
    /// A revision whose files are not there.
    #[error(
        "`{}` says that {} is commit {commit}, whose files are not in the cache; download them with\n  {}",
        reference.display(), repository.revision(), repository.download_command()
    )]
    NoSnapshot {
        /// What is looked for.
        repository: Box<Repository>,
        /// The file that names the commit.
        reference: PathBuf,
        /// The commit.
        commit: String,
    },
    /// A file of `refs/` that names no commit.
    #[error("`{}` ({bytes} bytes) does not hold the name of a commit, 40 hexadecimal digits; delete it and download again", path.display())]
    Reference {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// A link of a snapshot without its blob.
    #[error(
        "`{}` leads to `{}`, which is not there{}; go on downloading with\n  {}",
        file.display(), blob.display(),
        if *unfinished > 0 { format!(" ({unfinished} download(s) of this {} are unfinished)", repository.kind().name()) } else { String::new() },
        repository.download_command()
    )]
    Dangling {
        /// What is looked for.
        repository: Box<Repository>,
        /// The link.
        file: PathBuf,
        /// What it leads to.
        blob: PathBuf,
        /// Unfinished downloads in the repository.
        unfinished: usize,
    },
    /// The cache cannot be read.
    #[error("cannot read `{}`: {source}; check its permissions", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn places(looked: &[PathBuf]) -> String {
    match looked {
        [] => "there is none: neither HF_HOME nor HOME is set".to_owned(),
        looked => looked.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", "),
    }
}

fn there(present: &[String]) -> String {
    match present {
        [] => String::new(),
        present => format!(" (there: {})", present.join(", ")),
    }
}
