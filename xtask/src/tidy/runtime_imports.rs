//! The runtime never sees the graph: of `gptjc_graphs` it uses only the modules of the table.
//!
//! Test code is left out, because the reference interpreter is the oracle of the kernels. A glob, a rename or
//! an import of the whole crate is refused, since what comes through it cannot be told.

use super::tables::RuntimeImport;
use super::{Finding, TABLES};
use crate::source::{leading_identifier, matching_close, words};
use crate::tree::Tree;

const FOLDER: &str = "runtime/src/";
const CRATE: &str = "gptjc_graphs";

/// Finds uses of other modules than those of `table`.
pub(super) fn check(tree: &Tree, table: &[RuntimeImport]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, _, rust) in tree.rust_files().filter(|(path, _, _)| path.starts_with(FOLDER)) {
        for offset in words(&rust.code, CRATE).filter(|&offset| !rust.is_test(offset)) {
            for module in used_modules(&rust.code, offset + CRATE.len()) {
                if !table.iter().any(|row| row.module == module) {
                    findings.push(refusal(path, rust.line_of(offset), module, table));
                }
            }
        }
    }
    findings
}

fn refusal(path: &str, line: usize, module: &str, table: &[RuntimeImport]) -> Finding {
    let allowed: Vec<String> = table.iter().map(|row| format!("`{}` ({})", row.module, row.reason)).collect();
    Finding {
        path: path.to_owned(),
        line,
        what: format!("the runtime uses `{CRATE}::{module}`"),
        expected: format!("only {}", allowed.join(", ")),
        action: format!("let the plan carry what is needed; the table is in {TABLES}"),
    }
}

/// The modules named after the crate's name that ends at `after`: one, those of a group, or `*` for all.
fn used_modules(code: &str, after: usize) -> Vec<&str> {
    let Some(path) = code[after..].trim_start().strip_prefix("::") else { return vec!["*"] };
    let start = code.len() - path.trim_start().len();
    if !code[start..].starts_with('{') {
        return vec![first_segment(&code[start..])];
    }
    let end = matching_close(code, start).map_or(code.len(), |close| close - 1);
    split_group(&code[start + 1..end]).into_iter().map(first_segment).collect()
}

fn first_segment(path: &str) -> &str {
    match leading_identifier(path) {
        "" | "self" => "*",
        name => name,
    }
}

/// The paths of `{a::b, c::{d, e}}`, at the outer level.
fn split_group(group: &str) -> Vec<&str> {
    let mut depth = 0usize;
    let parts = group.split(|c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::testing::tree;

    const TABLE: &[RuntimeImport] = &[
        RuntimeImport { module: "plan", reason: "executed" },
        RuntimeImport { module: "dtype", reason: "leaf" },
    ];

    fn found(text: &str) -> Vec<String> {
        let findings = check(&tree(&[("runtime/src/lib.rs", text)]), TABLE);
        findings.iter().map(|finding| format!("{}: {}", finding.line, finding.what)).collect()
    }

    /// Each row: code of the runtime, and what of the crate it may not use.
    #[test]
    fn other_modules_are_found() {
        let rows = [
            ("use gptjc_graphs::graph::Graph;", "graph"),
            ("fn f(g: &gptjc_graphs::ops::Op) {}", "ops"),
            ("use gptjc_graphs::{plan::{Plan, Step}, interp::run};", "interp"),
            ("use gptjc_graphs::\n    {dtype::DType, autodiff};", "autodiff"),
            ("use gptjc_graphs::*;", "*"),
            ("use gptjc_graphs::{self, plan};", "*"),
            ("use gptjc_graphs as g;", "*"),
        ];
        for (code, module) in rows {
            assert_eq!(found(code), [format!("1: the runtime uses `gptjc_graphs::{module}`")], "{code}");
        }
    }

    #[test]
    fn the_plan_is_fine() {
        let code = "use gptjc_graphs::plan::{Plan, graph};\nuse gptjc_graphs::{dtype::DType, plan};\n// gptjc_graphs::ops\n";
        assert!(found(code).is_empty());
    }

    #[test]
    fn tests_and_other_packages_may_use_the_interpreter() {
        assert!(found("#[cfg(test)]\nmod tests {\n    use gptjc_graphs::interp;\n}\n").is_empty());
        assert_eq!(check(&tree(&[("compiler/src/lib.rs", "use gptjc_graphs::graph;")]), TABLE), []);
    }
}
