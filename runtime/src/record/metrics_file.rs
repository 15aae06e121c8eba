//! `metrics.jsonl`: the log of a run, a JSON object a line, written as it happens.
//!
//! A line is an entry of the log as `trainer_state.json` has it, with the time at which it was written (`time`, seconds since
//! 1970) and, of training, `tokens_per_second`. A run that is resumed first cuts what the file has of later steps, all at
//! once, and then appends.

use crate::files::FileError;
use crate::files::atomic::write_bytes;
use crate::train::LogEntry;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// File name in an output directory.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricsLine {
    /// When it was written, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<f64>,
    /// What was logged.
    #[serde(flatten)]
    pub entry: LogEntry,
}

/// The file, open for appending.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// Opens the file `path` for a run that is resumed after so many steps: lines of later steps, and a last line that was not
    /// written to its end, are cut off. A new run starts the file anew.
    ///
    /// # Errors
    /// [`FileError`] if the file cannot be read or written; what was there stays.
    pub fn open(path: &Path, resumed_after: Option<u64>) -> Result<Self, FileError> {
        let kept = resumed_after.map_or(Ok(String::new()), |step| kept(path, step))?;
        write_bytes(path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(path);
        let file = file.map_err(|source| FileError::new("open", path, source))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// [`FileError`] if the file cannot be written.
    pub fn append(&mut self, line: &MetricsLine) -> Result<(), FileError> {
        let failed = |source| FileError::new("write", &self.path, source);
        let text = serde_json::to_string(line).map_err(|error| failed(io::Error::other(error)))?;
        self.file.write_all((text + "\n").as_bytes()).map_err(failed)
    }

    /// Waits until what was written is on disk.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be brought there.
    pub fn sync(&self) -> Result<(), FileError> {
        self.file.sync_data().map_err(|source| FileError::new("write", &self.path, source))
    }
}

/// The lines of the file up to and with `last_step`; none if there is no file.
fn kept(path: &Path, last_step: u64) -> Result<String, FileError> {
    let text = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(FileError::new("read", path, source)),
    };
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    Ok(whole.filter(|line| parse(line).is_some_and(|line| line.entry.step <= last_step)).collect())
}

fn parse(line: &str) -> Option<MetricsLine> {
    serde_json::from_str(line).ok()
}

/// The lines of a file's text. What is no line of this kind is left out and counted.
pub fn read_lines(text: &str) -> (Vec<MetricsLine>, usize) {
    let filled = text.lines().filter(|line| !line.trim().is_empty());
    let parsed: Vec<Option<MetricsLine>> = filled.map(parse).collect();
    let unread = parsed.iter().filter(|line| line.is_none()).count();
    (parsed.into_iter().flatten().collect(), unread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Others;
    use serde_json::Value;

    fn line(step: u64) -> MetricsLine {
        MetricsLine { time: Some(1.5), entry: LogEntry::training(step, 0.25, 2.5, 1.0, 1e-4) }
    }

    fn evaluation(step: u64) -> MetricsLine {
        let other = Others::from_iter([("eval_loss".to_owned(), Value::from(0.1 + 0.2))]);
        MetricsLine { time: None, entry: LogEntry { step, epoch: 1.0, other, ..LogEntry::default() } }
    }

    fn write(path: &Path, resumed_after: Option<u64>, lines: &[MetricsLine]) {
        let mut file = MetricsFile::open(path, resumed_after).unwrap();
        lines.iter().for_each(|line| file.append(line).unwrap());
        file.sync().unwrap();
    }

    fn read(path: &Path) -> Vec<MetricsLine> {
        let (lines, unread) = read_lines(&std::fs::read_to_string(path).unwrap());
        assert_eq!(unread, 0);
        lines
    }

    #[test]
    fn a_resumed_run_cuts_what_comes_after_and_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(METRICS_FILE);
        write(&path, None, &[line(5), line(10), evaluation(10), line(15)]);
        assert_eq!(read(&path), [line(5), line(10), evaluation(10), line(15)]);
        write(&path, Some(10), &[line(12)]);
        assert_eq!(read(&path), [line(5), line(10), evaluation(10), line(12)]);
        write(&path, None, &[line(1)]);
        assert_eq!(read(&path), [line(1)], "a new run starts the file anew");
    }

    #[test]
    fn a_line_that_was_cut_off_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(METRICS_FILE);
        write(&path, None, &[line(5), line(10)]);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}\u{fffd}no json\n{}", &text[..20])).unwrap();
        let (lines, unread) = read_lines(&std::fs::read_to_string(&path).unwrap());
        assert_eq!((lines.len(), unread), (2, 2));
        write(&path, Some(20), &[line(25)]);
        assert_eq!(read(&path), [line(5), line(10), line(25)]);
    }

    #[test]
    fn a_run_may_be_resumed_into_an_empty_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(METRICS_FILE);
        write(&path, Some(10), &[line(15)]);
        assert_eq!(read(&path), [line(15)]);
        let error = MetricsFile::open(&directory.path().join("no/such"), Some(3)).unwrap_err().to_string();
        assert!(error.contains("no/such"), "{error}");
    }
}
