//! No function has more than 60 lines, from the line of its `fn` to that of its closing brace; a function in
//! test code may have 80, since tables of cases are long.
//!
//! There are no exemptions but generated files. A closure or an inner function counts as part of the outer.

use super::Finding;
use super::file_size::is_generated;
use super::tables::Place;
use crate::source::{RustSource, body_open, leading_identifier, matching_close, words};
use crate::tree::Tree;

/// Most lines of a function.
const MOST_LINES: usize = 60;
/// Most lines of a function that is compiled only for tests.
const MOST_TEST_LINES: usize = 80;

/// A function with a body.
#[derive(Debug, PartialEq)]
struct Function<'a> {
    name: &'a str,
    offset: usize,
    /// The line of its `fn`, counted from 1.
    line: usize,
    lines: usize,
}

/// Finds functions that are too long.
pub(super) fn check(tree: &Tree, generated: &[Place]) -> Vec<Finding> {
    let files = tree.rust_files().filter(|(path, _, _)| !is_generated(path, generated));
    files.flat_map(|(path, _, rust)| functions(rust).filter_map(move |f| too_long(path, rust, &f))).collect()
}

fn too_long(path: &str, rust: &RustSource, function: &Function<'_>) -> Option<Finding> {
    let is_test = rust.is_test(function.offset);
    let most = if is_test { MOST_TEST_LINES } else { MOST_LINES };
    let Function { name, line, lines, .. } = *function;
    (lines > most).then(|| Finding {
        path: path.to_owned(),
        line,
        what: format!("function `{name}` has {lines} lines"),
        expected: format!("at most {most}{}", if is_test { " in test code" } else { "" }),
        action: "move steps that have a name of their own into functions".into(),
    })
}

fn functions(rust: &RustSource) -> impl Iterator<Item = Function<'_>> {
    let code = rust.code.as_str();
    words(code, "fn").filter_map(move |offset| {
        let after = code[offset + "fn".len()..].trim_start();
        // `fn(u8)` is a type; `fn $name` is a function of a macro.
        let name = leading_identifier(after.strip_prefix('$').unwrap_or(after));
        if name.is_empty() {
            return None;
        }
        let close = matching_close(code, body_open(code, offset)?)?;
        let line = rust.line_of(offset);
        Some(Function { name, offset, line, lines: rust.line_of(close - 1) - line + 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::testing::tree;

    /// A function of `lines` lines.
    fn function(name: &str, lines: usize) -> String {
        format!("fn {name}() {{\n{}}}\n", "    let _ = (\"}}\", '}'); // }\n".repeat(lines - 2))
    }

    fn found(text: &str) -> Vec<String> {
        let findings = check(&tree(&[("a/src/lib.rs", text)]), &[]);
        findings.iter().map(|finding| format!("{}: {}", finding.line, finding.what)).collect()
    }

    #[test]
    fn a_long_function_is_found() {
        let text = function("short", 60) + &function("long", 61);
        assert_eq!(found(&text), ["61: function `long` has 61 lines"]);
    }

    #[test]
    fn test_code_may_be_longer() {
        let inside = |lines| format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function("case", lines));
        assert!(found(&inside(80)).is_empty());
        assert_eq!(found(&inside(81)), ["3: function `case` has 81 lines"]);
    }

    #[test]
    fn declarations_and_types_have_no_size() {
        let text = format!("trait A {{ fn declared(&self);\n}}\ntype B = fn(u8);\n{}", function("short", 10));
        assert!(found(&text).is_empty());
    }

    #[test]
    fn a_generated_file_is_left_out() {
        let tree = tree(&[("a/proto.rs", &function("long", 90))]);
        let generated = [Place { path: "a/proto.rs", reason: "by prost" }];
        assert_eq!(check(&tree, &generated), []);
    }
}
