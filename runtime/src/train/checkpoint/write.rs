//! Writes the files of one checkpoint.

use super::places::{self, Place};
use super::state_file::{FileFacts, STATE_FILE, StateFile};
use super::{Facts, MOMENTS_FILE, SUMS_FILE};
use crate::files::{FileError, atomic};
use crate::train::{RunState, TRAINER_STATE_FILE, TrainError, Trainer};
use crate::weights::WeightDtype;
use crate::weights::layout::{HeaderEntry, safetensors_header};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Bytes gathered before they are handed to the system.
const BUFFER: usize = 1 << 20;

/// Writes the checkpoint `target`: it appears whole or not at all.
pub(super) fn write(
    target: &Path,
    run: u64,
    trainer: &mut Trainer,
    state: &RunState,
    facts: &Facts,
) -> Result<(), TrainError> {
    atomic::write_directory(target, |inside| {
        let mut files = FileSet { inside, shown: target, facts: BTreeMap::new() };
        trainer.write_parameters(&mut files)?;
        let plan = trainer.plan();
        let (moments, sums) = (places::moments(plan), places::sums(plan, state.windows_done));
        files.buffers(MOMENTS_FILE, &moments, trainer)?;
        if !sums.is_empty() {
            files.buffers(SUMS_FILE, &sums, trainer)?;
        }
        files.bytes(TRAINER_STATE_FILE, state.trainer.to_json(target)?.as_bytes())?;
        let content = StateFile::new(run, state, facts, files.facts.clone());
        let json = content.to_json().map_err(|error| files.error(STATE_FILE, error.into()))?;
        files.bytes(STATE_FILE, &json)?;
        Ok(())
    })
}

/// Files of a directory that is being written, with their lengths and checksums.
pub(crate) struct FileSet<'a> {
    /// Where they are written.
    inside: &'a Path,
    /// Where they will be: what messages name.
    shown: &'a Path,
    facts: BTreeMap<String, FileFacts>,
}

impl FileSet<'_> {
    fn error(&self, name: &str, source: io::Error) -> FileError {
        FileError::new("write", &self.shown.join(name), source)
    }

    /// Writes the file `name`.
    pub(crate) fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        let written = self.create(name).and_then(|mut writer| {
            writer.write_all(bytes)?;
            writer.finish()
        });
        self.add(name, written)
    }

    /// Writes the safetensors file `name` with these parts of the trainer's buffers; one of them at a time is in memory
    /// twice.
    pub(crate) fn buffers(
        &mut self,
        name: &str,
        places: &[Place],
        trainer: &mut Trainer,
    ) -> Result<(), TrainError> {
        let entries = places.iter().map(|place| HeaderEntry {
            name: &place.tensor.name,
            dtype: WeightDtype::F32,
            shape: &place.tensor.shape,
        });
        let mut writer = self.create(name).map_err(|source| self.error(name, source))?;
        writer.write_all(&safetensors_header(entries)).map_err(|source| self.error(name, source))?;
        for place in places {
            let range = place.start..place.start + place.elements();
            let values = trainer.executor().read_range::<f32>(&place.buffer, range)?;
            // Little-endian, as the machines that gptjc runs on.
            writer.write_all(bytemuck::cast_slice(&values)).map_err(|source| self.error(name, source))?;
        }
        let written = writer.finish();
        Ok(self.add(name, written)?)
    }

    fn create(&self, name: &str) -> io::Result<Counted> {
        let file = File::create_new(self.inside.join(name))?;
        Ok(Counted {
            inner: BufWriter::with_capacity(BUFFER, file),
            hash: crc32fast::Hasher::new(),
            bytes: 0,
        })
    }

    fn add(&mut self, name: &str, written: io::Result<FileFacts>) -> Result<(), FileError> {
        let facts = written.map_err(|source| self.error(name, source))?;
        self.facts.insert(name.to_owned(), facts);
        Ok(())
    }
}

/// A writer that keeps length and checksum of what went through it.
struct Counted {
    inner: BufWriter<File>,
    hash: crc32fast::Hasher,
    bytes: u64,
}

impl Counted {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.inner.write_all(bytes)
    }

    fn finish(mut self) -> io::Result<FileFacts> {
        self.inner.flush()?;
        Ok(FileFacts { bytes: self.bytes, crc32: self.hash.finalize() })
    }
}
