//! Writes the files of the weights, tensor by tensor, and measures what each lost by rounding.
//!
//! Memory: a block of rows in f32, twice, and its encoded bytes.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::report::{ChangeSums, TensorChange};
use super::shards::{Plan, Shard, Stored};
use super::{MergeError, MergeRequest};
use crate::export::blocks::{Block, Blocks};
use crate::export::encode::Encoder;
use crate::export::{CheckpointSource, ExportProgress};
use crate::files::FileError;
use crate::weights::layout::INDEX_FILE;

/// Bytes gathered before they are handed to the system.
const BUFFER: usize = 1 << 20;

/// Writes all files of `plan` into the directory `inside`.
pub(super) fn write_weights(
    request: &MergeRequest<'_>,
    plan: &Plan,
    inside: &Path,
    progress: &mut dyn FnMut(ExportProgress<'_>),
) -> Result<Vec<TensorChange>, MergeError> {
    let mut changes = Vec::with_capacity(request.tensors.len());
    let mut done = 0;
    for shard in &plan.shards {
        // Errors name the place that the user asked for, not the one beside it.
        let shown = request.directory.join(&shard.name);
        let failed = |source| FileError::new("write", &shown, source);
        let file = File::create_new(inside.join(&shard.name)).map_err(failed)?;
        let mut writer = BufWriter::with_capacity(BUFFER, file);
        changes.extend(write_shard(&mut writer, &shown, shard, request, &mut |tensor, bytes| {
            done += bytes;
            progress(ExportProgress { tensor, bytes: done, total_bytes: plan.bytes });
        })?);
    }
    if let Some(index) = plan.index() {
        let failed = |source| FileError::new("write", &request.directory.join(INDEX_FILE), source);
        std::fs::write(inside.join(INDEX_FILE), index).map_err(failed)?;
    }
    Ok(changes)
}

/// Writes one file; `shown` is its name in messages, `progress` is told each tensor and its bytes.
pub(super) fn write_shard(
    writer: &mut dyn Write,
    shown: &Path,
    shard: &Shard,
    request: &MergeRequest<'_>,
    progress: &mut dyn FnMut(&str, u64),
) -> Result<Vec<TensorChange>, MergeError> {
    let failed = |source: io::Error| FileError::new("write", shown, source);
    writer.write_all(&shard.header()).map_err(failed)?;
    let mut changes = Vec::with_capacity(shard.tensors.len());
    for stored in &shard.tensors {
        let mut write = |bytes: &[u8]| writer.write_all(bytes).map_err(failed);
        changes.push(write_tensor(&mut write, stored, request)?);
        progress(&stored.initializer.name, stored.initializer.byte_length());
    }
    writer.flush().map_err(failed)?;
    Ok(changes)
}

fn write_tensor(
    write: &mut dyn FnMut(&[u8]) -> Result<(), FileError>,
    stored: &Stored,
    request: &MergeRequest<'_>,
) -> Result<TensorChange, MergeError> {
    let source = CheckpointSource::new(request.checkpoint, Some(request.adapter));
    let initializer = &stored.initializer;
    let encoder = Encoder { initializer: &initializer.name, element: initializer.element };
    let mut sums = ChangeSums::new(stored.dtype);
    let mut encoded = Vec::new();
    Blocks::of(initializer, &source)?.visit(|block: Block<'_>| -> Result<(), MergeError> {
        encoded.clear();
        encoder.append(block.values, &mut encoded)?;
        sums.add(block.values, block.before, &encoded);
        Ok(write(&encoded)?)
    })?;
    Ok(sums.finish(&initializer.name))
}
