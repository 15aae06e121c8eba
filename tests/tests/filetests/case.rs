//! The parts of a filetest.

use crate::AnyError;

/// The line above the expectation.
const EXPECT: &str = "; expect:";

/// A filetest, read.
pub(crate) struct Case<'s> {
    /// What is done: the first word behind `; test`.
    pub(crate) kind: &'s str,
    /// The other words.
    pub(crate) arguments: Vec<&'s str>,
    /// The file up to the expectation, with the first line, so that line numbers are those of the file.
    pub(crate) source: &'s str,
    /// The expectation, without comment marks.
    pub(crate) expected: String,
}

impl<'s> Case<'s> {
    /// Takes a file apart. A file without expectation expects nothing.
    pub(crate) fn parse(file: &'s str) -> Result<Self, AnyError> {
        let first = file.lines().next().unwrap_or_default();
        let mut words = first.strip_prefix("; test ").unwrap_or_default().split_whitespace();
        let kind =
            words.next().ok_or_else(|| format!("line 1: expected `; test <kind>`, found `{first}`"))?;
        let (source, expectation) = match file.find(&format!("\n{EXPECT}\n")) {
            Some(newline) => (&file[..=newline], &file[newline + 1 + EXPECT.len() + 1..]),
            None => (file, ""),
        };
        let mut expected = String::new();
        for line in expectation.lines() {
            let line =
                line.strip_prefix(';').ok_or_else(|| format!("behind `{EXPECT}`: `{line}` is no comment"))?;
            expected.push_str(line.strip_prefix(' ').unwrap_or(line));
            expected.push('\n');
        }
        Ok(Self { kind, arguments: words.collect(), source, expected })
    }

    /// Lines of comments that begin with `; <keyword> `, without that.
    pub(crate) fn comments<'c>(&'c self, keyword: &'c str) -> impl Iterator<Item = &'s str> + 'c {
        let lines = self.source.lines().filter_map(|line| line.strip_prefix("; "));
        lines.filter_map(move |line| line.strip_prefix(keyword)?.strip_prefix(' '))
    }

    /// The file with `found` as its expectation.
    pub(crate) fn blessed(&self, found: &str) -> String {
        let mut file = format!("{}\n{EXPECT}\n", self.source.trim_end());
        for line in found.lines() {
            file.push_str(if line.is_empty() { ";" } else { "; " });
            file.push_str(line);
            file.push('\n');
        }
        file
    }
}

#[test]
fn a_file_is_taken_apart() {
    let case = Case::parse("; test run a b\n; in x 1: 2\ngraph\n; expect:\n; out\n;\n;   y\n").unwrap();
    assert_eq!((case.kind, case.arguments.as_slice()), ("run", ["a", "b"].as_slice()));
    assert_eq!(case.source, "; test run a b\n; in x 1: 2\ngraph\n");
    assert_eq!(case.expected, "out\n\n  y\n");
    assert_eq!(case.comments("in").collect::<Vec<_>>(), ["x 1: 2"]);
    assert_eq!(
        case.blessed(&case.expected),
        "; test run a b\n; in x 1: 2\ngraph\n; expect:\n; out\n;\n;   y\n"
    );
    assert!(Case::parse("graph @f() { return }").is_err());
}
