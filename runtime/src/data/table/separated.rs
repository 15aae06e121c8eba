//! TSV as GLUE has it, and CSV.
//!
//! TSV: tabs between values, records end with a line feed (a carriage return before it is no text), and a quotation mark
//! is text like any other: MultiNLI has sentences that begin with one and never close it.

use super::{At, Cell, Column, Container, Field, Place, Record, Source, TableError, missing};
use csv::{ErrorKind, ReaderBuilder, StringRecord, Terminator};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Most columns of a table. GLUE's have twelve; more than this is no table, and names take much more memory than a tab.
const MOST_COLUMNS: usize = 10_000;

const EXPECTED_TSV: &str = "a line of column names, then one row a line with tabs between as many values";
const EXPECTED_CSV: &str =
    "a line of column names, then rows with commas between as many values, quoted where a value has a comma";

/// Reads one record at a time.
pub(super) struct Separated<R> {
    file: PathBuf,
    container: Container,
    reader: csv::Reader<R>,
    record: StringRecord,
    /// Number of columns.
    width: usize,
    /// For each wanted column its name there and its index, or its first name alone.
    places: Vec<(&'static str, Option<usize>)>,
}

impl<R: Read> Separated<R> {
    pub(super) fn new(
        file: &Path,
        source: R,
        container: Container,
        columns: &[Column],
    ) -> Result<Self, TableError> {
        let reader = reader(source, container);
        let (record, places) = (StringRecord::new(), Vec::new());
        let mut this = Self { file: file.to_owned(), container, reader, record, width: 0, places };
        let names = this.header()?;
        this.width = names.len();
        for column in columns {
            let at = |alias: &&'static str| {
                names.iter().position(|name| name == alias).map(|index| (*alias, Some(index)))
            };
            match column.names.iter().find_map(at) {
                Some(place) => this.places.push(place),
                None if column.required && !names.is_empty() => {
                    return Err(missing(this.at(1), container, column, &names));
                }
                None => this.places.push((column.names[0], None)),
            }
        }
        Ok(this)
    }

    /// The names in the first line; none if there is none.
    fn header(&mut self) -> Result<Vec<String>, TableError> {
        self.read()?;
        let columns = self.record.len();
        if columns > MOST_COLUMNS {
            return Err(self.malformed(1, format!("{columns} columns, at most {MOST_COLUMNS} are read")));
        }
        Ok(self.record.iter().map(str::to_owned).collect())
    }

    /// Reads a record, or an empty one at the end; returns its line.
    fn read(&mut self) -> Result<u64, TableError> {
        match self.reader.read_record(&mut self.record) {
            Ok(true) => {}
            Ok(false) => self.record.clear(),
            Err(error) => return Err(self.refused(error)),
        }
        let begun = self.record.position().map_or(1, csv::Position::line);
        if self.container == Container::Csv {
            return Ok(begun);
        }
        self.strip_carriage_return();
        // A row of TSV is one line, the last that was read; reading began at the blank lines before it.
        Ok(begun.max(self.reader.position().line().saturating_sub(1)))
    }

    /// Takes the carriage return of a line that ends with both from its last value.
    fn strip_carriage_return(&mut self) {
        let Some(last) = self.record.len().checked_sub(1) else { return };
        let Some(stripped) = self.record.get(last).and_then(|value| value.strip_suffix('\r')) else { return };
        let stripped = stripped.to_owned();
        let position = self.record.position().cloned();
        self.record.truncate(last);
        self.record.push_field(&stripped);
        self.record.set_position(position);
    }

    fn at(&self, line: u64) -> At {
        At { file: self.file.clone(), place: Place::Line(line) }
    }

    fn malformed(&self, line: u64, reason: String) -> TableError {
        let expected = if self.container == Container::Tsv { EXPECTED_TSV } else { EXPECTED_CSV };
        TableError::Malformed { at: self.at(line), reason, expected }
    }

    fn refused(&self, error: csv::Error) -> TableError {
        let line = error.position().map_or(self.reader.position().line(), csv::Position::line);
        let reason = error.to_string();
        match error.into_kind() {
            ErrorKind::Io(source) => TableError::Io { file: self.file.clone(), source },
            ErrorKind::Utf8 { err, .. } => {
                let (value, byte) = (err.field() + 1, err.valid_up_to());
                self.malformed(line, format!("value {value} is not UTF-8 at byte {byte}"))
            }
            _ => self.malformed(line, reason),
        }
    }
}

impl<R: Read> Source for Separated<R> {
    fn next_record(&mut self) -> Result<Option<Record>, TableError> {
        let line = self.read()?;
        if self.record.is_empty() {
            return Ok(None);
        }
        if self.record.len() != self.width {
            let reason = format!("{} values, the header has {}", self.record.len(), self.width);
            return Err(self.malformed(line, reason));
        }
        let value = |index: usize| Cell::Text(self.record.get(index).unwrap_or_default().to_owned());
        let field = |&(name, index): &(&'static str, Option<usize>)| Field {
            name,
            cell: index.map_or(Cell::Absent, value),
        };
        Ok(Some(Record { place: Place::Line(line), fields: self.places.iter().map(field).collect() }))
    }
}

/// The names of the columns.
pub(super) fn names(file: &Path, source: impl Read, container: Container) -> Result<Vec<String>, TableError> {
    let header = Separated::new(file, source, container, &[])?.record;
    Ok(header.iter().map(str::to_owned).collect())
}

fn reader<R: Read>(source: R, container: Container) -> csv::Reader<R> {
    let mut builder = ReaderBuilder::new();
    // The widths are compared here, so that the message can say what was expected.
    builder.has_headers(false).flexible(true);
    if container == Container::Tsv {
        builder.delimiter(b'\t').quoting(false).terminator(Terminator::Any(b'\n'));
    }
    builder.from_reader(source)
}
