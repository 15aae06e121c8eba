//! No Rust file has more than 500 lines, tests included; generated files are listed with their reason.

use super::tables::Place;
use super::{Finding, TABLES};
use crate::tree::Tree;

/// Most lines of a Rust file.
const MOST_LINES: usize = 500;

/// Finds files that are too long, and rows of `generated` without a file.
pub(super) fn check(tree: &Tree, generated: &[Place]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text, _) in tree.rust_files() {
        let lines = text.lines().count();
        if lines > MOST_LINES && !is_generated(path, generated) {
            findings.push(Finding {
                path: path.to_owned(),
                line: MOST_LINES + 1,
                what: format!("{lines} lines"),
                expected: format!("at most {MOST_LINES}"),
                action: "split the file by what it does".into(),
            });
        }
    }
    for place in generated.iter().filter(|place| !tree.has(place.path)) {
        findings.push(Finding {
            path: TABLES.into(),
            line: 1,
            what: format!("generated file `{}` does not exist ({})", place.path, place.reason),
            expected: "only files that exist".into(),
            action: "remove its row from GENERATED_FILES".into(),
        });
    }
    findings
}

/// Says whether `path` is listed as generated.
pub(super) fn is_generated(path: &str, generated: &[Place]) -> bool {
    generated.iter().any(|place| place.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::testing::tree;

    const GENERATED: &[Place] = &[Place { path: "a/proto.rs", reason: "by prost" }];

    #[test]
    fn a_long_file_is_found_unless_it_is_generated() {
        let long = "// line\n".repeat(501);
        let tree = tree(&[("a/long.rs", &long), ("a/proto.rs", &long)]);
        let found: Vec<String> = check(&tree, GENERATED).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["a/long.rs:501: 501 lines; expected at most 500; split the file by what it does"]);
    }

    #[test]
    fn a_row_without_its_file_is_found() {
        let found = check(&tree(&[("b.rs", "")]), GENERATED);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].what.contains("`a/proto.rs` does not exist"), "{}", found[0]);
    }

    #[test]
    fn five_hundred_lines_are_fine() {
        let tree = tree(&[("a.rs", &"// line\n".repeat(500)), ("b.md", &"line\n".repeat(900))]);
        assert_eq!(check(&tree, &[]), []);
    }
}
