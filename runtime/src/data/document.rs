//! Plain text: documents of which every token is learned.
//!
//! Does: take documents from text files, one a file or cut at separators, or from the column `text` of a
//! [container](super::table).
//!
//! Does not: cut a document to the length of a window (packing does), or change text, but for the line ends before and
//! after a separator, which are part of it.

use super::rows::{RowsError, Skipped};
use super::table::{At, Cell, Column, Container, Place, Table, TableError};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A text of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The text; never blank.
    pub text: String,
    /// Line of the file where it begins, or row if the file has no lines, from 1.
    pub line: u64,
}

/// What lies between two documents of a text file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Separator {
    /// Nothing: a file is one document, as it stands.
    #[default]
    File,
    /// Every line is a document.
    Line,
    /// One blank line or more.
    BlankLine,
    /// A line that consists of this text.
    Text(String),
}

impl FromStr for Separator {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "file" => Ok(Self::File),
            "line" => Ok(Self::Line),
            "blank-line" => Ok(Self::BlankLine),
            text if text.trim().is_empty() || text.contains('\n') => {
                Err("expected file, line, blank-line, or the text of a line that separates documents"
                    .to_owned())
            }
            text => Ok(Self::Text(text.to_owned())),
        }
    }
}

impl fmt::Display for Separator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::File => "file",
            Self::Line => "line",
            Self::BlankLine => "blank-line",
            Self::Text(text) => text,
        })
    }
}

impl Separator {
    /// The documents of `text`, and how many lines or files were left out because they are blank.
    pub fn documents(&self, text: &str) -> (Vec<Document>, u64) {
        if *self == Self::File {
            let blank = text.trim().is_empty();
            let document = (!blank).then(|| Document { text: text.to_owned(), line: 1 });
            return (document.into_iter().collect(), blank.into());
        }
        let mut cutter = Cutter::default();
        let mut at = 0;
        for (number, line) in (1..).zip(text.split_inclusive('\n')) {
            let bare = line.trim_end_matches(['\n', '\r']);
            let (ends_before, is_text) = match self {
                Self::File => (false, true),
                Self::Line => (true, true),
                Self::BlankLine => (bare.trim().is_empty(), !bare.trim().is_empty()),
                Self::Text(separator) => (bare == separator, bare != separator),
            };
            if ends_before {
                cutter.end(text, at, *self != Self::BlankLine);
            }
            if is_text {
                cutter.begin(at, number);
            }
            at += line.len();
        }
        cutter.end(text, at, false);
        (cutter.documents, cutter.blank)
    }
}

/// Cuts a text into documents.
#[derive(Default)]
struct Cutter {
    documents: Vec<Document>,
    blank: u64,
    /// Where the current document begins: byte and line.
    begun: Option<(usize, u64)>,
}

impl Cutter {
    fn begin(&mut self, at: usize, line: u64) {
        self.begun.get_or_insert((at, line));
    }

    /// Ends the current document before byte `at`; a blank one is left out and, if `counts`, counted.
    fn end(&mut self, text: &str, at: usize, counts: bool) {
        let Some((begin, line)) = self.begun.take() else { return };
        let text = text[begin..at].trim_end_matches(['\n', '\r']);
        if text.trim().is_empty() {
            self.blank += u64::from(counts);
        } else {
            self.documents.push(Document { text: text.to_owned(), line });
        }
    }
}

/// Reads a whole file: a text file if `container` is none, else the column `text`.
///
/// # Errors
/// See [`RowsError`].
pub(super) fn read_file(
    file: &Path,
    container: Option<Container>,
    separator: &Separator,
) -> Result<(Vec<Document>, Skipped), RowsError> {
    let Some(container) = container else {
        let (documents, blank) = separator.documents(&read_text(file)?);
        return Ok((documents, Skipped { blank_documents: blank, ..Skipped::default() }));
    };
    let mut table = Table::open(file, container, &[Column { names: &["text"], required: true }])?;
    let (mut documents, mut blank_documents) = (Vec::new(), 0);
    while let Some(record) = table.next() {
        let mut record = record?;
        let is_null = record.fields[0].cell == Cell::Null;
        let text = if is_null { String::new() } else { table.take_text(&mut record, 0)? };
        if text.trim().is_empty() {
            blank_documents += 1;
        } else {
            documents.push(Document { text, line: record.place.number() });
        }
    }
    Ok((documents, Skipped { blank_documents, blank_lines: table.blank_lines(), ..Skipped::default() }))
}

fn read_text(file: &Path) -> Result<String, TableError> {
    let bytes = std::fs::read(file).map_err(|source| TableError::Io { file: file.to_owned(), source })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..valid].iter().filter(|&&byte| byte == b'\n').count() as u64;
        TableError::Malformed {
            at: At { file: file.to_owned(), place: Place::Line(line) },
            reason: format!("not UTF-8 at byte {valid} of the file"),
            expected: "plain text in UTF-8",
        }
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(separator: &str, text: &str) -> (Vec<String>, Vec<u64>, u64) {
        let (documents, blank) = separator.parse::<Separator>().unwrap().documents(text);
        let lines = documents.iter().map(|document| document.line).collect();
        (documents.into_iter().map(|document| document.text).collect(), lines, blank)
    }

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn a_file_is_one_document_as_it_stands() {
        assert_eq!(texts("file", "a\n\nb\n"), (owned(&["a\n\nb\n"]), vec![1], 0));
        assert_eq!(texts("file", " \n"), (vec![], vec![], 1));
    }

    #[test]
    fn lines_blank_lines_and_texts_separate() {
        let text = "one\r\ntwo\n\n\n  three\n---\nfour";
        assert_eq!(
            texts("line", text),
            (owned(&["one", "two", "  three", "---", "four"]), vec![1, 2, 5, 6, 7], 2)
        );
        let blank = (owned(&["one\r\ntwo", "  three\n---\nfour"]), vec![1, 5], 0);
        assert_eq!(texts("blank-line", text), blank);
        let dashes = (owned(&["one\r\ntwo\n\n\n  three", "four"]), vec![1, 7], 0);
        assert_eq!(texts("---", text), dashes);
        assert_eq!(texts("---", "---\n\n---\na\n---\n"), (owned(&["a"]), vec![4], 1));
        assert_eq!(texts("line", ""), (vec![], vec![], 0));
    }

    #[test]
    fn a_separator_is_one_line_with_something_in_it() {
        for text in ["", "  ", "a\nb"] {
            assert!(text.parse::<Separator>().is_err(), "{text:?}");
        }
        for text in ["file", "line", "blank-line", "<|endoftext|>"] {
            assert_eq!(text.parse::<Separator>().unwrap().to_string(), text);
        }
    }
}
