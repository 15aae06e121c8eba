//! Packages depend on each other only along the arrows of the table.
//!
//! What a manifest says is asked of cargo, so that renames, tables for targets and workspace inheritance are
//! read as cargo reads them; packages from outside are not looked at.

use super::tables::CrateRule;
use super::{Finding, TABLES};
use crate::tree::{Tree, TreeError};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// A dependency of one package of the workspace on another.
#[derive(Debug, PartialEq)]
struct Edge {
    from: String,
    to: String,
    dev: bool,
    /// The manifest of `from`, relative to the root.
    manifest: String,
}

/// The packages of the workspace, with their manifests, and the edges between them.
#[derive(Debug, Default)]
struct Workspace {
    packages: Vec<(String, String)>,
    edges: Vec<Edge>,
}

/// Finds edges and packages that `table` does not have.
///
/// # Errors
/// If cargo cannot be run or does not understand the manifests.
pub(super) fn check(tree: &Tree, table: &[CrateRule]) -> Result<Vec<Finding>, TreeError> {
    let workspace = read_workspace(&tree.root)?;
    let mut findings: Vec<Finding> =
        workspace.edges.iter().filter_map(|edge| refused(tree, edge, table)).collect();
    for (package, manifest) in &workspace.packages {
        if !table.iter().any(|rule| rule.package == package) {
            findings.push(Finding {
                path: manifest.clone(),
                line: 1,
                what: format!("package `{package}` is in no row of the table"),
                expected: "a row that says what it may depend on".into(),
                action: format!("add one to CRATE_EDGES in {TABLES}"),
            });
        }
    }
    for rule in table.iter().filter(|rule| !workspace.packages.iter().any(|(name, _)| name == rule.package)) {
        findings.push(Finding {
            path: TABLES.into(),
            line: 1,
            what: format!("package `{}` of the table is not in the workspace", rule.package),
            expected: "only packages that exist".into(),
            action: "remove its row from CRATE_EDGES".into(),
        });
    }
    Ok(findings)
}

fn refused(tree: &Tree, edge: &Edge, table: &[CrateRule]) -> Option<Finding> {
    let rule = table.iter().find(|rule| rule.package == edge.from)?;
    if rule.may_use.contains(&edge.to.as_str()) || edge.dev && rule.dev_may_use_all {
        return None;
    }
    let manifest = tree.files.get(&edge.manifest).and_then(|file| file.text.as_deref()).unwrap_or_default();
    let line = manifest
        .lines()
        .skip(1)
        .position(|line| line.contains(edge.to.as_str()) && !line.starts_with("name"));
    let allowed = match rule.may_use {
        [] if rule.dev_may_use_all => "the workspace's packages only in its dev-dependencies".to_owned(),
        [] => "none of the workspace's packages".to_owned(),
        names => format!("only {}", names.join(", ")),
    };
    Some(Finding {
        path: edge.manifest.clone(),
        line: line.map_or(1, |index| index + 2),
        what: format!("`{}` depends on `{}`", edge.from, edge.to),
        expected: format!("{allowed}: {}", rule.reason),
        action: "move what is shared to where the arrows allow it".into(),
    })
}

