//! Every Rust file under a package's `src` starts with `//!`: what it does, and what it does not do.

use super::Finding;
use crate::tree::Tree;

/// Where files must start with their documentation.
const FOLDERS: [&str; 5] = ["graphs/src/", "compiler/src/", "runtime/src/", "cli/src/", "xtask/src/"];

/// Finds files without module documentation.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let files =
        tree.rust_files().filter(|(path, _, _)| FOLDERS.iter().any(|folder| path.starts_with(folder)));
    files
        .filter(|(_, text, _)| !has_docs(text))
        .map(|(path, _, _)| Finding {
            path: path.to_owned(),
            line: 1,
            what: "no module documentation".into(),
            expected: "the file to start with `//!` and a sentence".into(),
            action: "say what the module does and what it does not do".into(),
        })
        .collect()
}

fn has_docs(text: &str) -> bool {
    text.strip_prefix("//!").and_then(|rest| rest.lines().next()).is_some_and(|line| !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::testing::tree;

    #[test]
    fn files_without_docs_are_found() {
        let tree = tree(&[
            ("graphs/src/none.rs", "use a::b;\n"),
            ("graphs/src/late.rs", "use a::b;\n//! Late.\n"),
            ("graphs/src/empty.rs", "//!\n"),
            ("graphs/src/outer.rs", "/// Of the item below.\n"),
        ]);
        let found: Vec<String> = check(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(
            found,
            ["graphs/src/empty.rs", "graphs/src/late.rs", "graphs/src/none.rs", "graphs/src/outer.rs"]
        );
    }

    #[test]
    fn documented_files_and_other_folders_are_fine() {
        assert_eq!(
            check(&tree(&[("cli/src/main.rs", "//! The command.\n"), ("tests/a.rs", "fn a() {}\n")])),
            []
        );
    }
}
