//! Finds the code that is compiled only for tests.
//!
//! Input is masked code. An item is test code if one of its attributes is `#[cfg(test)]` (also inside of
//! `all(…)` or `any(…)`, but not under `not(…)`) or ends in `test`, as `#[test]` does.

use super::{body_open, is_identifier_char, matching_close, words};
use std::ops::Range;

/// The test code of one file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct TestRegions {
    /// Byte ranges of items for tests.
    pub(super) ranges: Vec<Range<usize>>,
    /// Modules declared as `#[cfg(test)] mod name;`.
    pub(super) modules: Vec<String>,
    /// Whether the file says `#![cfg(test)]`.
    pub(super) whole_file: bool,
}

/// Finds the test regions of masked `code`.
pub(super) fn test_regions(code: &str) -> TestRegions {
    let mut found = TestRegions::default();
    for (start, _) in code.match_indices('#') {
        let Some((attribute, end, inner)) = attribute_at(code, start) else { continue };
        if !is_for_tests(attribute) {
            continue;
        }
        if inner {
            found.whole_file = true;
            continue;
        }
        let item = skip_attributes(code, end);
        match body_open(code, item).and_then(|open| matching_close(code, open)) {
            Some(close) => found.ranges.push(start..close),
            None => {
                found.modules.extend(declared_module(&code[item..]));
                found.ranges.push(start..code[item..].find(';').map_or(code.len(), |length| item + length));
            }
        }
    }
    found
}

/// The attribute that starts at `start`: its text, where it ends, and whether it is an inner one.
fn attribute_at(code: &str, start: usize) -> Option<(&str, usize, bool)> {
    let rest = &code[start + 1..];
    let inner = rest.starts_with('!');
    let open = start + 1 + usize::from(inner);
    if code.as_bytes().get(open) != Some(&b'[') {
        return None;
    }
    let end = matching_close(code, open)?;
    Some((code[open + 1..end - 1].trim(), end, inner))
}

fn is_for_tests(attribute: &str) -> bool {
    let compact: String = attribute.chars().filter(|c| !c.is_whitespace()).collect();
    if compact.starts_with("cfg(") {
        return words(&compact, "test").next().is_some() && !compact.contains("not(test");
    }
    let path = compact.split('(').next().unwrap_or_default();
    path.rsplit("::").next() == Some("test")
}

/// The offset of the item after any further attributes.
fn skip_attributes(code: &str, from: usize) -> usize {
    let mut at = from;
    loop {
        at += code[at..].len() - code[at..].trim_start().len();
        if !code[at..].starts_with('#') {
            return at;
        }
        match attribute_at(code, at) {
            Some((_, end, _)) => at = end,
            None => return at,
        }
    }
}

/// The name in `mod name;`, whatever its visibility.
fn declared_module(item: &str) -> Option<String> {
    let head = &item[..item.find(';')?];
    let at = words(head, "mod").next()?;
    let name = head[at + "mod".len()..].trim();
    (!name.is_empty() && name.chars().all(is_identifier_char)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(code: &str) -> Vec<&str> {
        test_regions(code).ranges.into_iter().map(|range| &code[range]).collect()
    }

    #[test]
    fn test_modules_and_functions_are_found() {
        let code =
            "fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests { fn b() {} }\n#[test] fn c() {}\nfn d() {}";
        assert_eq!(
            covered(code),
            ["#[cfg(test)]\n#[allow(x)]\nmod tests { fn b() {} }", "#[test] fn c() {}"]
        );
    }

    #[test]
    fn modules_in_other_files_are_named() {
        let found = test_regions("#[cfg(all(test, unix))]\npub(crate) mod checks;\nmod other;");
        assert_eq!(found.modules, ["checks"]);
    }

    #[test]
    fn code_for_everything_but_tests_is_no_test_code() {
        for code in ["#[cfg(not(test))] fn a() {}", "#[cfg(unix)] fn a() {}", "#[attest] fn a() {}"] {
            assert_eq!(test_regions(code), TestRegions::default(), "{code}");
        }
    }

    #[test]
    fn an_inner_attribute_covers_the_file() {
        assert!(test_regions("#![cfg(test)]\nfn a() {}").whole_file);
    }
}
