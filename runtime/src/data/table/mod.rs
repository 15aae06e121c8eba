//! Records of files, whatever holds them: JSON lines, TSV, CSV and Parquet behind one iterator.
//!
//! Does: stream records; find the columns asked for under any of their names; say of what is wrong in which file, at
//! which line or row and in which column it stands.
//!
//! Does not: know what columns mean (the schemas in the modules beside do), or change text.
//!
//! Memory: of JSON lines, TSV and CSV one record at a time; of Parquet the wanted columns of one row group.

mod error;
mod json_lines;
mod parquet_file;
mod separated;

pub use error::{At, Place, TableError};

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// What holds records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// One JSON object a line.
    JsonLines,
    /// A line of names, then one record a line, with tabs between the values and no quoting, as GLUE has it.
    Tsv,
    /// A line of names, then records with commas between the values, quoted where needed (RFC 4180).
    Csv,
    /// Apache Parquet, uncompressed or with snappy, gzip or zstd.
    Parquet,
}

impl Container {
    /// The container's name, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::JsonLines => "JSON lines",
            Self::Tsv => "TSV",
            Self::Csv => "CSV",
            Self::Parquet => "Parquet",
        }
    }

    /// What a value of a record is called there.
    const fn noun(self) -> &'static str {
        match self {
            Self::JsonLines => "field",
            Self::Tsv | Self::Csv | Self::Parquet => "column",
        }
    }
}

/// A column that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its names; where a record has several of them, the first counts.
    pub names: &'static [&'static str],
    /// True if it is an error when none of them is there.
    pub required: bool,
}

impl Column {
    fn alias(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|&known| known == name)
    }
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// The column is not there.
    Absent,
    /// There is no value.
    Null,
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Anything else, as messages show it.
    Other(String),
}

impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 60;
        match self {
            Self::Absent => formatter.write_str("absent"),
            Self::Null => formatter.write_str("null"),
            Self::Integer(number) => number.fmt(formatter),
            Self::Text(text) if text.chars().count() > LONGEST => {
                write!(formatter, "{:?}…", text.chars().take(LONGEST).collect::<String>())
            }
            Self::Text(text) => write!(formatter, "{text:?}"),
            Self::Other(shown) => formatter.write_str(shown),
        }
    }
}

/// A value under the name that the record has for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The name; the column's first if the value is absent.
    pub name: &'static str,
    /// The value.
    pub cell: Cell,
}

/// One record: a field for each column asked for, in that order.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Where it stands in its file.
    pub place: Place,
    /// Its values.
    pub fields: Vec<Field>,
}

/// A container's reader.
trait Source {
    /// The next record, or none at the end.
    fn next_record(&mut self) -> Result<Option<Record>, TableError>;

    /// Lines passed over so far because nothing stands in them.
    fn blank_lines(&self) -> u64 {
        0
    }
}

/// The records of one file: an iterator that ends after its first error.
pub struct Table<'a> {
    file: PathBuf,
    container: Container,
    source: Box<dyn Source + 'a>,
    failed: bool,
}

impl<'a> Table<'a> {
    /// Opens `file`, which `container` says how to read.
    ///
    /// # Errors
    /// [`TableError`] if it cannot be opened or, where columns are named once for all records, lacks a required one.
    pub fn open(file: &Path, container: Container, columns: &[Column]) -> Result<Self, TableError> {
        let opened = File::open(file).map_err(|source| TableError::Io { file: file.to_owned(), source })?;
        match container {
            Container::JsonLines => Ok(Self::json_lines(file, BufReader::new(opened), columns)),
            Container::Tsv | Container::Csv => Self::separated(file, opened, container, columns),
            Container::Parquet => {
                let source = parquet_file::ParquetFile::open(file, opened, columns)?;
                Ok(Self::new(file, container, source))
            }
        }
    }

    /// Reads JSON lines from `source`; `file` is the name used in messages.
    pub fn json_lines(file: &Path, source: impl BufRead + 'a, columns: &[Column]) -> Self {
        Self::new(file, Container::JsonLines, json_lines::JsonLines::new(file, source, columns))
    }

    /// Reads TSV, or CSV if `container` says so, from `source`; `file` is the name used in messages.
    ///
    /// # Errors
    /// [`TableError`] if there is no line of names, or it lacks a required column.
    pub fn separated(
        file: &Path,
        source: impl Read + 'a,
        container: Container,
        columns: &[Column],
    ) -> Result<Self, TableError> {
        let source = separated::Separated::new(file, source, container, columns)?;
        Ok(Self::new(file, container, source))
    }

    fn new(file: &Path, container: Container, source: impl Source + 'a) -> Self {
        Self { file: file.to_owned(), container, source: Box::new(source), failed: false }
    }

    /// Lines passed over so far because nothing stands in them.
    pub fn blank_lines(&self) -> u64 {
        self.source.blank_lines()
    }

    /// Where `record` stands, for messages.
    pub fn at(&self, record: &Record) -> At {
        At { file: self.file.clone(), place: record.place }
    }

    /// Takes the text of a column out of `record`.
    ///
    /// # Errors
    /// [`TableError::WrongType`] if it is anything but text.
    pub fn take_text(&self, record: &mut Record, column: usize) -> Result<String, TableError> {
        match std::mem::replace(&mut record.fields[column].cell, Cell::Null) {
            Cell::Text(text) => Ok(text),
            found => Err(TableError::WrongType {
                at: self.at(record),
                noun: self.container.noun(),
                name: record.fields[column].name,
                found: found.to_string(),
            }),
        }
    }
}

impl Iterator for Table<'_> {
    type Item = Result<Record, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let record = self.source.next_record();
        self.failed = record.is_err();
        record.transpose()
    }
}

/// The names of a file's columns; of JSON lines, those of the first record. None if the file has no record.
///
/// # Errors
/// [`TableError`] if that part of the file cannot be read.
pub fn column_names(file: &Path, container: Container) -> Result<Vec<String>, TableError> {
    let opened = File::open(file).map_err(|source| TableError::Io { file: file.to_owned(), source })?;
    match container {
        Container::JsonLines => json_lines::JsonLines::new(file, BufReader::new(opened), &[]).first_names(),
        Container::Tsv | Container::Csv => separated::names(file, opened, container),
        Container::Parquet => parquet_file::names(file, opened),
    }
}

/// True while this thread reads a file whose library may panic on it. Such a panic becomes an error of the file, so a
/// program's panic hook need not print it.
pub fn panics_are_errors() -> bool {
    parquet_file::is_guarded()
}

/// The error for a column that is under none of its names.
fn missing(at: At, container: Container, column: &Column, found: &[String]) -> TableError {
    const MOST: usize = 40;
    let quoted = |name: &String| format!("`{name}`");
    let mut names = found.iter().take(MOST).map(quoted).collect::<Vec<_>>().join(", ");
    if found.len() > MOST {
        names.push_str(&format!(" and {} more", found.len() - MOST));
    }
    let found = if found.is_empty() { format!("no {}", container.noun()) } else { names };
    TableError::Missing { at, noun: container.noun(), names: column.names, found }
}

#[cfg(test)]
mod tests;
