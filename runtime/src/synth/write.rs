//! Makes blocks of tensors on several threads and writes each where it belongs.

use super::file::{Content, ContentKind, Frame, PlannedFile};
use super::random::Values;
use super::{SynthError, SynthProgress, SynthRequest};
use crate::files::FileError;
use crate::weights::WeightDtype;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Elements that a thread makes at a time.
const BLOCK: usize = 1 << 20;

/// A part of one content.
struct Job {
    content: usize,
    elements: Range<usize>,
}

/// The checksum of a job's bytes.
struct Checksum {
    job: usize,
    hasher: crc32fast::Hasher,
}

/// Writes `files` into the directory `inside`.
pub(super) fn write_files(
    request: &SynthRequest<'_>,
    files: &[PlannedFile],
    inside: &Path,
    progress: &(dyn Fn(SynthProgress) + Sync),
) -> Result<(), SynthError> {
    let total_bytes = files.iter().flat_map(|file| &file.contents).map(Content::bytes).sum();
    let done = AtomicU64::new(0);
    let report = |bytes: u64| {
        let bytes = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        progress(SynthProgress { bytes, total_bytes });
    };
    for planned in files {
        // Errors name the place that the user asked for, not the one beside it.
        let shown = request.directory.join(&planned.name);
        let written = write_file(request, planned, &inside.join(&planned.name), &report);
        written.map_err(|source| FileError::new("write", &shown, source))?;
    }
    Ok(())
}

fn write_file(
    request: &SynthRequest<'_>,
    planned: &PlannedFile,
    path: &Path,
    report: &(dyn Fn(u64) + Sync),
) -> io::Result<()> {
    let file = File::create_new(path)?;
    file.set_len(planned.bytes)?;
    let jobs = jobs(&planned.contents);
    let checksums = run_jobs(request, planned, &jobs, &file, report)?;
    match &planned.frame {
        Frame::Header(bytes) => file.write_all_at(bytes, 0),
        Frame::Zip(archive) => {
            let pieces = archive.pieces(&combine(&jobs, checksums, planned.contents.len()));
            pieces.iter().try_for_each(|piece| file.write_all_at(&piece.bytes, piece.offset))
        }
    }
}

fn jobs(contents: &[Content]) -> Vec<Job> {
    let of_content = |(content, tensor): (usize, &Content)| {
        let len = tensor.len();
        (0..len).step_by(BLOCK).map(move |first| Job { content, elements: first..(first + BLOCK).min(len) })
    };
    contents.iter().enumerate().flat_map(of_content).collect()
}

/// Does all jobs and returns the checksums of their bytes, if the file has such; after an error no more are begun.
fn run_jobs(
    request: &SynthRequest<'_>,
    planned: &PlannedFile,
    jobs: &[Job],
    file: &File,
    report: &(dyn Fn(u64) + Sync),
) -> io::Result<Vec<Checksum>> {
    let next = AtomicUsize::new(0);
    let outcome: Mutex<io::Result<Vec<Checksum>>> = Mutex::new(Ok(Vec::new()));
    let with_checksums = matches!(planned.frame, Frame::Zip(_));
    let work = || {
        let mut block = Block::default();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(index) else { return };
            let content = &planned.contents[job.content];
            block.make(request, content, job.elements.clone());
            let offset = content.offset + (job.elements.start * content.element_bytes()) as u64;
            let written = file.write_all_at(&block.bytes, offset);
            let mut hasher = crc32fast::Hasher::new();
            if with_checksums {
                hasher.update(&block.bytes);
            }
            report(block.bytes.len() as u64);
            // A thread that panicked left the vector whole.
            let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            match (written, outcome.as_mut()) {
                (Ok(()), Ok(checksums)) => checksums.push(Checksum { job: index, hasher }),
                (Err(error), Ok(_)) => {
                    *outcome = Err(error);
                    next.store(jobs.len(), Ordering::Relaxed);
                }
                (_, Err(_)) => return,
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..request.threads.clamp(1, jobs.len().max(1)) {
            scope.spawn(work);
        }
        work();
    });
    outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The checksum of every content.
fn combine(jobs: &[Job], mut checksums: Vec<Checksum>, contents: usize) -> Vec<u32> {
    checksums.sort_by_key(|checksum| checksum.job);
    let mut hashers = vec![crc32fast::Hasher::new(); contents];
    for Checksum { job, hasher } in &checksums {
        hashers[jobs[*job].content].combine(hasher);
    }
    hashers.into_iter().map(crc32fast::Hasher::finalize).collect()
}

/// The buffers of one thread.
#[derive(Default)]
struct Block {
    values: Vec<f32>,
    bytes: Vec<u8>,
}

impl Block {
    /// Makes the bytes of `elements` of `content`.
    fn make(&mut self, request: &SynthRequest<'_>, content: &Content, elements: Range<usize>) {
        match content.kind {
            ContentKind::Random(dtype) => {
                self.values.resize(elements.len(), 0.0);
                let values = Values::new(request.seed, &content.name, request.std);
                values.fill(elements.start as u64, &mut self.values);
                self.encode(dtype);
            }
            ContentKind::MaskedBias(dtype) => {
                self.values.clear();
                self.values.resize(elements.len(), -1e9);
                self.encode(dtype);
            }
            ContentKind::CausalMask => {
                let side = content.shape.last().copied().unwrap_or(1).max(1);
                self.bytes.clear();
                self.bytes.extend(elements.map(|index| u8::from(index % side <= index / side)));
            }
        }
    }

    /// Rounds the values once.
    fn encode(&mut self, dtype: WeightDtype) {
        self.bytes.resize(self.values.len() * dtype.size(), 0);
        match dtype {
            WeightDtype::F32 => {
                for (bytes, value) in self.bytes.chunks_exact_mut(4).zip(&self.values) {
                    bytes.copy_from_slice(&value.to_le_bytes());
                }
            }
            WeightDtype::F16 => {
                let mut rounded = vec![f16::ZERO; self.values.len()];
                rounded.convert_from_f32_slice(&self.values);
                self.bytes.copy_from_slice(bytemuck::cast_slice(&rounded));
            }
            WeightDtype::Bf16 => {
                for (bytes, &value) in self.bytes.chunks_exact_mut(2).zip(&self.values) {
                    bytes.copy_from_slice(&bf16::from_f32(value).to_le_bytes());
                }
            }
        }
    }
}
