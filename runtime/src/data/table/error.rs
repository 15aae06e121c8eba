//! Why a file gave no records. Every message names the file and the place.

use std::fmt;
use std::path::PathBuf;
use thiserror::Error;

/// Where in a file something stands, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the file as a whole.
    File,
    /// At a line.
    Line(u64),
    /// In a row of a file that has no lines.
    Row(u64),
}

impl Place {
    /// The number of the line or row; 0 for the file as a whole.
    pub const fn number(self) -> u64 {
        match self {
            Self::File => 0,
            Self::Line(number) | Self::Row(number) => number,
        }
    }
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub place: Place,
}

impl fmt::Display for At {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match self.place {
            Place::File => write!(formatter, "{file}"),
            Place::Line(line) => write!(formatter, "{file}, line {line}"),
            Place::Row(row) => write!(formatter, "{file}, row {row}"),
        }
    }
}

/// Why a file gave no records.
#[derive(Debug, Error)]
pub enum TableError {
    /// The file cannot be opened or read.
    #[error("cannot read {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A line is not what its container has there.
    #[error("{at}: {reason}; expected {expected}")]
    Malformed {
        /// Where.
        at: At,
        /// What is wrong.
        reason: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// A column is there under none of its names.
    #[error("{at}: no {noun} `{}`{}; found {found}", names[0], others(names))]
    Missing {
        /// Where.
        at: At,
        /// What the container calls a column.
        noun: &'static str,
        /// The column's names.
        names: &'static [&'static str],
        /// The columns that are there.
        found: String,
    },
    /// A value that is not text.
    #[error("{at}: {noun} `{name}` is {found}, expected a string")]
    WrongType {
        /// Where.
        at: At,
        /// What the container calls a column.
        noun: &'static str,
        /// The column.
        name: &'static str,
        /// The value.
        found: String,
    },
    /// The Parquet reader refuses the file.
    #[error("{at}: this is no whole Parquet file ({reason}); fetch or write it again")]
    Parquet {
        /// Where.
        at: At,
        /// What the library says.
        reason: String,
    },
}

fn others(names: &[&str]) -> String {
    let others: Vec<String> = names[1..].iter().map(|name| format!("`{name}`")).collect();
    if others.is_empty() { String::new() } else { format!(" (or {})", others.join(", ")) }
}
