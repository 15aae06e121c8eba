//! One op, one stem: every op family of `graphs/src/ops/` has its kernel and its filetest under the same name.
//!
//! What does not apply is listed in the table with a reason, and a row that is no longer needed is found.

use super::tables::{StemPlace, Stems};
use super::{Finding, TABLES};
use crate::tree::Tree;
use std::collections::BTreeMap;

const OPS: &str = "graphs/src/ops/";
const PLACES: [StemPlace; 2] = [StemPlace::Kernel, StemPlace::Filetest];

impl StemPlace {
    fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Filetest => "filetest",
        }
    }

    /// Where the stem's file or folder is: the folder, and the ending of the file.
    fn shape(self) -> (&'static str, &'static str) {
        match self {
            Self::Kernel => ("runtime/src/kernels/", "rs"),
            Self::Filetest => ("tests/filetests/ops/", "gir"),
        }
    }

    fn exists(self, tree: &Tree, stem: &str) -> bool {
        let (folder, ending) = self.shape();
        let inside = format!("{folder}{stem}/");
        let has_ending = |path: &str| path.rsplit('.').next() == Some(ending);
        tree.has(&format!("{folder}{stem}.{ending}")) || tree.under(&inside).any(has_ending)
    }
}

/// Finds ops without a place, and rows of the table that are wrong.
pub(super) fn check(tree: &Tree, table: &Stems<'_>) -> Vec<Finding> {
    let stems = stems(tree);
    let mut findings = Vec::new();
    for (stem, path) in &stems {
        if table.helpers.iter().any(|helper| helper.path == *stem) {
            continue;
        }
        for place in PLACES {
            let exempt = table.exemptions.iter().any(|row| row.stem == *stem && row.place == place);
            if !exempt && !place.exists(tree, stem) {
                findings.push(missing(stem, path, place));
            }
        }
    }
    findings.extend(stale_rows(tree, table, &stems));
    findings
}

/// The stems of `graphs/src/ops/`, each with a file; test modules beside an op are no stems.
fn stems(tree: &Tree) -> BTreeMap<&str, &str> {
    let mut stems = BTreeMap::new();
    for (path, _, rust) in tree.rust_files() {
        let Some(inside) = path.strip_prefix(OPS) else { continue };
        let stem = inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs");
        if stem != "mod" && !rust.only_tests {
            stems.entry(stem).or_insert(path);
        }
    }
    stems
}

fn missing(stem: &str, path: &str, place: StemPlace) -> Finding {
    let (folder, ending) = place.shape();
    Finding {
        path: path.to_owned(),
        line: 1,
        what: format!("op stem `{stem}` has no {}", place.name()),
        expected: format!("`{folder}{stem}.{ending}` or `{folder}{stem}/`"),
        action: format!("add it, or a row with the reason why it does not apply to STEMS in {TABLES}"),
    }
}

fn stale_rows(tree: &Tree, table: &Stems<'_>, stems: &BTreeMap<&str, &str>) -> Vec<Finding> {
    let stale = |what: String| Finding {
        path: TABLES.into(),
        line: 1,
        what,
        expected: "only rows that are needed".into(),
        action: "remove the row from STEMS".into(),
    };
    let helpers = table.helpers.iter().filter(|helper| !stems.contains_key(helper.path));
    let mut findings: Vec<Finding> = helpers
        .map(|helper| stale(format!("`{OPS}{}` does not exist ({})", helper.path, helper.reason)))
        .collect();
    for row in table.exemptions {
        let (stem, place, reason) = (row.stem, row.place.name(), row.reason);
        if !stems.contains_key(stem) {
            findings
                .push(stale(format!("there is no op stem `{stem}` to excuse from its {place} ({reason})")));
        } else if row.place.exists(tree, stem) {
            findings
                .push(stale(format!("op stem `{stem}` has the {place} that it is excused from ({reason})")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tables::{Place, StemExemption};
    use crate::tree::testing::tree;

    const NO_ROWS: Stems<'static> = Stems { helpers: &[], exemptions: &[] };
    const OP: (&str, &str) = ("graphs/src/ops/rotary.rs", "//! Rotary.\n");
    const KERNEL: (&str, &str) = ("runtime/src/kernels/rotary/mod.rs", "//! Rotary.\n");
    const FILETEST: (&str, &str) = ("tests/filetests/ops/rotary.gir", "");

    fn whats(files: &[(&str, &str)], table: &Stems<'_>) -> Vec<String> {
        check(&tree(files), table).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_missing_kernel_and_a_missing_filetest_are_found() {
        assert_eq!(whats(&[OP, FILETEST], &NO_ROWS), ["op stem `rotary` has no kernel"]);
        assert_eq!(whats(&[OP, KERNEL], &NO_ROWS), ["op stem `rotary` has no filetest"]);
    }

    #[test]
    fn files_and_folders_with_the_stem_will_do() {
        assert!(whats(&[OP, KERNEL, FILETEST], &NO_ROWS).is_empty());
        let others = [
            ("graphs/src/ops/rotary/mod.rs", "//! Rotary.\n#[cfg(test)] mod tests;\n"),
            ("graphs/src/ops/rotary/tests.rs", "//! Tests.\n"),
            ("graphs/src/ops/mod.rs", "//! Ops.\n#[cfg(test)] mod rotary_tests;\n"),
            ("graphs/src/ops/rotary_tests.rs", "//! Tests.\n"),
            ("runtime/src/kernels/rotary.rs", "//! Rotary.\n"),
            ("tests/filetests/ops/rotary/partial.gir", ""),
        ];
        assert!(whats(&others, &NO_ROWS).is_empty());
    }

    #[test]
    fn rows_excuse_helpers_and_places() {
        let table = Stems {
            helpers: &[Place { path: "rule", reason: "shared" }],
            exemptions: &[StemExemption { stem: "rotary", place: StemPlace::Kernel, reason: "folded away" }],
        };
        assert!(whats(&[OP, FILETEST, ("graphs/src/ops/rule.rs", "")], &table).is_empty());
    }

    #[test]
    fn rows_that_are_not_needed_are_found() {
        let table = Stems {
            helpers: &[Place { path: "rule", reason: "shared" }],
            exemptions: &[
                StemExemption { stem: "rotary", place: StemPlace::Kernel, reason: "folded away" },
                StemExemption { stem: "gone", place: StemPlace::Filetest, reason: "no text" },
            ],
        };
        assert_eq!(
            whats(&[OP, KERNEL, FILETEST], &table),
            [
                "`graphs/src/ops/rule` does not exist (shared)",
                "op stem `rotary` has the kernel that it is excused from (folded away)",
                "there is no op stem `gone` to excuse from its filetest (no text)",
            ]
        );
    }
}
