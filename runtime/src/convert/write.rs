//! Writes the files of the weights, tensor by tensor.
//!
//! Memory: a block of rows in f32, and its encoded bytes.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::Path;

use gptjc_graphs::onnx::{ElementType, Initializer, Recipe, Source};

use super::{ConvertError, ConvertRequest, Rounding, TensorRounding};
use crate::export::blocks::{Block, Blocks};
use crate::export::encode::Encoder;
use crate::export::{CheckpointSource, ExportProgress};
use crate::files::FileError;
use crate::weights::TensorSpec;
use crate::weights::layout::{HeaderEntry, INDEX_FILE, cut, index_text, safetensors_header, shard_name};

/// Bytes gathered before they are handed to the system.
const BUFFER: usize = 1 << 20;

/// A file of weights.
pub(super) struct PlannedFile {
    pub(super) name: String,
    /// Its length.
    pub(super) bytes: u64,
    /// The bytes before the data.
    header: Vec<u8>,
    /// Its tensors, of those of the request.
    tensors: Range<usize>,
}

/// The files of `request`.
pub(super) fn plan(request: &ConvertRequest<'_>) -> Vec<PlannedFile> {
    let length = |spec: &TensorSpec| spec.len() as u64 * request.dtype.size() as u64;
    let files = cut(request.tensors.iter().map(length), request.max_shard_bytes);
    let count = files.len();
    let file = |(index, tensors): (usize, Range<usize>)| {
        let specs = &request.tensors[tensors.clone()];
        let header = safetensors_header(specs.iter().map(|TensorSpec { name, shape }| HeaderEntry {
            name,
            dtype: request.dtype,
            shape,
        }));
        let bytes = header.len() as u64 + specs.iter().map(length).sum::<u64>();
        PlannedFile { name: shard_name(index, count), bytes, header, tensors }
    };
    files.into_iter().enumerate().map(file).collect()
}

/// Writes all `files` into the directory `inside`.
pub(super) fn write_weights(
    request: &ConvertRequest<'_>,
    files: &[PlannedFile],
    inside: &Path,
    progress: &mut dyn FnMut(ExportProgress<'_>),
) -> Result<Vec<TensorRounding>, ConvertError> {
    let mut roundings = Vec::with_capacity(request.tensors.len());
    let (mut done, total_bytes) = (0, request.bytes());
    for planned in files {
        // Errors name the place that the user asked for, not the one beside it.
        let shown = request.directory.join(&planned.name);
        let failed = |source: io::Error| FileError::new("write", &shown, source);
        let file = File::create_new(inside.join(&planned.name)).map_err(failed)?;
        let mut writer = BufWriter::with_capacity(BUFFER, file);
        writer.write_all(&planned.header).map_err(failed)?;
        for spec in &request.tensors[planned.tensors.clone()] {
            let mut write = |bytes: &[u8]| writer.write_all(bytes).map_err(failed);
            roundings.push(write_tensor(&mut write, spec, request)?);
            done += spec.len() as u64 * request.dtype.size() as u64;
            progress(ExportProgress { tensor: &spec.name, bytes: done, total_bytes });
        }
        writer.flush().map_err(failed)?;
    }
    if files.len() > 1 {
        let failed = |source| FileError::new("write", &request.directory.join(INDEX_FILE), source);
        std::fs::write(inside.join(INDEX_FILE), index(request, files)).map_err(failed)?;
    }
    Ok(roundings)
}

/// The table of shards.
fn index(request: &ConvertRequest<'_>, files: &[PlannedFile]) -> String {
    let places = files.iter().flat_map(|file| {
        request.tensors[file.tensors.clone()].iter().map(|spec| (spec.name.as_str(), file.name.as_str()))
    });
    let parameters = request.tensors.iter().map(|spec| spec.len() as u64).sum();
    index_text(places, request.bytes(), parameters)
}

fn write_tensor(
    write: &mut dyn FnMut(&[u8]) -> Result<(), FileError>,
    spec: &TensorSpec,
    request: &ConvertRequest<'_>,
) -> Result<TensorRounding, ConvertError> {
    let source = CheckpointSource::new(request.checkpoint, None);
    let element = ElementType::from(request.dtype);
    let recipe = Recipe::as_stored(Source::Tensor(spec.name.clone()));
    let initializer = Initializer { name: spec.name.clone(), element, shape: spec.shape.clone(), recipe };
    let encoder = Encoder { initializer: &spec.name, element };
    let (mut rounding, mut encoded) = (Rounding::default(), Vec::new());
    Blocks::of(&initializer, &source)?.visit(|block: Block<'_>| -> Result<(), ConvertError> {
        encoded.clear();
        encoder.append(block.values, &mut encoded)?;
        rounding.add(block.values, request.dtype, &encoded);
        Ok(write(&encoded)?)
    })?;
    let source = request.checkpoint.tensor(&spec.name).map_or("", |view| view.dtype.hugging_face_name());
    Ok(TensorRounding { name: spec.name.clone(), source, rounding })
}
