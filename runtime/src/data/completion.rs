//! Rows of a prompt and its completion.
//!
//! Does: read `prompt`/`completion` (or `input`/`output`) from any [container](super::table). Training joins the two as
//! they stand, so white space between them has to be in one of them, and ends with the end of text.
//!
//! Does not: read the messages of a chat, or know templates of instructions.

use super::rows::{RowsError, Skipped};
use super::table::{Cell, Column, Container, Record, Table};
use std::path::Path;

/// A text to continue and how it goes on, as they stand in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// `prompt` or `input`: read by the model, not learned unless asked for.
    pub prompt: String,
    /// `completion` or `output`: learned.
    pub completion: String,
    /// Line of the file, or row if the file has no lines, from 1.
    pub line: u64,
}

const COLUMNS: [Column; 3] = [
    Column { names: &["prompt", "input"], required: true },
    Column { names: &["completion", "output"], required: true },
    Column { names: &["instruction"], required: false },
];
const PROMPT: usize = 0;
const COMPLETION: usize = 1;
const INSTRUCTION: usize = 2;

/// Reads a whole file. A row whose completion is null or empty is left out and counted.
///
/// # Errors
/// See [`RowsError`].
pub(super) fn read_file(file: &Path, container: Container) -> Result<(Vec<Completion>, Skipped), RowsError> {
    let mut table = Table::open(file, container, &COLUMNS)?;
    let (mut rows, mut no_completion) = (Vec::new(), 0);
    while let Some(record) = table.next() {
        match row(&table, record?)? {
            Some(row) => rows.push(row),
            None => no_completion += 1,
        }
    }
    Ok((rows, Skipped { no_completion, blank_lines: table.blank_lines(), ..Skipped::default() }))
}

fn row(table: &Table<'_>, mut record: Record) -> Result<Option<Completion>, RowsError> {
    // `input` beside an `instruction` is only half of what is asked.
    if !matches!(record.fields[INSTRUCTION].cell, Cell::Absent | Cell::Null) {
        return Err(RowsError::Instruction { at: table.at(&record) });
    }
    if record.fields[COMPLETION].cell == Cell::Null {
        return Ok(None);
    }
    let completion = table.take_text(&mut record, COMPLETION)?;
    let prompt = table.take_text(&mut record, PROMPT)?;
    let line = record.place.number();
    Ok((!completion.is_empty()).then_some(Completion { prompt, completion, line }))
}
