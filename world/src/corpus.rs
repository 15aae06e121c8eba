//! All files of one seed: the splits, the text, its tokenizer.

use crate::exercises::{Lesson, exercises};
use crate::rows::{Split, rows};
use crate::text::{TEXT_FILE, documents};
use crate::tokenizer::{self, TOKENIZER_FILE, TokenizerError};
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// How much to make of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorpusRequest {
    /// Rows of `train.jsonl`.
    pub train_rows: usize,
    /// Rows of each of the two validation splits.
    pub validation_rows: usize,
    /// Lines of `notes.jsonl`.
    pub notes: usize,
    /// Lines of `exercises.jsonl`.
    pub exercises: usize,
    /// Lines of `review.jsonl`.
    pub review: usize,
    /// Documents of `text.txt`.
    pub documents: usize,
    /// Tokens of the tokenizer at most.
    pub vocab_size: usize,
    /// What everything depends on, besides the numbers above.
    pub seed: u64,
}

/// Documents that the tokenizer is made of, at most: far fewer show every word.
const TOKENIZER_DOCUMENTS: usize = 50_000;

/// Why a corpus was not written.
#[derive(Debug, Error)]
pub enum CorpusError {
    /// A file cannot be written.
    #[error("cannot write {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is no tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// Writes a corpus into `directory`, which exists. A number of 0 writes an empty file; without documents there is no
/// tokenizer.
///
/// # Errors
/// [`CorpusError`]; files that were written before stay.
pub fn write_corpus(request: &CorpusRequest, directory: &Path) -> Result<(), CorpusError> {
    for split in Split::ALL {
        let count = if split == Split::Train { request.train_rows } else { request.validation_rows };
        let rows = rows(split, count, request.seed);
        write_json_lines(&directory.join(split.file_name()), &rows)?;
    }
    for lesson in Lesson::ALL {
        let count = match lesson {
            Lesson::Notes => request.notes,
            Lesson::Sentences => request.exercises,
            Lesson::Review => request.review,
        };
        let exercises = exercises(lesson, count, request.seed);
        write_json_lines(&directory.join(lesson.file_name()), &exercises)?;
    }
    let documents = documents(request.documents, request.seed);
    write_lines(&directory.join(TEXT_FILE), documents.iter(), |out, text| out.write_all(text.as_bytes()))?;
    if documents.is_empty() {
        return Ok(());
    }
    let some = &documents[..documents.len().min(TOKENIZER_DOCUMENTS)];
    let json = tokenizer::train(some, request.vocab_size)?;
    let file = directory.join(TOKENIZER_FILE);
    std::fs::write(&file, json).map_err(|source| CorpusError::Io { file, source })
}

fn write_json_lines<T: Serialize>(file: &Path, items: &[T]) -> Result<(), CorpusError> {
    write_lines(file, items.iter(), |out, item| serde_json::to_writer(out, item).map_err(io::Error::from))
}

fn write_lines<T>(
    file: &Path,
    lines: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut BufWriter<File>, T) -> io::Result<()>,
) -> Result<(), CorpusError> {
    let all = || -> io::Result<()> {
        let mut out = BufWriter::new(File::create(file)?);
        for line in lines {
            write(&mut out, line)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    };
    all().map_err(|source| CorpusError::Io { file: file.to_owned(), source })
}
