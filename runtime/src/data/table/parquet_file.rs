//! Parquet, column by column: of each row group, the columns that are wanted.

use super::{At, Cell, Column, Container, Field, Place, Record, Source, TableError, missing};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;
use std::cell::Cell as Flag;
use std::fmt::Debug;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::vec::IntoIter;

/// Values decoded at a time.
const BATCH: usize = 8192;

/// Reads one row group at a time.
pub(super) struct ParquetFile {
    file: PathBuf,
    reader: SerializedFileReader<File>,
    /// For each wanted column its name there and its index among the leaves of the schema, or its first name alone.
    leaves: Vec<(&'static str, Option<usize>)>,
    /// The next row group.
    next_group: usize,
    /// Of the current row group the rows that are left, for each wanted column that is there.
    columns: Vec<Option<IntoIter<Cell>>>,
    /// Rows of the current row group that are left.
    left: u64,
    /// The current row, from 1 over the whole file.
    row: u64,
}

impl ParquetFile {
    pub(super) fn open(file: &Path, opened: File, columns: &[Column]) -> Result<Self, TableError> {
        let at = At { file: file.to_owned(), place: Place::File };
        let reader = guarded(|| SerializedFileReader::new(opened))
            .map_err(|error| TableError::Parquet { at: at.clone(), reason: reason(error) })?;
        let schema = reader.metadata().file_metadata().schema_descr();
        let mut leaves = Vec::with_capacity(columns.len());
        for column in columns {
            let found = column.names.iter().find(|name| field_names(schema).any(|field| field == **name));
            leaves.push(match found {
                Some(name) => (*name, Some(leaf(schema, name, &at)?)),
                None if column.required => {
                    let found: Vec<String> = field_names(schema).map(str::to_owned).collect();
                    return Err(missing(at, Container::Parquet, column, &found));
                }
                None => (column.names[0], None),
            });
        }
        let file = file.to_owned();
        Ok(Self { file, reader, leaves, next_group: 0, columns: Vec::new(), left: 0, row: 0 })
    }

    fn refused(&self, error: ParquetError) -> TableError {
        let place = if self.row == 0 { Place::File } else { Place::Row(self.row + 1) };
        TableError::Parquet { at: At { file: self.file.clone(), place }, reason: reason(error) }
    }

    /// Decodes the next row group.
    fn read_group(&mut self) -> Result<(), ParquetError> {
        let group = self.reader.get_row_group(self.next_group)?;
        let rows = u64::try_from(group.metadata().num_rows()).unwrap_or_default();
        let mut columns = Vec::with_capacity(self.leaves.len());
        for (name, leaf) in &self.leaves {
            let Some(leaf) = *leaf else {
                columns.push(None);
                continue;
            };
            let levels = group.metadata().column(leaf).column_descr().max_def_level();
            let cells = cells(group.get_column_reader(leaf)?, levels)?;
            if cells.len() as u64 != rows {
                let found = cells.len();
                let reason = format!("column `{name}` has {found} values in a row group of {rows} rows");
                return Err(ParquetError::General(reason));
            }
            columns.push(Some(cells.into_iter()));
        }
        (self.columns, self.left) = (columns, rows);
        self.next_group += 1;
        Ok(())
    }
}

impl Source for ParquetFile {
    fn next_record(&mut self) -> Result<Option<Record>, TableError> {
        while self.left == 0 {
            if self.next_group == self.reader.num_row_groups() {
                return Ok(None);
            }
            guarded(|| self.read_group()).map_err(|error| self.refused(error))?;
        }
        self.left -= 1;
        self.row += 1;
        let columns = self.leaves.iter().zip(&mut self.columns);
        let fields = columns.map(|(&(name, _), cells)| Field {
            name,
            cell: cells.as_mut().and_then(Iterator::next).unwrap_or(Cell::Absent),
        });
        Ok(Some(Record { place: Place::Row(self.row), fields: fields.collect() }))
    }
}

/// What the library says, without the kind of its error.
fn reason(error: ParquetError) -> String {
    match error {
        ParquetError::General(reason) | ParquetError::NYI(reason) | ParquetError::EOF(reason) => reason,
        other => other.to_string(),
    }
}

thread_local! {
    static GUARDED: Flag<bool> = const { Flag::new(false) };
}

/// True while this thread reads Parquet: a panic is about the file then, becomes an error, and need not be printed.
pub(super) fn is_guarded() -> bool {
    GUARDED.get()
}

/// Runs `work` of the Parquet library, which panics on some damaged files.
fn guarded<T>(work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    GUARDED.set(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(false);
    done.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        Err(ParquetError::General(said.to_owned()))
    })
}

