//! TensorBoard's event files: scalars by step.
//!
//! A file is a sequence of TFRecords, each an `Event` message with a checksum. TensorBoard reads every file of a directory as
//! one curve. Of events whose step a later file's *session start* has gone back to, it shows the later ones.
//!
//! Does not: write anything but scalars and session starts.

use crate::files::FileError;
use prost::Message;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the first event of a file says.
const FILE_VERSION: &str = "brain.Event:2";
/// A session that starts, in [`SessionLog`].
const START: i32 = 1;

/// Something that happened: `tensorflow.Event`, as far as it is used here.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

/// `tensorflow.Summary.Value` with a number.
#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// An event file that is being written.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Starts a file in `directory`, which is made if need be, for a new run, or for one that is resumed
    /// after so many steps.
    ///
    /// # Errors
    /// [`FileError`] if the directory or the file cannot be made or written.
    pub fn create(directory: &Path, resumed_after: Option<u64>) -> Result<Self, FileError> {
        fs::create_dir_all(directory)
            .map_err(|source| FileError::new("create the directory", directory, source))?;
        let now = seconds_since_1970();
        let path = unused(directory, now as u64);
        let file = File::create_new(&path).map_err(|source| FileError::new("create", &path, source))?;
        let mut events = Self { path, file };
        events.write(&Event {
            wall_time: now,
            step: 0,
            what: Some(What::FileVersion(FILE_VERSION.to_owned())),
        })?;
        if let Some(step) = resumed_after {
            // The first step that may be told again.
            let what = Some(What::SessionLog(SessionLog { status: START }));
            events.write(&Event { wall_time: now, step: step as i64 + 1, what })?;
        }
        Ok(events)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds `scalars` of one step.
    ///
    /// # Errors
    /// [`FileError`] if the file cannot be written.
    pub fn scalars(&mut self, step: u64, scalars: &[(String, f64)]) -> Result<(), FileError> {
        let value =
            |(tag, value): &(String, f64)| Scalar { tag: tag.clone(), simple_value: Some(*value as f32) };
        let summary = Summary { value: scalars.iter().map(value).collect() };
        let what = Some(What::Summary(summary));
        self.write(&Event { wall_time: seconds_since_1970(), step: step as i64, what })
    }

    /// Waits until what was written is on disk.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be brought there.
    pub fn sync(&self) -> Result<(), FileError> {
        self.file.sync_data().map_err(|source| FileError::new("write", &self.path, source))
    }

    fn write(&mut self, event: &Event) -> Result<(), FileError> {
        let record = record(&event.encode_to_vec());
        self.file.write_all(&record).map_err(|source| FileError::new("write", &self.path, source))
    }
}

/// A name that no file in `directory` has; TensorBoard looks for `tfevents` and reads files in the order of their names.
fn unused(directory: &Path, seconds: u64) -> PathBuf {
    let name = |number: u32| {
        directory.join(format!("events.out.tfevents.{seconds:010}.gptjc.{}.{number}", std::process::id()))
    };
    (0..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0))
}

pub(super) fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// `data` as a TFRecord: its length and data, each followed by its checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked_crc(data).to_le_bytes());
    record
}

/// CRC-32C, rotated and shifted so that the checksum of data with checksums in it is a good one too.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a file apart, and checks its checksums bit by bit.
    fn read(path: &Path) -> Vec<Event> {
        let bytes = fs::read(path).unwrap();
        let (mut events, mut rest) = (Vec::new(), bytes.as_slice());
        while !rest.is_empty() {
            let (length, after) = rest.split_at(8);
            let size = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            let (length_crc, after) = after.split_at(4);
            let (data, after) = after.split_at(size);
            let (data_crc, after) = after.split_at(4);
            for (data, crc) in [(length, length_crc), (data, data_crc)] {
                assert_eq!(unmask(u32::from_le_bytes(crc.try_into().unwrap())), bitwise_crc32c(data));
            }
            events.push(Event::decode(data).unwrap());
            rest = after;
        }
        events
    }

    fn unmask(masked: u32) -> u32 {
        let rotated = masked.wrapping_sub(0xa282_ead8);
        rotated.rotate_left(15)
    }

    /// The polynomial of Castagnoli, reflected, one bit at a time.
    fn bitwise_crc32c(data: &[u8]) -> u32 {
        let shift = |crc: u32, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        !data.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), shift))
    }

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, B.4, and the check value of the catalogue of CRCs.
        assert_eq!(bitwise_crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(bitwise_crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(unmask(masked_crc(b"123456789")), 0xe306_9283);
    }

    #[test]
    fn scalars_are_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let runs = directory.path().join("runs/one");
        let mut events = EventFile::create(&runs, None).unwrap();
        events.scalars(5, &[("train/loss".to_owned(), 1.25), ("train/epoch".to_owned(), 0.5)]).unwrap();
        events.sync().unwrap();
        let found = read(events.path());
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].what, Some(What::FileVersion("brain.Event:2".to_owned())));
        assert_eq!(found[1].step, 5);
        assert!(found[1].wall_time > 1.7e9);
        let Some(What::Summary(summary)) = &found[1].what else { panic!("{:?}", found[1]) };
        let scalars: Vec<_> =
            summary.value.iter().map(|value| (value.tag.as_str(), value.simple_value)).collect();
        assert_eq!(scalars, [("train/loss", Some(1.25)), ("train/epoch", Some(0.5))]);
    }

    #[test]
    fn a_run_that_goes_on_takes_back_what_comes_after() {
        let directory = tempfile::tempdir().unwrap();
        let before = EventFile::create(directory.path(), None).unwrap();
        let events = EventFile::create(directory.path(), Some(10)).unwrap();
        assert!(before.path() < events.path(), "{events:?}");
        let found = read(events.path());
        assert_eq!((found.len(), found[1].step), (2, 11));
        assert_eq!(found[1].what, Some(What::SessionLog(SessionLog { status: START })));
    }
}
