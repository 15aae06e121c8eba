//! Files of training text, read whole.
//!
//! Does: read a file of any [format](super::format) and say what was left out and why.
//!
//! Does not: tokenize; [`super::examples`] does.

use super::completion::{self, Completion};
use super::document::{self, Document, Separator};
use super::format::{Format, Layout};
use super::mnli::{self, MnliRow, Purpose};
use super::table::{At, Container, TableError};
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// How many rows or lines were left out, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Rows whose label is `"-"`, `-1` or `null`: the annotators did not agree, or the label is not published.
    pub no_label: u64,
    /// Rows whose completion is null or empty.
    pub no_completion: u64,
    /// Documents of white space alone.
    pub blank_documents: u64,
    /// Empty lines.
    pub blank_lines: u64,
}

impl Skipped {
    /// Nothing was left out.
    pub const NOTHING: Self = Self { no_label: 0, no_completion: 0, blank_documents: 0, blank_lines: 0 };

    /// Rows that were left out. A blank line is none.
    pub const fn rows(&self) -> u64 {
        self.no_label + self.no_completion + self.blank_documents
    }

    /// Refuses a file that leaves nothing.
    pub(super) fn check(&self, file: &Path, nothing_left: bool) -> Result<(), RowsError> {
        let file = file.to_owned();
        match (nothing_left, self.rows()) {
            (false, _) => Ok(()),
            (true, 0) => Err(RowsError::Empty { file }),
            (true, _) => Err(RowsError::NothingLeft { file, skipped: *self }),
        }
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = [
            (self.no_label, "row without a label", "rows without a label"),
            (self.no_completion, "row without a completion", "rows without a completion"),
            (self.blank_documents, "blank document", "blank documents"),
            (self.blank_lines, "blank line", "blank lines"),
        ];
        let said = reasons.iter().filter(|(count, ..)| *count > 0);
        let said: Vec<String> = said
            .map(|&(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }))
            .collect();
        formatter.write_str(if said.is_empty() { "nothing" } else { "" })?;
        formatter.write_str(&said.join(", "))
    }
}

/// Why a file gave no rows. Every message names the file.
#[derive(Debug, Error)]
pub enum RowsError {
    /// The file cannot be read, or is not what its container demands.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A label that MultiNLI does not have.
    #[error(
        "{at}: {name} {found} is none of entailment, neutral, contradiction (0, 1, 2), nor \"-\" or -1 for no label"
    )]
    UnknownLabel {
        /// Where.
        at: At,
        /// The column.
        name: &'static str,
        /// The value.
        found: String,
    },
    /// A row that says half of its question elsewhere.
    #[error(
        "{at}: there is an `instruction`, and no template that joins it with the rest; write what the model is to read into `prompt` and what it is to answer into `completion`"
    )]
    Instruction {
        /// Where.
        at: At,
    },
    /// Messages of a chat.
    #[error("{} holds chats (`messages`); there is no chat template: write each as `prompt` and `completion`", file.display())]
    Chat {
        /// The file.
        file: PathBuf,
    },
    /// Nothing that is known.
    #[error("{}: found the columns {found}; expected sentence1, sentence2 and gold_label (or premise, hypothesis and label), or prompt and completion, or text; rename them, or say with --data-format what they are", file.display())]
    UnknownColumns {
        /// The file.
        file: PathBuf,
        /// The columns.
        found: String,
    },
    /// The file is something that must be unpacked or fetched first.
    #[error("{} is {what}; {advice}", file.display())]
    NoRows {
        /// The file.
        file: PathBuf,
        /// What it is.
        what: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// Nothing but blank lines.
    #[error("{} is empty: it has no row", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// Every row was skipped.
    #[error("{} has no row to train on: skipped {skipped}{}", file.display(), hint(skipped))]
    NothingLeft {
        /// The file.
        file: PathBuf,
        /// What was skipped.
        skipped: Skipped,
    },
}

fn hint(skipped: &Skipped) -> &'static str {
    if skipped.no_label > 0 { "; is it a test split, whose labels are not published?" } else { "" }
}

/// Rows of one format, in their file's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Premises, hypotheses and labels.
    Mnli(Vec<MnliRow>),
    /// Prompts and completions.
    Completions(Vec<Completion>),
    /// Plain text.
    Documents(Vec<Document>),
}

impl Rows {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Mnli(rows) => rows.len(),
            Self::Completions(rows) => rows.len(),
            Self::Documents(documents) => documents.len(),
        }
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps the first `count`.
    pub fn truncate(&mut self, count: usize) {
        match self {
            Self::Mnli(rows) => rows.truncate(count),
            Self::Completions(rows) => rows.truncate(count),
            Self::Documents(documents) => documents.truncate(count),
        }
    }

    /// Line, or row of the file, of the row `index`.
    pub fn line(&self, index: usize) -> Option<u64> {
        match self {
            Self::Mnli(rows) => rows.get(index).map(|row| row.line),
            Self::Completions(rows) => rows.get(index).map(|row| row.line),
            Self::Documents(documents) => documents.get(index).map(|document| document.line),
        }
    }
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowsOfFile {
    /// Its format.
    pub format: Format,
    /// What held the rows; none for plain text.
    pub container: Option<Container>,
    /// The rows.
    pub rows: Rows,
    /// What was left out.
    pub skipped: Skipped,
}

/// Reads the whole of `file` to learn from it; `format` is what it was said to be, `separator` what lies between the
/// documents of a text file.
///
/// # Errors
/// See [`RowsError`]; a file without any row is an error too.
pub fn read_file(
    file: &Path,
    format: Option<Format>,
    separator: &Separator,
) -> Result<RowsOfFile, RowsError> {
    let Layout { format, container } = Layout::of(file, format)?;
    let (rows, skipped) = match (format, container) {
        (Format::Mnli, container) => {
            let read = mnli::read_rows(file, container.unwrap_or(Container::Tsv), Purpose::Training)?;
            (Rows::Mnli(read.rows), read.skipped)
        }
        (Format::PromptCompletion, container) => {
            let (rows, skipped) = completion::read_file(file, container.unwrap_or(Container::JsonLines))?;
            (Rows::Completions(rows), skipped)
        }
        (Format::Text, container) => {
            let (documents, skipped) = document::read_file(file, container, separator)?;
            (Rows::Documents(documents), skipped)
        }
    };
    skipped.check(file, rows.is_empty())?;
    Ok(RowsOfFile { format, container, rows, skipped })
}
