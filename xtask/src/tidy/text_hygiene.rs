//! What must not be in the text: paths of somebody's machine, hosts of package registries, unfinished code,
//! skipped tests, tabs and blanks at the end of a line.
//!
//! Unfinished code and skipped tests are looked for in code only, the rest in all text. The needles below are
//! put together from halves, so that this file does not find itself.

use super::Finding;
use crate::source::{line_of, words};
use crate::tree::Tree;

/// Folders that exist on one machine and not on the next.
const MACHINE_FOLDERS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), TEMPORARY];
/// May stand in test code, where a path that is only looked at needs to look like one.
const TEMPORARY: &str = concat!("/t", "mp/");

/// Hosts that only a package manager's own configuration may name.
const REGISTRY_HOSTS: [&str; 6] = [
    concat!("index.cra", "tes.io"),
    concat!("static.cra", "tes.io"),
    concat!("py", "pi.org"),
    concat!("files.python", "hosted.org"),
    concat!("registry.npm", "js.org"),
    concat!("proxy.go", "lang.org"),
];

/// The one source of packages that Cargo.lock may name.
const LOCK_SOURCE: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";

/// Endings of files in which blanks matter.
const BLANK_ENDINGS: [&str; 3] = [".rs", ".md", ".toml"];

/// Finds text that should not be there.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, file) in &tree.files {
        let Some(text) = &file.text else { continue };
        findings.extend(machine_paths(tree, path, text));
        findings.extend(registry_hosts(path, text));
        findings.extend(unfinished(tree, path));
        if BLANK_ENDINGS.iter().any(|ending| path.ends_with(ending)) {
            findings.extend(blanks(path, text));
        }
        if path == "Cargo.lock" {
            findings.extend(lock_sources(path, text));
        }
    }
    findings
}

fn finding(path: &str, line: usize, what: String, expected: &str, action: &str) -> Finding {
    Finding { path: path.to_owned(), line, what, expected: expected.into(), action: action.into() }
}

fn machine_paths(tree: &Tree, path: &str, text: &str) -> Vec<Finding> {
    let rust = tree.files.get(path).and_then(|file| file.rust.as_ref());
    let mut findings = Vec::new();
    for folder in MACHINE_FOLDERS {
        for (at, _) in text.match_indices(folder) {
            // A path that goes on to the left is relative, or part of a URL.
            let goes_on = |c: char| c.is_alphanumeric() || "._-/}*".contains(c);
            let absolute = !text[..at].chars().next_back().is_some_and(goes_on);
            let excused = folder == TEMPORARY && rust.is_some_and(|rust| rust.is_test(at));
            if absolute && !excused {
                findings.push(finding(
                    path,
                    line_of(text, at),
                    format!("a path under `{folder}`"),
                    "no path of one machine",
                    "take a relative path, a flag or the `tempfile` crate",
                ));
            }
        }
    }
    findings
}

fn registry_hosts(path: &str, text: &str) -> Vec<Finding> {
    let hits = REGISTRY_HOSTS.iter().flat_map(|host| text.match_indices(host));
    hits.map(|(at, host)| {
        finding(
            path,
            line_of(text, at),
            format!("the registry host `{host}`"),
            "no registry host in the repository",
            "name the package and leave the host to the package manager",
        )
    })
    .collect()
}

fn unfinished(tree: &Tree, path: &str) -> Vec<Finding> {
    let Some(rust) = tree.files.get(path).and_then(|file| file.rust.as_ref()) else { return Vec::new() };
    let mut findings = Vec::new();
    for name in ["todo", "unimplemented"] {
        for at in words(&rust.code, name) {
            if rust.code[at + name.len()..].starts_with('!') {
                let what = format!("`{name}!`");
                let action = "finish it, or return a typed error that says what is not supported";
                findings.push(finding(path, rust.line_of(at), what, "finished code", action));
            }
        }
    }
    for at in words(&rust.code, "ignore") {
        if rust.code[..at].trim_end().ends_with("#[") {
            let action = "make the test fast or remove it";
            findings.push(finding(
                path,
                rust.line_of(at),
                "an ignored test".into(),
                "tests that run",
                action,
            ));
        }
    }
    findings
}

fn blanks(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.contains('\t') {
            findings.push(finding(
                path,
                index + 1,
                "a tab".into(),
                "spaces",
                "indent with spaces; write \\t in strings",
            ));
        }
        if line.ends_with([' ', '\t']) {
            let what = "blanks at the end of the line".into();
            findings.push(finding(path, index + 1, what, "none", "remove them"));
        }
    }
    findings
}

fn lock_sources(path: &str, text: &str) -> Vec<Finding> {
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| line.starts_with("source = ") && *line != LOCK_SOURCE)
        .map(|(index, line)| {
            let action = "depend on a published version, without a mirror in the lock file";
            finding(path, index + 1, format!("`{line}`"), "only packages from crates.io", action)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::testing::tree;

    fn found(path: &str, text: &str) -> Vec<String> {
        let findings = check(&tree(&[(path, text)]));
        findings.iter().map(|finding| format!("{}: {}", finding.line, finding.what)).collect()
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        for folder in MACHINE_FOLDERS {
            let text = format!("fn f() -> &'static str {{\n    \"{folder}out\"\n}}\n");
            assert_eq!(found("a.rs", &text), [format!("2: a path under `{folder}`")]);
            assert_eq!(found("a.md", &format!("see {folder}out\n")), [format!("1: a path under `{folder}`")]);
        }
    }

    #[test]
    fn relative_paths_and_temporary_ones_in_tests_are_fine() {
        for folder in MACHINE_FOLDERS {
            assert!(found("a.md", &format!("the/tree{folder}x and https://host.org{folder}x\n")).is_empty());
        }
        let test = format!("#[test]\nfn t() {{ f(\"{TEMPORARY}x\"); }}\n");
        assert!(found("a.rs", &test).is_empty());
    }

    #[test]
    fn registry_hosts_are_found() {
        for host in REGISTRY_HOSTS {
            assert_eq!(
                found("a.toml", &format!("# see\n# https://{host}/x\n")),
                [format!("2: the registry host `{host}`")]
            );
        }
    }

    #[test]
    fn a_lock_file_names_one_source() {
        let lock = |source: &str| format!("[[package]]\nname = \"a\"\n{source}\n");
        assert!(found("Cargo.lock", &lock(LOCK_SOURCE)).is_empty());
        let other = "source = \"git+https://host.org/a\"";
        assert_eq!(found("Cargo.lock", &lock(other)), [format!("3: `{other}`")]);
    }

    #[test]
    fn unfinished_code_and_ignored_tests_are_found() {
        let rows = [
            ("fn a() { todo!() }\n", "1: `todo!`"),
            ("fn a() {\n    unimplemented!(\"later\")\n}\n", "2: `unimplemented!`"),
            ("#[test]\n#[ignore = \"slow\"]\nfn a() {}\n", "2: an ignored test"),
        ];
        for (text, expected) in rows {
            assert_eq!(found("a.rs", text), [expected], "{text}");
        }
    }

    #[test]
    fn words_in_comments_and_strings_are_fine() {
        assert!(
            found("a.rs", "// todo!() and #[ignore]\nfn ignore() { f(\"todo!()\", ignore) }\n").is_empty()
        );
    }

    #[test]
    fn blanks_are_found() {
        for path in ["a.rs", "a.md", "a.toml"] {
            assert_eq!(found(path, "a\tb\n"), ["1: a tab"]);
            assert_eq!(found(path, "a\nb \n"), ["2: blanks at the end of the line"]);
        }
        assert!(found("a.json", "a\tb \n").is_empty());
    }
}