fn read_workspace(root: &Path) -> Result<Workspace, TreeError> {
    let fail = |reason: String| TreeError::new(&root.join("Cargo.toml"), reason);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"])
        .arg(root.join("Cargo.toml"))
        .output()
        .map_err(|error| fail(format!("cannot run cargo metadata: {error}")))?;
    if !output.status.success() {
        return Err(fail(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| fail(format!("cargo metadata wrote no JSON: {error}")))?;
    Ok(workspace_of(&metadata))
}

/// Picks packages and edges out of what `cargo metadata` wrote.
fn workspace_of(metadata: &Value) -> Workspace {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let root = text(metadata, "workspace_root");
    let mut workspace = Workspace::default();
    for package in list(metadata, "packages") {
        let manifest = text(&package, "manifest_path");
        let manifest = manifest.strip_prefix(&root).unwrap_or(&manifest).trim_start_matches('/').to_owned();
        let from = text(&package, "name");
        for dependency in list(&package, "dependencies") {
            // Packages of the workspace are found by path, others are not.
            if dependency["path"].is_string() {
                let dev = dependency["kind"].as_str() == Some("dev");
                let to = text(&dependency, "name");
                workspace.edges.push(Edge { from: from.clone(), to, dev, manifest: manifest.clone() });
            }
        }
        workspace.packages.push((from, manifest));
    }
    workspace
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::testing::folder;

    const fn rule(
        package: &'static str,
        may_use: &'static [&'static str],
        dev_may_use_all: bool,
    ) -> CrateRule {
        CrateRule { package, may_use, dev_may_use_all, reason: "layers" }
    }
    const TABLE: &[CrateRule] =
        &[rule("low", &[], false), rule("high", &["low"], false), rule("checks", &[], true)];

    /// Findings about a workspace of `low`, `high` and `checks` with these lines in their manifests.
    fn found(low: &str, high: &str, checks: &str, table: &[CrateRule]) -> Vec<String> {
        let manifest = |name: &str, lines: &str| format!("[package]\nname = \"{name}\"\n{lines}");
        let folder = folder(&[
            ("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"low\", \"high\", \"checks\"]\n"),
            ("low/Cargo.toml", &manifest("low", low)),
            ("low/src/lib.rs", ""),
            ("high/Cargo.toml", &manifest("high", high)),
            ("high/src/lib.rs", ""),
            ("checks/Cargo.toml", &manifest("checks", checks)),
            ("checks/src/lib.rs", ""),
        ]);
        let findings = check(&Tree::open(folder.path()).unwrap(), table).unwrap();
        findings.iter().map(|f| format!("{}:{}: {}", f.path, f.line, f.what)).collect()
    }

    #[test]
    fn the_arrows_of_the_table_are_fine() {
        let high = "[dependencies]\nlow = { path = \"../low\" }\n";
        let checks = "[dev-dependencies]\nlow = { path = \"../low\" }\nhigh = { path = \"../high\" }\n";
        assert!(found("", high, checks, TABLE).is_empty());
    }

    #[test]
    fn an_arrow_against_the_table_is_found_whatever_its_form() {
        let expected = ["low/Cargo.toml:4: `low` depends on `high`"];
        assert_eq!(found("[dependencies]\nhigh = { path = \"../high\" }\n", "", "", TABLE), expected);
        let renamed = "[dependencies]\nh = { path = \"../high\", package = \"high\" }\n";
        assert_eq!(found(renamed, "", "", TABLE), expected);
        assert_eq!(found("[dev-dependencies]\nhigh = { path = \"../high\" }\n", "", "", TABLE), expected);
        assert_eq!(
            found("[target.'cfg(unix)'.dependencies]\nhigh = { path = \"../high\" }\n", "", "", TABLE),
            expected
        );
    }

    #[test]
    fn a_test_package_may_use_others_only_in_tests() {
        let checks = "[dependencies]\nlow = { path = \"../low\" }\n";
        assert_eq!(found("", "", checks, TABLE), ["checks/Cargo.toml:4: `checks` depends on `low`"]);
    }

    #[test]
    fn packages_and_rows_without_a_partner_are_found() {
        let table = [rule("low", &[], false), rule("checks", &[], true), rule("gone", &[], false)];
        assert_eq!(
            found("", "", "", &table),
            [
                "high/Cargo.toml:1: package `high` is in no row of the table",
                "xtask/src/tidy/tables.rs:1: package `gone` of the table is not in the workspace",
            ]
        );
    }

    #[test]
    fn a_broken_manifest_is_an_error_that_names_it() {
        let folder = folder(&[("Cargo.toml", "[workspace\n")]);
        let error = check(&Tree::open(folder.path()).unwrap(), TABLE).unwrap_err().to_string();
        assert!(error.contains("Cargo.toml: cargo metadata:"), "{error}");
    }
}
