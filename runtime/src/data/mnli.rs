//! MultiNLI rows from JSONL files.
//!
//! Does: stream a file line by line; read both spellings of the fields (`sentence1`/`sentence2`/`gold_label` of
//! MultiNLI, `premise`/`hypothesis`/`label` of GLUE and Hugging Face); name file and line of what is wrong; count what
//! was left out and why.
//!
//! Does not: change text. Nothing is stripped, about a seventh of MultiNLI's hypotheses ends in a space.

use serde::Deserialize;
use serde_json::Value;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Longest line read, in bytes. MultiNLI's longest, parse trees included, has some thousand bytes; a longer line means a
/// file that is not JSONL, and must not be read into memory whole.
const MAX_LINE_BYTES: u64 = 16 << 20;

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
    /// Line of the file, from 1.
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

/// How many lines were left out, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Rows whose label is `"-"`, `-1` or `null`: the annotators did not agree, or the label is not published.
    pub no_label: u64,
    /// Empty lines.
    pub blank_lines: u64,
}

impl fmt::Display for Skipped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} rows without a label, {} blank lines", self.no_label, self.blank_lines)
    }
}

/// Why a file gave no rows. Every message names the file.
#[derive(Debug, Error)]
pub enum MnliError {
    /// The file cannot be opened or read.
    #[error("cannot read {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A line is not a JSON object, or a value has the wrong type.
    #[error("{}, line {line}: {reason}; expected one JSON object a line with sentence1, sentence2 and gold_label (or premise, hypothesis and label)", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A field is not there under either of its names.
    #[error("{}, line {line}: no field `{field}` (or `{other}`); found {found}", file.display())]
    MissingField {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Its name in MultiNLI.
        field: &'static str,
        /// Its name in GLUE.
        other: &'static str,
        /// The fields that are there.
        found: String,
    },
    /// A label that MultiNLI does not have.
    #[error("{}, line {line}: label {found} is none of entailment, neutral, contradiction (0, 1, 2), nor \"-\" or -1 for no label", file.display())]
    UnknownLabel {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: u64,
        /// The value, as JSON.
        found: String,
    },
    /// Nothing but blank lines.
    #[error("{} is empty: expected one JSON object a line", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// Every row was skipped.
    #[error("{} has no row to train on: skipped {skipped}; is it a test split, whose labels are not published?", file.display())]
    NothingLeft {
        /// The file.
        file: PathBuf,
        /// What was skipped.
        skipped: Skipped,
    },
}

/// All rows of a file, and what was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MnliRows {
    /// Rows in the file's order.
    pub rows: Vec<MnliRow>,
    /// What was left out.
    pub skipped: Skipped,
}

/// Reads a whole file.
///
/// # Errors
/// See [`MnliError`]; a file without any row is an error too.
pub fn read_file(path: &Path, purpose: Purpose) -> Result<MnliRows, MnliError> {
    let mut reader = MnliReader::open(path, purpose)?;
    let rows = reader.by_ref().collect::<Result<Vec<_>, _>>()?;
    let skipped = reader.skipped();
    match (rows.is_empty(), skipped.no_label) {
        (false, _) => Ok(MnliRows { rows, skipped }),
        (true, 0) => Err(MnliError::Empty { file: path.to_owned() }),
        (true, _) => Err(MnliError::NothingLeft { file: path.to_owned(), skipped }),
    }
}

/// Streams the rows of one file: an iterator that holds one line at a time. It ends after its first error.
pub struct MnliReader<R> {
    file: PathBuf,
    source: R,
    purpose: Purpose,
    line: u64,
    skipped: Skipped,
    buffer: Vec<u8>,
    failed: bool,
}

/// A row's fields under both spellings; other fields are not kept.
#[derive(Deserialize)]
struct RawRow {
    sentence1: Option<Value>,
    premise: Option<Value>,
    sentence2: Option<Value>,
    hypothesis: Option<Value>,
    // The outer Option says whether the field is there, the inner one whether it is null.
    #[serde(default, deserialize_with = "present")]
    gold_label: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    label: Option<Value>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl MnliReader<BufReader<File>> {
    /// Opens `path`.
    ///
    /// # Errors
    /// [`MnliError::Io`] if the file cannot be opened.
    pub fn open(path: &Path, purpose: Purpose) -> Result<Self, MnliError> {
        let source = File::open(path).map_err(|source| MnliError::Io { file: path.to_owned(), source })?;
        Ok(Self::new(path, BufReader::new(source), purpose))
    }
}

impl<R: BufRead> MnliReader<R> {
    /// Reads rows from `source`; `file` is the name used in messages.
    pub fn new(file: &Path, source: R, purpose: Purpose) -> Self {
        let (file, buffer) = (file.to_owned(), Vec::new());
        Self { file, source, purpose, line: 0, skipped: Skipped::default(), buffer, failed: false }
    }

