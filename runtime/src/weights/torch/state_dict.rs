//! A pickled state dict as a table of tensors in the file.
//!
//! Only tensors that are one run of elements are read: what `torch.save` writes of a model's weights. A tensor that is a
//! transposed or strided window is refused, with the way to save it.

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::Dtype;

use super::pickle::{Heap, Storage, Tensor, Unpickled, Value};
use crate::weights::safetensors_file::Entry;
use crate::weights::safetensors_header::MOST_DIMENSIONS;

/// A file has at most so many tensors, and one more for every so many bytes of its pickle: a pickle can name one tensor
/// again and again in a few bytes.
const MOST_TENSORS: usize = 4096;
const BYTES_OF_TENSOR: usize = 32;
/// Characters of a name that a message shows.
const SHOWN: usize = 120;

/// A state dict that cannot be used.
pub(super) enum Refusal {
    /// The value is something else.
    NotAStateDict(String),
    /// A tensor: its name, and what is wrong.
    Tensor(String, String),
}

/// Names and tensors of the state dict; those that `is_ignored` says are left out.
pub(super) fn tensors<'a>(
    pickle: &Unpickled<'a>,
    is_ignored: fn(&str) -> bool,
) -> Result<BTreeMap<&'a str, Tensor<'a>>, Refusal> {
    let heap = &pickle.heap;
    let Some(pairs) = heap.pairs(pickle.value) else {
        return Err(Refusal::NotAStateDict("it holds something else than a dict".to_owned()));
    };
    if pairs.len() > MOST_TENSORS + pickle.length / BYTES_OF_TENSOR {
        return Err(Refusal::NotAStateDict(format!("{} names in {} bytes", pairs.len(), pickle.length)));
    }
    let mut tensors = BTreeMap::new();
    for [key, value] in pairs {
        let Value::Text(name) = *key else {
            return Err(Refusal::NotAStateDict("a name is no text".to_owned()));
        };
        if is_ignored(name) {
            continue;
        }
        let Some(tensor) = heap.tensor(*value) else {
            return Err(Refusal::NotAStateDict(format!("`{}` is no tensor", shortened(name))));
        };
        tensors.insert(name, tensor); // as in Python, the last of two counts
    }
    Ok(tensors)
}

/// The entry of `tensor`, whose storage has the bytes `storage` of the file.
pub(super) fn entry<'a>(
    heap: &Heap<'a>,
    name: &str,
    tensor: Tensor<'a>,
    storage: Range<usize>,
) -> Result<Entry, Refusal> {
    let refuse = |reason: String| Err(Refusal::Tensor(shortened(name), reason));
    let numbers = |value| {
        let few = heap.items(value).is_some_and(|items| items.len() <= MOST_DIMENSIONS);
        few.then(|| heap.ints(value)).flatten()
    };
    let (Some(shape), Some(strides)) = (numbers(tensor.shape), numbers(tensor.strides)) else {
        return refuse(format!(
            "its shape and strides are not up to {MOST_DIMENSIONS} whole numbers; copy or download the file again"
        ));
    };
    let Some(length) = run_length(&shape, &strides) else {
        return refuse(format!(
            "shape {shape:?} with strides {strides:?} is not one run of elements; save it contiguous, with \
             torch.save({{name: t.contiguous() for name, t in model.state_dict().items()}}, FILE)"
        ));
    };
    let size = element_size(tensor.storage.dtype);
    let begin = usize::try_from(tensor.offset).ok().and_then(|offset| offset.checked_mul(size));
    let range = begin.and_then(|begin| {
        let start = storage.start.checked_add(begin)?;
        let end = start.checked_add(length.checked_mul(size)?)?;
        (end <= storage.end).then_some(start..end)
    });
    let Some(Range { start, end }) = range else {
        return refuse(format!(
            "{length} elements from element {} on do not lie inside of its storage of {} elements; copy or download the \
             file again",
            tensor.offset, tensor.storage.elements
        ));
    };
    let shape = shape.into_iter().map(|dim| dim as usize).collect(); // none is negative: see `run_length`
    Ok(Entry { dtype: tensor.storage.dtype, shape, start, end })
}

/// Elements of a tensor that is one run of them, the last dimension fastest; none if it is not.
fn run_length(shape: &[i64], strides: &[i64]) -> Option<usize> {
    if shape.len() != strides.len() || shape.iter().any(|&dim| dim < 0) {
        return None;
    }
    if shape.contains(&0) {
        return Some(0);
    }
    let mut run: i64 = 1;
    for (&dim, &stride) in shape.iter().zip(strides).rev() {
        // Where there is one element, nothing is strided.
        if dim != 1 && stride != run {
            return None;
        }
        run = run.checked_mul(dim)?;
    }
    usize::try_from(run).ok()
}

/// Bytes of the elements of `storage`; none if no file is so large.
pub(super) fn storage_bytes(storage: &Storage<'_>) -> Option<usize> {
    usize::try_from(storage.elements).ok()?.checked_mul(element_size(storage.dtype))
}

/// Bytes of an element of the types that storages have.
fn element_size(dtype: Dtype) -> usize {
    match dtype {
        Dtype::F64 | Dtype::I64 => 8,
        Dtype::F32 | Dtype::I32 => 4,
        Dtype::F16 | Dtype::BF16 | Dtype::I16 => 2,
        _ => 1, // the machine knows no other but those of one byte
    }
}

/// A name for a message.
pub(super) fn shortened(name: &str) -> String {
    name.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_of_elements_has_a_length() {
        for (shape, strides, length) in [
            (&[][..], &[][..], Some(1)),
            (&[5], &[1], Some(5)),
            (&[2, 3], &[3, 1], Some(6)),
            (&[1, 3], &[99, 1], Some(3)),
            (&[3, 1], &[1, 7], Some(3)),
            (&[0, 3], &[7, 7], Some(0)),
            (&[2, 3], &[1, 2], None),
            (&[5], &[2], None),
            (&[2, 3], &[4, 1], None),
            (&[4], &[0], None),
            (&[-1], &[1], None),
            (&[2], &[1, 1], None),
            (&[i64::MAX, i64::MAX], &[i64::MAX, 1], None),
        ] {
            assert_eq!(run_length(shape, strides), length, "{shape:?} {strides:?}");
        }
    }
}
