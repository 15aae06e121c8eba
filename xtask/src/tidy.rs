//! `cargo xtask tidy`: what the tree must look like.
//!
//! A check is a file here and a function from the tree and its table to findings. Tables, with a reason in
//! every row, are all in `tables`; a row that exempts something which no longer exists is a finding too, so
//! that exemptions go away with their cause. Checks never change a file.

mod crate_edges;
mod file_size;
mod function_size;
mod module_docs;
mod op_stems;
mod runtime_imports;
mod tables;
mod text_hygiene;
mod unsafe_code;

use std::fmt;

use crate::tree::{Tree, TreeError};

/// Where the tables are, for findings about them.
const TABLES: &str = "xtask/src/tidy/tables.rs";

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// Counted from 1.
    line: usize,
    what: String,
    expected: String,
    action: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, what, expected, action } = self;
        write!(f, "{path}:{line}: {what}; expected {expected}; {action}")
    }
}

/// What the checks said.
#[derive(Debug)]
pub(crate) struct Report {
    findings: Vec<Finding>,
    checks: usize,
    files: usize,
}

impl Report {
    /// Says whether nothing was found.
    pub(crate) fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let Self { findings, checks, files } = self;
        match findings.len() {
            0 => write!(f, "tidy: {checks} checks over {files} files found nothing"),
            1 => write!(f, "tidy: {checks} checks over {files} files, 1 finding"),
            count => write!(f, "tidy: {checks} checks over {files} files, {count} findings"),
        }
    }
}

/// Runs every check over `tree`.
///
/// # Errors
/// If cargo cannot describe the workspace.
pub(crate) fn run(tree: &Tree) -> Result<Report, TreeError> {
    let by_check = [
        file_size::check(tree, tables::GENERATED_FILES),
        function_size::check(tree, tables::GENERATED_FILES),
        module_docs::check(tree),
        unsafe_code::check(tree, tables::UNSAFE_PLACES, tables::FORBID_UNSAFE),
        crate_edges::check(tree, tables::CRATE_EDGES)?,
        runtime_imports::check(tree, tables::RUNTIME_IMPORTS),
        op_stems::check(tree, &tables::STEMS),
        text_hygiene::check(tree),
    ];
    let checks = by_check.len();
    let mut findings: Vec<Finding> = by_check.into_iter().flatten().collect();
    findings.sort();
    findings.dedup();
    Ok(Report { findings, checks, files: tree.files.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::testing;

    #[test]
    fn a_report_has_a_line_a_finding_and_a_summary() {
        let finding = Finding {
            path: "a.rs".into(),
            line: 3,
            what: "this".into(),
            expected: "that".into(),
            action: "do so".into(),
        };
        let report = Report { findings: vec![finding], checks: 8, files: 2 };
        assert!(!report.is_clean());
        assert_eq!(
            report.to_string(),
            "a.rs:3: this; expected that; do so\ntidy: 8 checks over 2 files, 1 finding"
        );
    }

    /// Every check is wired in: a tree that breaks each rule gets a finding from each.
    #[test]
    fn every_check_runs() {
        let long_function = format!("fn long() {{\n{}}}\n", "    step();\n".repeat(70));
        let long_file = format!("//! Long.\n{}", "const A: u8 = 0;\n".repeat(500));
        let folder = testing::folder(&[
            ("Cargo.toml", "[workspace]\nmembers = [\"graphs\", \"compiler\"]\nresolver = \"3\"\n"),
            ("graphs/Cargo.toml", "[package]\nname = \"gptjc-graphs\"\n"),
            ("graphs/src/lib.rs", &long_function),
            ("graphs/src/ops/lonely.rs", "//! An op without a kernel.\n"),
            (
                "compiler/Cargo.toml",
                "[package]\nname = \"gptjc-compiler\"\n[dependencies]\ngptjc-stranger = { path = \"../graphs\", package = \"gptjc-graphs\" }\n",
            ),
            ("compiler/src/lib.rs", &long_file),
            ("runtime/src/lib.rs", "//! Runtime.\nuse gptjc_graphs::graph::Graph;\n"),
            ("notes.md", "trailing \n"),
        ]);
        let report = run(&Tree::open(folder.path()).unwrap()).unwrap().to_string();
        for part in [
            "compiler/src/lib.rs:501: 501 lines",
            "graphs/src/lib.rs:1: function `long` has 72 lines",
            "graphs/src/lib.rs:1: no module documentation",
            "graphs/src/lib.rs:1: `unsafe` code is not forbidden",
            "package `xtask` of the table is not in the workspace",
            "runtime/src/lib.rs:2: the runtime uses `gptjc_graphs::graph`",
            "graphs/src/ops/lonely.rs:1: op stem `lonely` has no kernel",
            "notes.md:1: blanks at the end of the line",
        ] {
            assert!(report.contains(part), "no `{part}` in:\n{report}");
        }
    }
}
