//! What a file of training text is: its container, and what its records mean.
//!
//! Does: decide by name and contents. A name that says Parquet, TSV or the like is believed; a file that cannot be what
//! its name says is refused with what it looks like instead.

use super::rows::RowsError;
use super::table::{self, Container, TableError};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

/// What records mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A premise, a hypothesis and a label.
    Mnli,
    /// A prompt and its completion.
    PromptCompletion,
    /// Documents.
    Text,
}

impl Format {
    /// The words that `--data-format` takes.
    pub const WORDS: &'static [&'static str] = &["mnli", "prompt-completion", "text"];

    /// The format, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mnli => "MNLI",
            Self::PromptCompletion => "prompt and completion",
            Self::Text => "plain text",
        }
    }

    /// The format's word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mnli => "mnli",
            Self::PromptCompletion => "prompt-completion",
            Self::Text => "text",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let formats = [Self::Mnli, Self::PromptCompletion, Self::Text];
        let found = formats.into_iter().find(|format| format.word() == text);
        found.ok_or_else(|| format!("`{text}` is no data format, expected {}", Self::WORDS.join(", ")))
    }
}

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What its records mean.
    pub format: Format,
    /// What holds them; none for plain text.
    pub container: Option<Container>,
}

/// Bytes at the start of a file that are looked at.
const HEAD: u64 = 64 << 10;

/// What files begin with that hold no rows, and what to do about it.
const NO_ROWS: [(&[u8], &str, &str); 7] = [
    (b"\x1f\x8b", "compressed by gzip", "unpack it with gunzip"),
    (b"PK\x03\x04", "a zip archive", "unpack it with unzip"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it with zstd -d"),
    (b"\xfd7zXZ\x00", "compressed by xz", "unpack it with xz -d"),
    (b"BZh", "compressed by bzip2", "unpack it with bunzip2"),
    (
        b"version https://git-lfs",
        "a pointer of Git LFS, not the file itself",
        "fetch the file with git lfs pull",
    ),
    (
        b"ARROW1",
        "an Arrow file, as Hugging Face's datasets caches them",
        "give the Parquet files that it was made of",
    ),
];

impl Layout {
    /// Decides how to read `file`; `format` is what it was said to be.
    ///
    /// # Errors
    /// [`RowsError`] if its start cannot be read or shows nothing that is known.
    pub fn of(file: &Path, format: Option<Format>) -> Result<Self, RowsError> {
        let head = head(file)?;
        if let Some((_, what, advice)) = NO_ROWS.iter().find(|(magic, ..)| head.starts_with(magic)) {
            return Err(RowsError::NoRows { file: file.to_owned(), what, advice });
        }
        let container = container(file, &head);
        // An empty file says nothing, and reading it says so.
        let empty = head.iter().all(u8::is_ascii_whitespace);
        let guessed = match (format, container) {
            (Some(format), _) => format,
            (None, None) => Format::Text,
            (None, Some(_)) if empty => Format::Mnli,
            (None, Some(container)) => by_columns(file, &table::column_names(file, container)?)?,
        };
        let container = match (guessed, container) {
            (Format::Text, None) => None,
            (_, None) => Some(if starts_object(&head) { Container::JsonLines } else { Container::Tsv }),
            (_, some) => some,
        };
        Ok(Self { format: guessed, container })
    }
}

/// What the columns' names say that the records mean.
fn by_columns(file: &Path, names: &[String]) -> Result<Format, RowsError> {
    let has = |any: &[&str]| names.iter().any(|name| any.contains(&name.as_str()));
    if has(&["sentence1", "sentence2", "premise", "hypothesis"]) {
        Ok(Format::Mnli)
    } else if has(&["messages", "conversations", "conversation"]) {
        Err(RowsError::Chat { file: file.to_owned() })
    } else if has(&["prompt", "completion", "input", "output", "instruction"]) {
        Ok(Format::PromptCompletion)
    } else if has(&["text"]) {
        Ok(Format::Text)
    } else {
        let names: Vec<String> = names.iter().take(20).map(|name| format!("`{name}`")).collect();
        Err(RowsError::UnknownColumns { file: file.to_owned(), found: names.join(", ") })
    }
}

/// The container of a file with this name that begins so; none for plain text.
fn container(file: &Path, head: &[u8]) -> Option<Container> {
    if head.starts_with(b"PAR1") {
        return Some(Container::Parquet);
    }
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "jsonl" | "json" | "ndjson" => Some(Container::JsonLines),
        "tsv" => Some(Container::Tsv),
        "csv" => Some(Container::Csv),
        "parquet" => Some(Container::Parquet),
        // MultiNLI's own tables are named .txt.
        "txt" | "text" => is_mnli_table(head).then_some(Container::Tsv),
        _ if starts_object(head) => Some(Container::JsonLines),
        _ => is_mnli_table(head).then_some(Container::Tsv),
    }
}

fn starts_object(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    head.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

/// True if the first line names MNLI's columns, with tabs between them.
fn is_mnli_table(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let mut names = line.split(|&byte| byte == b'\t').map(<[u8]>::trim_ascii);
    line.contains(&b'\t') && names.any(|name| name == b"sentence1" || name == b"premise")
}

fn head(file: &Path) -> Result<Vec<u8>, TableError> {
    let failed = |source| TableError::Io { file: file.to_owned(), source };
    let mut head = Vec::new();
    File::open(file).map_err(failed)?.take(HEAD).read_to_end(&mut head).map_err(failed)?;
    Ok(head)
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
