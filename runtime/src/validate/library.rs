//! Finds and loads libonnxruntime.
//!
//! In this order: `ORT_DYLIB_PATH`; beside this binary; our cache (where [`super::fetch`] puts it); the Python
//! environment that is active; the `python3` on `PATH`. What `ORT_DYLIB_PATH` names is taken or refused, never passed by;
//! of the others the first that loads and is new enough is taken. A process loads one library.
//!
//! Does not: open the network.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use ort::environment::Environment;

/// The oldest minor version of ONNX Runtime 1 that is accepted.
pub const OLDEST_MINOR: u32 = 31;
/// The version that [`super::fetch`] gets.
pub const FETCHED_VERSION: &str = "1.32.0";
const FILE_STEM: &str = "libonnxruntime.so";

/// A loaded library.
#[derive(Clone)]
pub struct OnnxRuntime {
    pub(super) environment: Environment,
    /// The file that was loaded.
    pub path: PathBuf,
}

impl fmt::Debug for OnnxRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnnxRuntime").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A place where the library was looked for, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Why there.
    pub place: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What was found.
    pub outcome: String,
}

/// There is no library that can be used.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// The variable names a file that cannot be used.
    #[error(
        "ORT_DYLIB_PATH names `{}`, which cannot be used: {reason}. Let it name a libonnxruntime.so of version \
         1.{OLDEST_MINOR} or later, or unset it",
        path.display()
    )]
    Named {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Nothing was found anywhere.
    #[error(
        "libonnxruntime.so of version 1.{OLDEST_MINOR} or later was not found. Looked in:\n{}Run `gptjc doctor --fetch-onnxruntime`, or `pip install onnxruntime=={FETCHED_VERSION}`, or let ORT_DYLIB_PATH name the file",
        list(tried)
    )]
    NotFound {
        /// Where it was looked for.
        tried: Vec<Tried>,
    },
}

fn list(tried: &[Tried]) -> String {
    let line = |tried: &Tried| format!("  {} `{}`: {}\n", tried.place, tried.path.display(), tried.outcome);
    tried.iter().map(line).collect()
}

/// Where to look: the process's surroundings, as data.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `ORT_DYLIB_PATH`.
    pub named: Option<PathBuf>,
    /// The folder of this binary.
    pub binary_folder: Option<PathBuf>,
    /// Our cache folder.
    pub cache: Option<PathBuf>,
    /// `VIRTUAL_ENV`.
    pub virtual_env: Option<PathBuf>,
    /// The Python to ask for its module folders.
    pub python: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Surroundings {
            named: variable("ORT_DYLIB_PATH"),
            binary_folder: env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf)),
            cache: cache_folder(),
            virtual_env: variable("VIRTUAL_ENV"),
            python: Some("python3".into()),
        }
    }
}

/// `$XDG_CACHE_HOME/gptjc`, or `~/.cache/gptjc`; `None` if neither variable is set.
pub fn cache_folder() -> Option<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("gptjc"))
}

/// The library that this process has loaded; later calls return the same one.
static LOADED: Mutex<Option<OnnxRuntime>> = Mutex::new(None);

/// Finds the library and loads it, unless this process has done so already.
///
/// # Errors
/// [`LibraryError`], with every place that was looked at.
pub fn load(surroundings: &Surroundings) -> Result<OnnxRuntime, LibraryError> {
    // Another thread's panic cannot leave the slot half written: it is written in one step.
    let mut loaded = LOADED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(runtime) = loaded.as_ref() {
        return Ok(runtime.clone());
    }
    let runtime = find(surroundings, &mut load_file)?;
    *loaded = Some(runtime.clone());
    Ok(runtime)
}

/// Goes through the places until `load` accepts a file.
fn find<T>(
    surroundings: &Surroundings,
    load: &mut dyn FnMut(&Path) -> Result<T, String>,
) -> Result<T, LibraryError> {
    if let Some(path) = &surroundings.named {
        return load(path).map_err(|reason| LibraryError::Named { path: path.clone(), reason });
    }
    let mut tried = Vec::new();
    for (place, folder) in folders(surroundings) {
        let files = libraries_in(&folder);
        if files.is_empty() {
            tried.push(Tried { place, path: folder, outcome: format!("no {FILE_STEM}*") });
        }
        for path in files {
            match load(&path) {
                Ok(runtime) => return Ok(runtime),
                Err(outcome) => tried.push(Tried { place, path, outcome }),
            }
        }
    }
    Err(LibraryError::NotFound { tried })
}

/// The folders to look in, Python's last: asking it takes a while.
fn folders(surroundings: &Surroundings) -> impl Iterator<Item = (&'static str, PathBuf)> {
    let near = [("beside this binary", &surroundings.binary_folder), ("in our cache", &surroundings.cache)];
    let near: Vec<_> =
        near.into_iter().filter_map(|(place, folder)| Some((place, folder.clone()?))).collect();
    let virtual_env = surroundings.virtual_env.clone();
    let python = surroundings.python.clone();
    let in_environment = virtual_env.into_iter().flat_map(|folder| {
        let found = site_packages(&folder).iter().map(|folder| capi(folder)).collect();
        or_itself(found, folder).map(|folder| ("in the active Python environment", folder))
    });
    let in_python = python.into_iter().flat_map(|python| {
        let found = ask_python(&python).iter().map(|folder| capi(folder)).collect();
        or_itself(found, python).map(|folder| ("in the module folders of", folder))
    });
    near.into_iter().chain(in_environment).chain(in_python)
}

