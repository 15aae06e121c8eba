//! Filetests: small `.gir` files under `tests/filetests`, each with the expectation below the graph.
//!
//! ```text
//! ; test print
//! graph @f(...) { ... }
//! ; expect:
//! ; graph @f(
//! ; ...
//! ```
//!
//! The first line says what is done (see [`kinds`]); what comes out must be what stands behind `; expect:`.
//! `GPTJC_BLESS=1 cargo test -p gptjc-tests --test filetests` writes what comes out instead; look at the difference
//! before you commit it.

mod case;
mod coverage;
mod data;
mod diff;
mod fuzz;
mod kinds;
mod models;
mod passes;

use case::Case;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// Any error: a failing filetest says it with the file.
type AnyError = Box<dyn Error>;

/// The folder of the files.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests")
}

/// All `.gir` files under `folder`, in the order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>, AnyError> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "gir") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Runs one file; with `bless`, writes what comes out.
fn check(path: &Path, bless: bool) -> Result<(), AnyError> {
    let source = fs::read_to_string(path)?;
    let case = Case::parse(&source)?;
    let found = kinds::outcome(&case)?;
    if found == case.expected {
        return Ok(());
    }
    if bless {
        let beside = path.with_extension("gir.new");
        fs::write(&beside, case.blessed(&found))?;
        fs::rename(&beside, path)?;
        return Ok(());
    }
    Err(format!("- expected, + found:\n{}", diff::lines(&case.expected, &found)).into())
}

#[test]
fn filetests() {
    let bless = std::env::var_os("GPTJC_BLESS").is_some_and(|value| value == "1");
    let files = files(&root()).unwrap();
    assert!(
        files.len() > 20,
        "only {} files under {}: is this the right folder?",
        files.len(),
        root().display()
    );
    let mut failures = Vec::new();
    for path in &files {
        if let Err(error) = check(path, bless) {
            let name = path.strip_prefix(root()).unwrap_or(path).display();
            failures.push(format!("{name}: {error}"));
        }
    }
    let count = failures.len();
    assert!(
        failures.is_empty(),
        "{count} of {} filetests failed (GPTJC_BLESS=1 writes what was found):\n\n{}",
        files.len(),
        failures.join("\n\n")
    );
}

#[test]
fn a_wrong_expectation_fails_and_blessing_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gir");
    let graph = "graph @f(\n  %0: batch \"x\" f32[2],\n) {\n  return \"y\" %0\n}\n";
    fs::write(&path, format!("; test print\n{graph}; expect:\n; graph @g(\n")).unwrap();
    let error = check(&path, false).unwrap_err().to_string();
    assert!(error.contains("- graph @g(\n+ graph @f(\n"), "{error}");
    check(&path, true).unwrap();
    check(&path, false).unwrap();
    let blessed = format!("; test print\n{graph}; expect:\n; {}\n", graph.trim_end().replace('\n', "\n; "));
    assert_eq!(fs::read_to_string(&path).unwrap(), blessed);
    assert_eq!(files(folder.path()).unwrap(), [path]);
}
