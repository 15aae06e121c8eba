//! MultiNLI rows.
//!
//! Does: read rows from any [container](super::table) under both spellings of the columns
//! (`sentence1`/`sentence2`/`gold_label` of MultiNLI and GLUE, `premise`/`hypothesis`/`label` of Hugging Face), with
//! labels as words or as ids; name file, place and column of what is wrong; count what was left out and why.
//!
//! Does not: change text. Nothing is stripped, about a seventh of MultiNLI's hypotheses ends in a space.

use super::format::{Format, Layout};
use super::rows::{RowsError, Skipped};
use super::table::{Cell, Column, Container, Field, Record, Table};
use std::fmt;
use std::io::BufRead;
use std::path::Path;

/// What a premise says about a hypothesis. The order is that of GLUE's ids 0, 1, 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Label {
    /// Id 0: the premise implies the hypothesis.
    Entailment,
    /// Id 1: neither.
    Neutral,
    /// Id 2: they exclude each other.
    Contradiction,
}

impl Label {
    /// All labels, in the order of their ids.
    pub const ALL: [Self; 3] = [Self::Entailment, Self::Neutral, Self::Contradiction];

    /// The label as MultiNLI writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Entailment => "entailment",
            Self::Neutral => "neutral",
            Self::Contradiction => "contradiction",
        }
    }

    /// The label's id in GLUE: 0, 1 or 2.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The label of a word, as MultiNLI writes it; `None` for any other text.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|label| label.word() == word)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// One labelled pair of sentences, text as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MnliRow {
    /// `sentence1` or `premise`.
    pub premise: String,
    /// `sentence2` or `hypothesis`.
    pub hypothesis: String,
    /// The gold label; `None` only in rows read for [`Purpose::Validation`].
    pub label: Option<Label>,
    /// Line of the file, or row if the file has no lines, from 1.
    pub line: u64,
}

/// What rows are read for: it decides about rows without a label (`"-"`, `-1`, `null`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A row without a label is skipped and counted; a row without the *field* is an error.
    Training,
    /// A row without a label, or without the field, is kept: it is predicted and not counted.
    Validation,
}

/// All rows of a file, and what was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MnliRows {
    /// Rows in the file's order.
    pub rows: Vec<MnliRow>,
    /// What was left out.
    pub skipped: Skipped,
}

/// Reads a whole file; its container follows from its name and contents.
///
/// # Errors
/// See [`RowsError`]; a file without any row is an error too.
pub fn read_file(file: &Path, purpose: Purpose) -> Result<MnliRows, RowsError> {
    let layout = Layout::of(file, Some(Format::Mnli))?;
    let read = read_rows(file, layout.container.unwrap_or(Container::Tsv), purpose)?;
    read.skipped.check(file, read.rows.is_empty())?;
    Ok(read)
}

/// Reads all rows of a file, be it none.
pub(super) fn read_rows(file: &Path, container: Container, purpose: Purpose) -> Result<MnliRows, RowsError> {
    let mut reader = MnliReader::open(file, container, purpose)?;
    let rows = reader.by_ref().collect::<Result<Vec<_>, _>>()?;
    Ok(MnliRows { rows, skipped: reader.skipped() })
}

/// Streams the rows of one file: an iterator that ends after its first error.
pub struct MnliReader<'a> {
    table: Table<'a>,
    purpose: Purpose,
    without_label: u64,
}

/// The columns of a row.
fn columns(purpose: Purpose) -> [Column; 3] {
    [
        Column { names: &["sentence1", "premise"], required: true },
        Column { names: &["sentence2", "hypothesis"], required: true },
        Column { names: &["gold_label", "label"], required: purpose == Purpose::Training },
    ]
}
const PREMISE: usize = 0;
const HYPOTHESIS: usize = 1;
const LABEL: usize = 2;

impl<'a> MnliReader<'a> {
    /// Opens `file`, which `container` says how to read.
    ///
    /// # Errors
    /// See [`Table::open`].
    pub fn open(file: &Path, container: Container, purpose: Purpose) -> Result<Self, RowsError> {
        Ok(Self::new(Table::open(file, container, &columns(purpose))?, purpose))
    }

    /// Reads JSON lines from `source`; `file` is the name used in messages.
    pub fn json_lines(file: &Path, source: impl BufRead + 'a, purpose: Purpose) -> Self {
        Self::new(Table::json_lines(file, source, &columns(purpose)), purpose)
    }

    fn new(table: Table<'a>, purpose: Purpose) -> Self {
        Self { table, purpose, without_label: 0 }
    }

    /// What was left out so far.
    pub fn skipped(&self) -> Skipped {
        Skipped { no_label: self.without_label, blank_lines: self.table.blank_lines(), ..Skipped::default() }
    }
}

impl Iterator for MnliReader<'_> {
    type Item = Result<MnliRow, RowsError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let row = match self.table.next()? {
                Ok(record) => self.row(record),
                Err(error) => Err(error.into()),
            };
            if self.purpose == Purpose::Training && matches!(&row, Ok(row) if row.label.is_none()) {
                self.without_label += 1;
                continue;
            }
            return Some(row);
        }
    }
}

impl MnliReader<'_> {
    fn row(&self, mut record: Record) -> Result<MnliRow, RowsError> {
        let premise = self.table.take_text(&mut record, PREMISE)?;
        let hypothesis = self.table.take_text(&mut record, HYPOTHESIS)?;
        let Field { name, cell } = &record.fields[LABEL];
        let label = label(cell).map_err(|NotALabel| RowsError::UnknownLabel {
            at: self.table.at(&record),
            name,
            found: cell.to_string(),
        })?;
        Ok(MnliRow { premise, hypothesis, label, line: record.place.number() })
    }
}

/// A value that is neither a label nor the word for none.
struct NotALabel;

/// The label that a value stands for; none if it says that there is none.
fn label(cell: &Cell) -> Result<Option<Label>, NotALabel> {
    let id = match cell {
        Cell::Absent | Cell::Null => return Ok(None),
        Cell::Text(word) if word == "-" => return Ok(None),
        Cell::Text(word) => match Label::from_word(word) {
            Some(label) => return Ok(Some(label)),
            None => word.parse().map_err(|_| NotALabel)?,
        },
        Cell::Integer(id) => *id,
        Cell::Other(_) => return Err(NotALabel),
    };
    match id {
        -1 => Ok(None),
        0..=2 => Ok(Some(Label::ALL[id as usize])),
        _ => Err(NotALabel),
    }
}

#[cfg(test)]
#[path = "mnli_tests.rs"]
mod tests;
