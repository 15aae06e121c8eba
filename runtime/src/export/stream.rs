//! Writes the file of the weights, tensor by tensor, each at its offset.
//!
//! Memory: a block of rows in f32 and its encoded bytes; a transposed matrix also once in its stored type, a quantised one
//! its scales and zero points.
//!
//! Does not: decide where anything lies; the model does.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use gptjc_graphs::onnx::{Blockwise, Form, OnnxModel, PlacedInitializer, QuantizedPart, Storage};

use super::blocks::{Block, Blocks};
use super::encode::Encoder;
use super::error::ExportError;
use super::quantize::{Quantised, Quantizer};
use super::report::WeightReport;
use super::rounding::{Rounding, check_finite};
use super::source::TensorSource;
use super::{ExportProgress, directory};

/// Writes all weights of `model` into a new file, and says what became of each.
pub(super) fn write_weights(
    model: &OnnxModel,
    source: &dyn TensorSource,
    path: &Path,
    progress: &mut dyn FnMut(ExportProgress<'_>),
) -> Result<Vec<WeightReport>, ExportError> {
    let file = File::create_new(path).map_err(ExportError::io("create", path))?;
    let written = write_to(file, model, source, path, progress)?;
    directory::sync(path)?;
    Ok(written)
}

/// As [`write_weights`], to any writer; `path` is for messages.
pub(super) fn write_to(
    writer: impl Write,
    model: &OnnxModel,
    source: &dyn TensorSource,
    path: &Path,
    progress: &mut dyn FnMut(ExportProgress<'_>),
) -> Result<Vec<WeightReport>, ExportError> {
    let mut out = Output { writer, path, position: 0, total: model.data_length };
    let mut reports = Vec::new();
    for group in groups(model) {
        let report = write_group(group, source, &mut out)?;
        progress(ExportProgress {
            tensor: &report.tensor,
            bytes: out.position,
            total_bytes: model.data_length,
        });
        reports.push(report);
    }
    out.writer.flush().map_err(|error| out.failed(error))?;
    Ok(reports)
}

/// The data file, with the position in it.
struct Output<'a, W> {
    writer: W,
    path: &'a Path,
    position: u64,
    total: u64,
}

impl<W: Write> Output<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.writer.write_all(bytes).map_err(|error| self.failed(error))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), ExportError> {
        self.pad_to(offset)?;
        self.write(bytes)
    }

    fn pad_to(&mut self, offset: u64) -> Result<(), ExportError> {
        let zeros = vec![0; offset.saturating_sub(self.position) as usize];
        self.write(&zeros)
    }

    fn failed(&self, source: io::Error) -> ExportError {
        let path = self.path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                ExportError::DiskFull { path, needed: self.total }
            }
            _ => ExportError::Io { action: "write", path, source },
        }
    }
}

/// Initializers that are made of one weight, in one pass over it: one, or the parts of a quantised one.
fn groups(model: &OnnxModel) -> impl Iterator<Item = &[PlacedInitializer]> {
    model.initializers.chunk_by(|one, next| {
        let (one, next) = (&one.initializer.recipe, &next.initializer.recipe);
        let is_part = |form| matches!(form, Form::Quantized { .. });
        is_part(one.form) && is_part(next.form) && one.source == next.source
    })
}

fn write_group<W: Write>(
    group: &[PlacedInitializer],
    source: &dyn TensorSource,
    out: &mut Output<'_, W>,
) -> Result<WeightReport, ExportError> {
    let first = &group[0]; // groups are not empty
    match first.initializer.recipe.form {
        Form::AsStored | Form::Transposed => write_single(first, source, out),
        Form::Quantized { blockwise, .. } => write_quantised(group, blockwise, source, out),
    }
}

/// Writes a weight that is one tensor.
fn write_single<W: Write>(
    placed: &PlacedInitializer,
    source: &dyn TensorSource,
    out: &mut Output<'_, W>,
) -> Result<WeightReport, ExportError> {
    let initializer = &placed.initializer;
    let blocks = Blocks::of(initializer, source)?;
    let [rows, columns] = blocks.shape();
    let encoder = Encoder { initializer: &initializer.name, element: initializer.element };
    let is_transposed = initializer.recipe.form == Form::Transposed;
    let mut transposed = vec![0; if is_transposed { initializer.byte_length() as usize } else { 0 }];
    let storage = initializer.recipe.rounded_as.unwrap_or(Storage::Plain(initializer.element));
    let mut rounding = Rounding::new(&initializer.name, storage, columns);
    let mut report = WeightReport::new(&initializer.recipe, storage, initializer.byte_length());
    let (mut rounded, mut encoded) = (Vec::new(), Vec::new());
    out.pad_to(placed.offset)?;
    report.merged = blocks.visit(|block: Block<'_>| -> Result<(), ExportError> {
        rounded.clear();
        rounded.extend_from_slice(block.values);
        rounding.round(block.first_row, &mut rounded)?;
        report.count(block.values, &rounded);
        // What is rounded already stays as it is when it is encoded.
        if is_transposed {
            return encoder.scatter(&rounded, columns, block.first_row, rows, &mut transposed);
        }
        encoded.clear();
        encoder.append(&rounded, &mut encoded)?;
        out.write(&encoded)
    })?;
    out.write(&transposed)?;
    Ok(report)
}

/// Writes the parts of a quantised weight: codes as they are made, then scales and zero points, which are kept meanwhile.
fn write_quantised<W: Write>(
    group: &[PlacedInitializer],
    blockwise: Blockwise,
    source: &dyn TensorSource,
    out: &mut Output<'_, W>,
) -> Result<WeightReport, ExportError> {
    let initializer = &group[0].initializer;
    let [codes, scales, zero_points] = parts(group)?;
    let blocks = Blocks::of(initializer, source)?;
    let columns = blocks.shape()[1];
    let mut quantizer = Quantizer::new(blockwise, columns);
    let bytes = group.iter().map(|placed| placed.initializer.byte_length()).sum();
    let mut report = WeightReport::new(&initializer.recipe, Storage::Blocks(blockwise), bytes);
    let (mut parts, mut rounded) = (Quantised::default(), Vec::new());
    out.pad_to(codes.offset)?;
    report.merged = blocks.visit(|block: Block<'_>| -> Result<(), ExportError> {
        check_finite(&initializer.name, block.first_row, columns, block.values)?;
        rounded.resize(block.values.len(), 0.0);
        parts.codes.clear();
        for (row, rounded) in block.values.chunks_exact(columns).zip(rounded.chunks_exact_mut(columns)) {
            quantizer.append(row, rounded, &mut parts);
        }
        report.count(block.values, &rounded);
        out.write(&parts.codes)
    })?;
    let scale_bytes: Vec<u8> = parts.scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
    out.write_at(scales.offset, &scale_bytes)?;
    out.write_at(zero_points.offset, &parts.zero_points)?;
    Ok(report)
}

/// Codes, scales and zero points.
fn parts(group: &[PlacedInitializer]) -> Result<[&PlacedInitializer; 3], ExportError> {
    let part = |placed: &PlacedInitializer| match placed.initializer.recipe.form {
        Form::Quantized { part, .. } => Some(part),
        Form::AsStored | Form::Transposed => None,
    };
    match group {
        [codes, scales, zero_points]
            if part(codes) == Some(QuantizedPart::Codes)
                && part(scales) == Some(QuantizedPart::Scales)
                && part(zero_points) == Some(QuantizedPart::ZeroPoints) =>
        {
            Ok([codes, scales, zero_points])
        }
        _ => Err(ExportError::Parts { initializer: group[0].initializer.name.clone() }),
    }
}