    /// What was left out so far.
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }

    fn next_row(&mut self) -> Result<Option<MnliRow>, MnliError> {
        while self.read_line()? {
            let text = std::str::from_utf8(&self.buffer)
                .map_err(|error| self.malformed(format!("not UTF-8 at byte {}", error.valid_up_to())))?;
            // Some editors begin a file with a byte order mark.
            let text = text.strip_prefix('\u{feff}').filter(|_| self.line == 1).unwrap_or(text).trim();
            if text.is_empty() {
                self.skipped.blank_lines += 1;
                continue;
            }
            let row = self.parse(text)?;
            if row.label.is_none() && self.purpose == Purpose::Training {
                self.skipped.no_label += 1;
                continue;
            }
            return Ok(Some(row));
        }
        Ok(None)
    }

    fn read_line(&mut self) -> Result<bool, MnliError> {
        self.buffer.clear();
        let mut limited = self.source.by_ref().take(MAX_LINE_BYTES);
        let read = limited.read_until(b'\n', &mut self.buffer);
        let read = read.map_err(|source| MnliError::Io { file: self.file.clone(), source })?;
        self.line += 1;
        if read as u64 == MAX_LINE_BYTES && self.buffer.last() != Some(&b'\n') {
            return Err(self.malformed(format!("the line is longer than {} MiB", MAX_LINE_BYTES >> 20)));
        }
        Ok(read > 0)
    }

    fn parse(&self, text: &str) -> Result<MnliRow, MnliError> {
        if !text.starts_with('{') {
            return Err(self.malformed("not a JSON object".to_owned()));
        }
        let raw: RawRow = serde_json::from_str(text).map_err(|error| self.malformed(json_reason(&error)))?;
        let premise = self.text("sentence1", "premise", raw.sentence1, raw.premise, text)?;
        let hypothesis = self.text("sentence2", "hypothesis", raw.sentence2, raw.hypothesis, text)?;
        let label = match raw.gold_label.or(raw.label) {
            Some(value) => self.label(&value)?,
            None if self.purpose == Purpose::Validation => None,
            None => return Err(self.missing("gold_label", "label", text)),
        };
        Ok(MnliRow { premise, hypothesis, label, line: self.line })
    }

    fn text(
        &self,
        field: &'static str,
        other: &'static str,
        first: Option<Value>,
        second: Option<Value>,
        line: &str,
    ) -> Result<String, MnliError> {
        let name = if first.is_some() { field } else { other };
        match first.or(second) {
            Some(Value::String(text)) => Ok(text),
            Some(value) => Err(self.malformed(format!("field `{name}` is {value}, expected a string"))),
            None => Err(self.missing(field, other, line)),
        }
    }

    fn label(&self, value: &Value) -> Result<Option<Label>, MnliError> {
        let id = match value {
            Value::Null => return Ok(None),
            Value::String(word) if word == "-" => return Ok(None),
            Value::String(word) => match Label::from_word(word) {
                Some(label) => return Ok(Some(label)),
                None => word.parse().ok(),
            },
            Value::Number(number) => number.as_i64(),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        match id {
            Some(-1) => Ok(None),
            Some(id @ 0..=2) => Ok(Some(Label::ALL[id as usize])),
            _ => Err(MnliError::UnknownLabel {
                file: self.file.clone(),
                line: self.line,
                found: value.to_string(),
            }),
        }
    }

    fn malformed(&self, reason: String) -> MnliError {
        MnliError::Malformed { file: self.file.clone(), line: self.line, reason }
    }

    fn missing(&self, field: &'static str, other: &'static str, text: &str) -> MnliError {
        // The line parsed once already; it is parsed again here, on the way out, for the names alone.
        let names = match serde_json::from_str::<serde_json::Map<String, Value>>(text) {
            Ok(object) => object.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
            Err(_) => String::new(),
        };
        let found = if names.is_empty() { "no field".to_owned() } else { names };
        MnliError::MissingField { file: self.file.clone(), line: self.line, field, other, found }
    }
}

/// serde_json's message counts lines of the text it was given, which is always one; the column is what helps.
fn json_reason(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    format!("{message} at column {}", error.column())
}

impl<R: BufRead> Iterator for MnliReader<R> {
    type Item = Result<MnliRow, MnliError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let row = self.next_row();
        self.failed = row.is_err();
        row.transpose()
    }
}

#[cfg(test)]
#[path = "mnli_tests.rs"]
mod tests;
