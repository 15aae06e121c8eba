//! Reading Rust source as text: where code is and where it is not, which code is only for tests.
//!
//! This is a scanner, not a parser. It knows comments, literals, attributes and brackets, which is enough
//! for tidy's questions and keeps tidy free of dependencies. It does not expand macros and does not follow
//! `#[path]`.

mod mask;
mod regions;

pub(crate) use mask::mask;

use std::ops::Range;

/// One Rust file, with what the checks need to know about it.
#[derive(Debug)]
pub(crate) struct RustSource {
    /// The text with every comment and every literal blanked out; offsets and lines are those of the text.
    pub(crate) code: String,
    /// Byte ranges of items under `#[cfg(test)]` or `#[test]`.
    test_ranges: Vec<Range<usize>>,
    /// Names of the modules declared as `#[cfg(test)] mod name;`: their files are test code as a whole.
    pub(crate) test_modules: Vec<String>,
    /// Whether the whole file is test code.
    pub(crate) only_tests: bool,
}

impl RustSource {
    /// Scans `text`.
    pub(crate) fn new(text: &str) -> Self {
        let code = mask(text);
        let found = regions::test_regions(&code);
        Self { code, test_ranges: found.ranges, test_modules: found.modules, only_tests: found.whole_file }
    }

    /// Says whether the code at `offset` is compiled only for tests.
    pub(crate) fn is_test(&self, offset: usize) -> bool {
        self.only_tests || self.test_ranges.iter().any(|range| range.contains(&offset))
    }

    /// The line, counted from 1, of a byte offset.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        line_of(&self.code, offset)
    }
}

/// The line, counted from 1, of a byte offset of `text`.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    before.bytes().filter(|&byte| byte == b'\n').count() + 1
}

/// Offsets at which `word` stands as a whole identifier in `code`.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_identifier_char) && !after.is_some_and(is_identifier_char)
    })
}

/// Says whether `c` can be part of an identifier.
pub(crate) fn is_identifier_char(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// The identifier at the start of `text`, empty if there is none.
pub(crate) fn leading_identifier(text: &str) -> &str {
    let end = text.find(|c: char| !is_identifier_char(c)).unwrap_or(text.len());
    &text[..end]
}

/// The offset just after the bracket that closes the one at `open`, in masked code; `None` if it never closes.
pub(crate) fn matching_close(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Where an item that starts at `from` has its body: the offset of the first `{` outside of parentheses and
/// square brackets, or `None` if a `;` comes first.
pub(crate) fn body_open(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.checked_sub(1)?,
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_whole_identifiers() {
        let code = "unsafe_code unsafe { not_unsafe }; (unsafe)";
        assert_eq!(words(code, "unsafe").collect::<Vec<_>>(), [12, 36]);
    }

    #[test]
    fn a_body_is_found_behind_brackets_in_the_signature() {
        let code = "fn f(a: [u8; { 2 }]) -> [u8; 3] { g() }";
        let open = body_open(code, 0);
        assert_eq!(open, Some(32));
        assert_eq!(matching_close(code, 32), Some(code.len()));
        assert_eq!(body_open("fn declared(a: [u8; 3]);", 0), None);
    }

    #[test]
    fn lines_count_from_one() {
        assert_eq!(line_of("a\nb\n", 0), 1);
        assert_eq!(line_of("a\nb\n", 2), 2);
    }
}