/// `found`, or `place` itself if nothing was found: so that it is listed among what was tried.
fn or_itself(found: Vec<PathBuf>, place: PathBuf) -> impl Iterator<Item = PathBuf> {
    if found.is_empty() { vec![place] } else { found }.into_iter()
}

fn capi(site_packages: &Path) -> PathBuf {
    site_packages.join("onnxruntime/capi")
}

/// `lib/python3.*/site-packages` of a Python environment.
fn site_packages(environment: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(environment.join("lib")) else { return Vec::new() };
    let is_python = |name: &str| name.starts_with("python3");
    let versions = entries.flatten().filter(|entry| is_python(&entry.file_name().to_string_lossy()));
    versions.map(|entry| entry.path().join("site-packages")).filter(|path| path.is_dir()).collect()
}

/// The module folders of a Python that have onnxruntime in them.
fn ask_python(python: &Path) -> Vec<PathBuf> {
    let output = Command::new(python).args(["-c", "import sys; print('\\n'.join(sys.path))"]).output();
    let Ok(output) = output else { return Vec::new() };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(PathBuf::from).filter(|folder| folder.is_absolute() && capi(folder).is_dir()).collect()
}

/// The library's files in a folder, a plain name first, then the newest name.
fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name == FILE_STEM || name.starts_with("libonnxruntime.so."))
        .collect();
    names.sort_by_key(|name| {
        let numbers = name[FILE_STEM.len()..].split('.').filter_map(|part| part.parse::<u32>().ok());
        std::cmp::Reverse((name == FILE_STEM, numbers.collect::<Vec<_>>()))
    });
    names.into_iter().map(|name| folder.join(name)).collect()
}

fn load_file(path: &Path) -> Result<OnnxRuntime, String> {
    if !path.is_file() {
        return Err("there is no such file".into());
    }
    // A relative path would be looked for beside the executable first.
    let path = path.canonicalize().map_err(|error| error.to_string())?;
    let builder = ort::init_from(&path).map_err(|error| match error {
        ort::LoadDynamicError::BadVersion { version_str, .. } => {
            format!("its version is {version_str}, expected 1.{OLDEST_MINOR} or later")
        }
        ort::LoadDynamicError::MissingApi { .. } => "it is not ONNX Runtime".into(),
        other => other.to_string(),
    })?;
    let environment = builder.build().map_err(|error| error.to_string())?;
    Ok(OnnxRuntime { environment, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "no library").unwrap();
    }

    /// Goes through all places and refuses every file; what was offered, relative to `root`.
    fn offered(surroundings: &Surroundings, root: &Path) -> (Vec<String>, String) {
        let mut seen = Vec::new();
        let mut refuse = |path: &Path| -> Result<(), String> {
            seen.push(path.strip_prefix(root).unwrap().display().to_string());
            Err("refused".into())
        };
        let error = find(surroundings, &mut refuse).unwrap_err().to_string();
        (seen, error.replace(&root.display().to_string(), "ROOT"))
    }

    #[test]
    fn places_are_tried_in_their_order_and_new_versions_first() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        touch(&root.join("bin/libonnxruntime.so"));
        touch(&root.join("cache/libonnxruntime.so.1.9.0"));
        touch(&root.join("cache/libonnxruntime.so.1.32.0"));
        touch(&root.join("cache/libonnxruntime_providers_shared.so"));
        touch(&root.join("venv/lib/python3.12/site-packages/onnxruntime/capi/libonnxruntime.so.1.31.1"));
        let surroundings = Surroundings {
            named: None,
            binary_folder: Some(root.join("bin")),
            cache: Some(root.join("cache")),
            virtual_env: Some(root.join("venv")),
            python: None,
        };
        let (seen, error) = offered(&surroundings, root);
        assert_eq!(
            seen,
            [
                "bin/libonnxruntime.so",
                "cache/libonnxruntime.so.1.32.0",
                "cache/libonnxruntime.so.1.9.0",
                "venv/lib/python3.12/site-packages/onnxruntime/capi/libonnxruntime.so.1.31.1",
            ]
        );
        assert!(error.contains("  in our cache `ROOT/cache/libonnxruntime.so.1.9.0`: refused\n"), "{error}");
        assert!(error.contains("gptjc doctor --fetch-onnxruntime"), "{error}");
    }

    #[test]
    fn a_named_file_is_taken_or_refused() {
        let root = tempfile::tempdir().unwrap();
        touch(&root.path().join("cache/libonnxruntime.so"));
        let named = root.path().join("mine.so");
        let surroundings = Surroundings {
            named: Some(named.clone()),
            cache: Some(root.path().join("cache")),
            ..Surroundings::default()
        };
        let (seen, error) = offered(&surroundings, root.path());
        assert_eq!(seen, ["mine.so"], "no other place is looked at");
        assert!(
            error.starts_with("ORT_DYLIB_PATH names `ROOT/mine.so`, which cannot be used: refused."),
            "{error}"
        );
        assert_eq!(load_file(&named).unwrap_err(), "there is no such file");
    }

    #[test]
    fn places_without_a_library_are_listed() {
        let root = tempfile::tempdir().unwrap();
        let surroundings = Surroundings { cache: Some(root.path().join("cache")), ..Surroundings::default() };
        let (seen, error) = offered(&surroundings, root.path());
        assert_eq!(seen, Vec::<String>::new());
        assert!(error.contains("  in our cache `ROOT/cache`: no libonnxruntime.so*\n"), "{error}");
    }

    #[test]
    fn what_is_no_library_is_not_loaded() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(FILE_STEM);
        touch(&path);
        let reason = load_file(&path).unwrap_err();
        assert!(reason.contains("libonnxruntime.so"), "{reason}");
    }
}
