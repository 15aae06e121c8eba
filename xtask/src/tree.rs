//! The files that tidy looks at: what git tracks or would track, or, outside of a git checkout, a walk.
//!
//! Texts are read once, here; the checks only look at them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::source::RustSource;

/// Endings of the files whose text is looked at.
const TEXT_ENDINGS: [&str; 10] = ["rs", "md", "toml", "gir", "snap", "json", "py", "sh", "yml", "lock"];

/// Texts above this size are data, not something somebody wrote here.
const LARGEST_TEXT: usize = 1 << 20;

/// Folders that the walk outside of git leaves out.
const NOT_WALKED: [&str; 2] = ["target", ".git"];

/// Why a tree could not be looked at.
#[derive(Debug)]
pub(crate) struct TreeError {
    place: PathBuf,
    reason: String,
}

impl TreeError {
    /// An error about `place`.
    pub(crate) fn new(place: &Path, reason: impl fmt::Display) -> Self {
        Self { place: place.to_owned(), reason: reason.to_string() }
    }
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place.display(), self.reason)
    }
}

/// One file of the tree.
#[derive(Debug)]
pub(crate) struct TreeFile {
    /// Its text; `None` if it is not text that tidy looks at.
    pub(crate) text: Option<String>,
    /// What the scanner says about it, for `.rs` files.
    pub(crate) rust: Option<RustSource>,
}

/// A source tree.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The folder that paths are relative to.
    pub(crate) root: PathBuf,
    /// Files by path relative to the root, with `/` between the parts.
    pub(crate) files: BTreeMap<String, TreeFile>,
}

impl Tree {
    /// Lists and reads the tree under `root`.
    ///
    /// # Errors
    /// If a folder or file cannot be read.
    pub(crate) fn open(root: &Path) -> Result<Self, TreeError> {
        let paths = match git_files(root) {
            Some(paths) => paths,
            None => walk(root)?,
        };
        let mut files = BTreeMap::new();
        for path in paths {
            let place = root.join(&path);
            // A file that was deleted but not yet staged is still listed by git.
            if place.is_file() {
                files.insert(path.clone(), read(&place, &path)?);
            }
        }
        mark_test_files(&mut files);
        Ok(Self { root: root.to_owned(), files })
    }

    /// The Rust files: path, text, scan.
    pub(crate) fn rust_files(&self) -> impl Iterator<Item = (&str, &str, &RustSource)> {
        self.files.iter().filter_map(|(path, file)| match (&file.text, &file.rust) {
            (Some(text), Some(rust)) => Some((path.as_str(), text.as_str(), rust)),
            _ => None,
        })
    }

    /// Says whether `path` is a file of the tree.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// The paths that start with `prefix`.
    pub(crate) fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        let from = self.files.range(prefix.to_owned()..);
        from.map(|(path, _)| path.as_str()).take_while(move |path| path.starts_with(prefix))
    }
}

/// The nearest folder at or above `from` whose `Cargo.toml` has a `[workspace]`.
///
/// # Errors
/// If there is none.
pub(crate) fn workspace_root(from: &Path) -> Result<PathBuf, TreeError> {
    let is_root = |folder: &&Path| {
        fs::read_to_string(folder.join("Cargo.toml"))
            .is_ok_and(|text| text.lines().any(|line| line.trim() == "[workspace]"))
    };
    from.ancestors().find(is_root).map(Path::to_owned).ok_or_else(|| {
        TreeError::new(
            from,
            "neither here nor above is a Cargo.toml with [workspace]; run this inside the repository",
        )
    })
}

