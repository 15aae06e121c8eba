//! `unsafe` stays at the border: only in the places of the table, each with its `// SAFETY:` line, and the
//! crates that need none forbid it.
//!
//! Clippy asks for SAFETY lines as well; here they are asked for in code that this machine does not compile.

use super::tables::Place;
use super::{Finding, TABLES};
use crate::source::{RustSource, leading_identifier, words};
use crate::tree::Tree;

/// How far above an `unsafe` its SAFETY line is looked for.
const MOST_LINES_ABOVE: usize = 12;

/// Finds `unsafe` outside of `places` or without a reason, and roots that do not forbid it.
pub(super) fn check(tree: &Tree, places: &[Place], forbid: &[Place]) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        tree.rust_files().flat_map(|(path, text, rust)| in_file(path, text, rust, places)).collect();
    findings.extend(forbid.iter().filter_map(|root| not_forbidden(tree, root)));
    findings.extend(places.iter().filter_map(|place| stale(tree, place)));
    findings
}

fn in_file(path: &str, text: &str, rust: &RustSource, places: &[Place]) -> Vec<Finding> {
    let allowed = places.iter().any(|place| covers(place, path));
    let mut findings = Vec::new();
    for offset in words(&rust.code, "unsafe") {
        let line = rust.line_of(offset);
        if !allowed {
            findings.push(Finding {
                path: path.to_owned(),
                line,
                what: "`unsafe` outside of its places".into(),
                expected: "it only in the places of UNSAFE_PLACES".into(),
                action: format!("move it behind a safe function there; the table is in {TABLES}"),
            });
        }
        if needs_reason(&rust.code[offset..]) && !has_reason(text, line) {
            findings.push(Finding {
                path: path.to_owned(),
                line,
                what: "`unsafe` without a reason".into(),
                expected: "a `// SAFETY:` comment right above".into(),
                action: "name the fact that it rests on".into(),
            });
        }
    }
    findings
}

fn covers(place: &Place, path: &str) -> bool {
    place.path == path || place.path.ends_with('/') && path.starts_with(place.path)
}

/// Blocks and impls rest on a fact; functions and traits pass it on to their callers, in their docs.
fn needs_reason(code: &str) -> bool {
    let after = code["unsafe".len()..].trim_start();
    after.starts_with('{') || leading_identifier(after) == "impl"
}

/// Says whether the comment above `line` (counted from 1), or one on it, starts with SAFETY. Above means
/// above the statement: attributes and lines that the statement continues from are skipped.
fn has_reason(text: &str, line: usize) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    let is_safety = |line: &str| line.contains("// SAFETY:") || line.contains("/* SAFETY:");
    if lines.get(line - 1).copied().is_some_and(is_safety) {
        return true;
    }
    for above in lines[..line - 1].iter().rev().take(MOST_LINES_ABOVE).map(|line| line.trim()) {
        if is_safety(above) {
            return true;
        }
        let ends_before = above.is_empty() || above.ends_with([';', '{', '}', ',']);
        if ends_before && !above.starts_with("//") && !above.starts_with('#') {
            return false;
        }
    }
    false
}

fn not_forbidden(tree: &Tree, root: &Place) -> Option<Finding> {
    let file = tree.files.get(root.path);
    let code = file.and_then(|file| file.rust.as_ref()).map_or("", |rust| rust.code.as_str());
    let compact: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    (!compact.contains("#![forbid(unsafe_code)]")).then(|| Finding {
        path: root.path.to_owned(),
        line: 1,
        what: "`unsafe` code is not forbidden".into(),
        expected: format!("`#![forbid(unsafe_code)]` ({})", root.reason),
        action: "add it under the crate's documentation".into(),
    })
}

/// A single file in the table must still need its row. Folders are borders, and may be empty.
fn stale(tree: &Tree, place: &Place) -> Option<Finding> {
    let rust = tree.files.get(place.path).and_then(|file| file.rust.as_ref());
    let used = rust.is_some_and(|rust| words(&rust.code, "unsafe").next().is_some());
    (!place.path.ends_with('/') && !used).then(|| Finding {
        path: TABLES.into(),
        line: 1,
        what: format!("`{}` has no `unsafe` ({})", place.path, place.reason),
        expected: "only files that need it".into(),
        action: "remove its row from UNSAFE_PLACES".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::testing::tree;

    const PLACES: &[Place] =
        &[Place { path: "a/kernels/", reason: "vectors" }, Place { path: "a/team.rs", reason: "threads" }];
    /// A file that keeps the row of `a/team.rs` in use.
    const TEAM: (&str, &str) = ("a/team.rs", "// SAFETY: `T` is not shared.\nunsafe impl Send for T {}\n");

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let findings = check(&tree(files), PLACES, &[]);
        findings
            .iter()
            .map(|finding| format!("{}:{}: {}", finding.path, finding.line, finding.what))
            .collect()
    }

    #[test]
    fn unsafe_elsewhere_is_found() {
        let text = "//! unsafe {\nfn f() {\n    // SAFETY: none.\n    unsafe { g() }\n}\n";
        assert_eq!(found(&[TEAM, ("a/lib.rs", text)]), ["a/lib.rs:4: `unsafe` outside of its places"]);
    }

    #[test]
    fn unsafe_without_a_reason_is_found() {
        for text in [
            "fn f() {\n    unsafe { g() }\n}\n",
            "// SAFETY: of the line below only.\nlet a = 1;\nunsafe impl Send for T {}\n",
            "struct T;\n\nunsafe impl Sync for T {}\n",
        ] {
            let found = found(&[TEAM, ("a/kernels/b.rs", text)]);
            assert_eq!(found.len(), 1, "{found:?} for {text}");
            assert!(found[0].ends_with("`unsafe` without a reason"), "{found:?} for {text}");
        }
    }

    #[test]
    fn reasons_above_the_statement_count() {
        for text in [
            "// SAFETY: checked.\nunsafe { g() }\n",
            "// SAFETY: checked,\n// twice.\n#[inline]\nunsafe impl Send for T {}\n",
            "// SAFETY: checked.\nlet a: Vec<u8> =\n    unsafe { g() };\n",
            "/// # Safety\n/// Pass a valid pointer.\nunsafe fn f(p: *const u8) {}\n",
        ] {
            assert!(found(&[TEAM, ("a/kernels/b.rs", text)]).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_root_that_does_not_forbid_is_found() {
        let forbid = [Place { path: "a/lib.rs", reason: "data" }, Place { path: "b/lib.rs", reason: "data" }];
        let tree = tree(&[
            ("a/lib.rs", "//! A.\n#![forbid(unsafe_code)]\n"),
            ("b/lib.rs", "//! B: #![forbid(unsafe_code)]\n"),
        ]);
        let found: Vec<String> = check(&tree, &[], &forbid).into_iter().map(|finding| finding.path).collect();
        assert_eq!(found, ["b/lib.rs"]);
    }

    #[test]
    fn a_row_that_is_no_longer_needed_is_found() {
        let found = found(&[("a/team.rs", "//! unsafe no more\n")]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("`a/team.rs` has no `unsafe`"), "{found:?}");
    }
}
