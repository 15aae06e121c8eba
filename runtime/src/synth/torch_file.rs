//! Tensors in one `pytorch_model.bin`, with the old buffers of every layer.

use super::file::{Content, ContentKind, Frame, PlannedFile};
use super::pickle::{Tensor, state_dict};
use super::zip_file::Archive;
use super::{OldBuffers, SynthError};
use crate::weights::{TensorSpec, WeightDtype};

const FILE: &str = "pytorch_model.bin";
/// Folder of the archive: the file's name without its ending, as `torch.save` takes it.
const FOLDER: &str = "pytorch_model";

/// The file of `tensors`.
pub(super) fn plan(
    tensors: &[TensorSpec],
    buffers: OldBuffers,
    dtype: WeightDtype,
) -> Result<PlannedFile, SynthError> {
    let mut contents = contents(tensors, buffers, dtype);
    let pickled: Vec<Tensor<'_>> = contents
        .iter()
        .map(|content| Tensor { name: &content.name, storage: storage(content.kind), shape: &content.shape })
        .collect();
    let mut archive = Archive::new();
    archive.push_inline(format!("{FOLDER}/data.pkl"), state_dict(&pickled)?);
    archive.push_inline(format!("{FOLDER}/byteorder"), b"little".to_vec());
    for (index, content) in contents.iter_mut().enumerate() {
        content.offset = archive.push_content(format!("{FOLDER}/data/{index}"), content.bytes(), index);
    }
    archive.push_inline(format!("{FOLDER}/version"), b"3\n".to_vec());
    Ok(PlannedFile { name: FILE.to_owned(), bytes: archive.bytes(), contents, frame: Frame::Zip(archive) })
}

/// The tensors, and before the first of a layer's attention that layer's buffers.
fn contents(tensors: &[TensorSpec], buffers: OldBuffers, dtype: WeightDtype) -> Vec<Content> {
    let content = |name: String, shape: Vec<usize>, kind| Content { name, shape, kind, offset: 0 };
    let mut contents = Vec::with_capacity(tensors.len() + 2 * buffers.layers);
    let mut layer = 0;
    for TensorSpec { name, shape } in tensors {
        let attention = format!("transformer.h.{layer}.attn");
        if layer < buffers.layers && name.starts_with(&format!("{attention}.")) {
            let mask = vec![1, 1, buffers.positions, buffers.positions];
            contents.push(content(format!("{attention}.bias"), mask, ContentKind::CausalMask));
            let masked = ContentKind::MaskedBias(dtype);
            contents.push(content(format!("{attention}.masked_bias"), Vec::new(), masked));
            layer += 1;
        }
        contents.push(content(name.clone(), shape.clone(), ContentKind::Random(dtype)));
    }
    contents
}

fn storage(kind: ContentKind) -> &'static str {
    match kind {
        ContentKind::Random(dtype) | ContentKind::MaskedBias(dtype) => match dtype {
            WeightDtype::F32 => "FloatStorage",
            WeightDtype::F16 => "HalfStorage",
            WeightDtype::Bf16 => "BFloat16Storage",
        },
        ContentKind::CausalMask => "ByteStorage",
    }
}