/// What git tracks under `root`, and what it would track; `None` if `root` is not the top of a checkout.
fn git_files(root: &Path) -> Option<Vec<String>> {
    let top = git(root, &["rev-parse", "--show-toplevel"])?;
    let top = fs::canonicalize(top.trim_end()).ok()?;
    if top != fs::canonicalize(root).ok()? {
        return None;
    }
    let listing = git(root, &["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
    Some(listing.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
    if !output.status.success() {
        return None;
    }
    String::from_utf8(output.stdout).ok()
}

fn walk(root: &Path) -> Result<Vec<String>, TreeError> {
    let mut paths = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let place = root.join(&folder);
        let entries = fs::read_dir(&place).map_err(|error| TreeError::new(&place, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| TreeError::new(&place, error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().map_err(|error| TreeError::new(&entry.path(), error))?;
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            if !kind.is_dir() {
                paths.push(path);
            } else if !NOT_WALKED.contains(&name.as_str()) {
                folders.push(path);
            }
        }
    }
    Ok(paths)
}

fn read(place: &Path, path: &str) -> Result<TreeFile, TreeError> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    if !TEXT_ENDINGS.contains(&ending) && !path.starts_with(".ci/") {
        return Ok(TreeFile { text: None, rust: None });
    }
    let bytes = fs::read(place).map_err(|error| TreeError::new(place, error))?;
    if bytes.len() > LARGEST_TEXT && ending != "rs" {
        return Ok(TreeFile { text: None, rust: None });
    }
    match String::from_utf8(bytes) {
        Ok(text) => {
            let rust = (ending == "rs").then(|| RustSource::new(&text));
            Ok(TreeFile { text: Some(text), rust })
        }
        Err(error) if ending == "rs" => {
            Err(TreeError::new(place, format!("not UTF-8 ({error}); save it as UTF-8")))
        }
        // A broken file that some test needs.
        Err(_) => Ok(TreeFile { text: None, rust: None }),
    }
}

/// Marks the files that are test code as a whole: the `tests` and `benches` folders, and the files of
/// modules that are declared under `#[cfg(test)]`.
fn mark_test_files(files: &mut BTreeMap<String, TreeFile>) {
    let declared: Vec<String> = files
        .iter()
        .filter_map(|(path, file)| Some((path, file.rust.as_ref()?)))
        .flat_map(|(path, rust)| {
            let folder = module_folder(path);
            rust.test_modules.iter().map(move |name| format!("{folder}{name}"))
        })
        .collect();
    for (path, file) in files.iter_mut() {
        let Some(rust) = &mut file.rust else { continue };
        let in_test_folder = path.split('/').rev().skip(1).any(|part| part == "tests" || part == "benches");
        let is_declared = declared.iter().any(|module| {
            path.strip_prefix(module.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        });
        rust.only_tests |= in_test_folder || is_declared;
    }
}

/// The folder, with its `/`, that holds the modules which the file at `path` declares.
fn module_folder(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
    let slash = if folder.is_empty() { "" } else { "/" };
    match name {
        "mod.rs" | "lib.rs" | "main.rs" => format!("{folder}{slash}"),
        _ => format!("{folder}{slash}{}/", name.trim_end_matches(".rs")),
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Made-up trees for the tests of the checks.
    use super::*;

    /// Writes `files` into a new folder, which is removed when the returned guard goes.
    pub(crate) fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let place = folder.path().join(path);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, text).unwrap();
        }
        folder
    }

    /// Opens a made-up tree; everything that the checks read is in memory afterwards.
    pub(crate) fn tree(files: &[(&str, &str)]) -> Tree {
        Tree::open(folder(files).path()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{folder, tree};
    use super::*;

    fn paths(tree: &Tree) -> Vec<&str> {
        tree.files.keys().map(String::as_str).collect()
    }

    #[test]
    fn outside_of_git_the_folder_is_walked() {
        let tree = tree(&[("a/b.rs", ""), ("target/c.rs", ""), ("d.md", "")]);
        assert_eq!(paths(&tree), ["a/b.rs", "d.md"]);
    }

    #[test]
    fn in_git_what_is_ignored_is_left_out_and_what_is_new_is_not() {
        let folder = folder(&[(".gitignore", "out/\n"), ("a.rs", ""), ("out/b.rs", ""), ("gone.rs", "")]);
        for arguments in [&["init", "--quiet"][..], &["add", "gone.rs"]] {
            git(folder.path(), arguments).expect("git is needed to test the listing by git");
        }
        fs::remove_file(folder.path().join("gone.rs")).unwrap();
        assert_eq!(paths(&Tree::open(folder.path()).unwrap()), [".gitignore", "a.rs"]);
    }

    #[test]
    fn files_of_test_modules_are_test_code() {
        let tree = tree(&[
            ("a/src/lib.rs", "#[cfg(test)]\nmod checks;\nmod code;\n"),
            ("a/src/checks.rs", "fn f() {}"),
            ("a/src/code.rs", "#[cfg(test)] mod deep;"),
            ("a/src/code/deep/mod.rs", "fn g() {}"),
            ("a/tests/whole.rs", "fn h() {}"),
        ]);
        let only_tests: Vec<&str> =
            tree.rust_files().filter(|(_, _, rust)| rust.only_tests).map(|(path, _, _)| path).collect();
        assert_eq!(only_tests, ["a/src/checks.rs", "a/src/code/deep/mod.rs", "a/tests/whole.rs"]);
    }

    #[test]
    fn a_text_that_is_not_utf8_is_named() {
        let folder = folder(&[]);
        fs::write(folder.path().join("a.rs"), [0xff, 0xfe]).unwrap();
        let error = Tree::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("a.rs: not UTF-8"), "{error}");
    }

    #[test]
    fn the_root_is_found_from_below() {
        let folder =
            folder(&[("Cargo.toml", "[workspace]\n"), ("a/Cargo.toml", "[package]\n"), ("a/src/lib.rs", "")]);
        assert_eq!(workspace_root(&folder.path().join("a/src")).unwrap(), folder.path());
    }
}
