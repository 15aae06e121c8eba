//! JSON lines.
//!
//! Does: read line by line; take the wanted fields out of each object without building the rest of it.

use super::{At, Cell, Column, Container, Field, Place, Record, Source, TableError, missing};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

/// Longest line read, in bytes. MultiNLI's longest, parse trees included, has some thousand bytes; a longer line means a
/// file that is not JSON lines, and must not be read into memory whole.
const MAX_LINE_BYTES: u64 = 16 << 20;

const EXPECTED: &str = "one JSON object a line, such as {\"premise\": …, \"hypothesis\": …, \"label\": …}, \
    {\"prompt\": …, \"completion\": …} or {\"text\": …}";

/// Reads one line at a time.
pub(super) struct JsonLines<R> {
    file: PathBuf,
    source: R,
    columns: Vec<Column>,
    line: u64,
    blank_lines: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> JsonLines<R> {
    pub(super) fn new(file: &Path, source: R, columns: &[Column]) -> Self {
        let (file, columns) = (file.to_owned(), columns.to_vec());
        Self { file, source, columns, line: 0, blank_lines: 0, buffer: Vec::new() }
    }

    /// The names of the first record's fields.
    pub(super) fn first_names(mut self) -> Result<Vec<String>, TableError> {
        if !self.next_line()? {
            return Ok(Vec::new());
        }
        names(self.object()?).map_err(|error| self.malformed(json_reason(&error)))
    }

    /// Moves to the next line with something in it.
    fn next_line(&mut self) -> Result<bool, TableError> {
        while self.read_line()? {
            if !self.text()?.is_empty() {
                return Ok(true);
            }
            self.blank_lines += 1;
        }
        Ok(false)
    }

    fn read_line(&mut self) -> Result<bool, TableError> {
        self.buffer.clear();
        let mut limited = self.source.by_ref().take(MAX_LINE_BYTES);
        let read = limited.read_until(b'\n', &mut self.buffer);
        let read = read.map_err(|source| TableError::Io { file: self.file.clone(), source })?;
        self.line += 1;
        if read as u64 == MAX_LINE_BYTES && self.buffer.last() != Some(&b'\n') {
            return Err(self.malformed(format!("the line is longer than {} MiB", MAX_LINE_BYTES >> 20)));
        }
        Ok(read > 0)
    }

    /// The line without white space around it.
    fn text(&self) -> Result<&str, TableError> {
        let text = std::str::from_utf8(&self.buffer)
            .map_err(|error| self.malformed(format!("not UTF-8 at byte {}", error.valid_up_to())))?;
        // Some editors begin a file with a byte order mark.
        Ok(text.strip_prefix('\u{feff}').filter(|_| self.line == 1).unwrap_or(text).trim())
    }

    /// The line, which must begin as an object does.
    fn object(&self) -> Result<&str, TableError> {
        let text = self.text()?;
        if text.starts_with('{') { Ok(text) } else { Err(self.malformed("not a JSON object".to_owned())) }
    }

    fn parse(&self, text: &str) -> Result<Record, TableError> {
        let mut json = serde_json::Deserializer::from_str(text);
        let found = RecordSeed(&self.columns).deserialize(&mut json).and_then(|found| {
            json.end()?;
            Ok(found)
        });
        let found = found.map_err(|error| self.malformed(json_reason(&error)))?;
        let mut fields = Vec::with_capacity(found.len());
        for (column, found) in self.columns.iter().zip(found) {
            fields.push(match found {
                Some((alias, cell)) => Field { name: column.names[alias], cell },
                None if !column.required => Field { name: column.names[0], cell: Cell::Absent },
                // The line parsed once already; it is parsed again here, on the way out, for the names alone.
                None => {
                    let found = names(text).unwrap_or_default();
                    return Err(missing(self.at(), Container::JsonLines, column, &found));
                }
            });
        }
        Ok(Record { place: Place::Line(self.line), fields })
    }

    fn at(&self) -> At {
        At { file: self.file.clone(), place: Place::Line(self.line) }
    }

    fn malformed(&self, reason: String) -> TableError {
        TableError::Malformed { at: self.at(), reason, expected: EXPECTED }
    }
}

impl<R: BufRead> Source for JsonLines<R> {
    fn next_record(&mut self) -> Result<Option<Record>, TableError> {
        if !self.next_line()? {
            return Ok(None);
        }
        self.parse(self.object()?).map(Some)
    }

    fn blank_lines(&self) -> u64 {
        self.blank_lines
    }
}

/// serde_json's message counts lines of the text it was given, which is always one; the column is what helps.
fn json_reason(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    format!("{message} at column {}", error.column())
}

/// The names of an object's fields.
fn names(text: &str) -> Result<Vec<String>, serde_json::Error> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Vec<String>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut names = Vec::new();
            while let Some((name, IgnoredAny)) = map.next_entry()? {
                names.push(name);
            }
            Ok(names)
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_map(Names)
}

/// Reads an object: for each column, which of its names was there and with what value.
struct RecordSeed<'a>(&'a [Column]);

impl<'de> DeserializeSeed<'de> for RecordSeed<'_> {
    type Value = Vec<Option<(usize, Cell)>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RecordSeed<'_> {
    type Value = Vec<Option<(usize, Cell)>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found: Self::Value = vec![None; self.0.len()];
        while let Some(key) = map.next_key_seed(KeySeed(self.0))? {
            let Some((column, alias)) = key else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let cell = map.next_value_seed(CellSeed)?;
            match &found[column] {
                Some((earlier, _)) if *earlier == alias => {
                    let name = self.0[column].names[alias];
                    return Err(A::Error::custom(format_args!("field `{name}` is there twice")));
                }
                Some((earlier, _)) if *earlier < alias => {}
                Some(_) | None => found[column] = Some((alias, cell)),
            }
        }
        Ok(found)
    }
}

/// Reads a key: which column has it as which of its names.
struct KeySeed<'a>(&'a [Column]);

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Option<(usize, usize)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Option<(usize, usize)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        let place = |(index, column): (usize, &Column)| column.alias(name).map(|alias| (index, alias));
        Ok(self.0.iter().enumerate().find_map(place))
    }
}

/// Reads a value; of what cannot be one, nothing is kept.
struct CellSeed;

impl<'de> DeserializeSeed<'de> for CellSeed {
    type Value = Cell;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CellSeed {
    type Value = Cell;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Cell, E> {
        Ok(Cell::Null)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Cell, E> {
        Ok(Cell::Text(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Cell, E> {
        Ok(Cell::Text(text))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Cell, E> {
        Ok(Cell::Integer(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Cell, E> {
        Ok(i64::try_from(number).map_or_else(|_| Cell::Other(number.to_string()), Cell::Integer))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Cell, E> {
        Ok(Cell::Other(format!("{number:?}")))
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Cell, E> {
        Ok(Cell::Other(truth.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Cell, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Cell::Other("a list".to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Cell, A::Error> {
        while items.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Cell::Other("an object".to_owned()))
    }
}