/// The names of the columns.
pub(super) fn names(file: &Path, opened: File) -> Result<Vec<String>, TableError> {
    let reader = ParquetFile::open(file, opened, &[])?.reader;
    Ok(field_names(reader.metadata().file_metadata().schema_descr()).map(str::to_owned).collect())
}

fn field_names(schema: &SchemaDescriptor) -> impl Iterator<Item = &str> {
    schema.root_schema().get_fields().iter().map(|field| field.name())
}

/// Index of the leaf that the column `name` is, if it holds one value a row.
fn leaf(schema: &SchemaDescriptor, name: &'static str, at: &At) -> Result<usize, TableError> {
    let is_it = |column: &parquet::schema::types::ColumnDescPtr| {
        column.path().parts().len() == 1 && column.name() == name && column.max_rep_level() == 0
    };
    let nested = || TableError::WrongType {
        at: at.clone(),
        noun: Container::Parquet.noun(),
        name,
        found: "a list or a structure".to_owned(),
    };
    schema.columns().iter().position(is_it).ok_or_else(nested)
}

/// All values of a column in one row group. `levels`: the definition level of a value that is not null.
fn cells(reader: ColumnReader, levels: i16) -> Result<Vec<Cell>, ParquetError> {
    fn shown<T: Debug>(value: T) -> Result<Cell, ParquetError> {
        Ok(Cell::Other(format!("{value:?}")))
    }
    let text = |value: ByteArray| Ok(Cell::Text(value.as_utf8()?.to_owned()));
    match reader {
        ColumnReader::ByteArrayColumnReader(reader) => decode(reader, levels, text),
        ColumnReader::Int64ColumnReader(reader) => decode(reader, levels, |value| Ok(Cell::Integer(value))),
        ColumnReader::Int32ColumnReader(reader) => {
            decode(reader, levels, |value| Ok(Cell::Integer(value.into())))
        }
        ColumnReader::BoolColumnReader(reader) => decode(reader, levels, shown),
        ColumnReader::FloatColumnReader(reader) => decode(reader, levels, shown),
        ColumnReader::DoubleColumnReader(reader) => decode(reader, levels, shown),
        ColumnReader::Int96ColumnReader(reader) => decode(reader, levels, shown),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => decode(reader, levels, shown),
    }
}

fn decode<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    max_level: i16,
    convert: impl Fn(T::T) -> Result<Cell, ParquetError>,
) -> Result<Vec<Cell>, ParquetError> {
    let (mut cells, mut levels, mut values) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        levels.clear();
        let (rows, _, _) = reader.read_records(BATCH, Some(&mut levels), None, &mut values)?;
        if rows == 0 {
            return Ok(cells);
        }
        if max_level == 0 {
            levels.resize(rows, 0); // a column without nulls has no levels
        }
        let mut found = values.drain(..);
        for &level in &levels {
            if level != max_level {
                cells.push(Cell::Null);
                continue;
            }
            let value = found.next();
            let value = value.ok_or_else(|| ParquetError::General("fewer values than rows".to_owned()))?;
            cells.push(convert(value)?);
        }
    }
}
