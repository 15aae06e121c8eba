//! The format of torch 1.5 and older: pickles, one behind the other, and then the elements of all storages.
//!
//! The pickles are a magic number, the version of the format, what machine wrote it, the state dict, and the keys of its
//! storages. In the order of the keys follow, for each, the number of its elements in 8 bytes and the elements.
//!
//! Does not: read the tar archives of torch 0.1, or storages that are windows on other storages.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;

use super::pickle::{self, Heap, Storage, Unpickled, Value};
use super::{Entry, TorchError, big_endian, refused, state_dict, table};

/// The pickle of the magic number, 0x1950a86a20f9469cfc6c.
const MAGIC: [u8; 15] = [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];
/// The version of the format.
const PROTOCOL: i64 = 1001;

/// True if `bytes` begin as a file of this format.
pub(super) fn is_legacy(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// The tensors of the file `path`.
pub(super) fn entries(
    path: &Path,
    bytes: &[u8],
    is_ignored: fn(&str) -> bool,
) -> Result<BTreeMap<String, Entry>, TorchError> {
    let damaged = |reason: String| TorchError::Archive { path: path.to_owned(), reason };
    let mut at = MAGIC.len();
    let mut next = || -> Result<Unpickled<'_>, TorchError> {
        let unpickled = pickle::load(&bytes[at..]).map_err(|error| refused(path, error))?;
        at += unpickled.length;
        Ok(unpickled)
    };
    let version = next()?.value;
    if version != Value::Int(PROTOCOL) {
        return Err(damaged(format!("the version of its format is {version:?}, expected {PROTOCOL}")));
    }
    let system = next()?;
    if is_big_endian(&system.heap, system.value) {
        return Err(big_endian(path));
    }
    let dict = next()?;
    let keys = next()?;
    let storages = dict.heap.storages().iter().map(|storage| (storage.key, storage)).collect();
    let places = places(bytes, at, &keys, &storages).map_err(damaged)?;
    let place = |storage: &Storage<'_>| {
        let place = places.get(storage.key).cloned();
        place.ok_or_else(|| format!("there is no storage `{}`", state_dict::shortened(storage.key)))
    };
    table(path, &dict, is_ignored, place)
}

fn is_big_endian(heap: &Heap<'_>, system: Value<'_>) -> bool {
    let pairs = heap.pairs(system).unwrap_or_default();
    pairs.contains(&[Value::Text("little_endian"), Value::Bool(false)])
}

/// Where the elements of each storage are; those of the first begin at `at`.
fn places<'a>(
    bytes: &[u8],
    mut at: usize,
    keys: &Unpickled<'a>,
    storages: &HashMap<&str, &Storage<'_>>,
) -> Result<HashMap<&'a str, Range<usize>>, String> {
    let mut places = HashMap::new();
    for key in keys.heap.items(keys.value).ok_or("its list of storages is none")? {
        let Value::Text(key) = *key else { return Err("the key of a storage is no text".to_owned()) };
        let shown = || state_dict::shortened(key);
        let storage = storages.get(key).ok_or_else(|| format!("no tensor has the storage `{}`", shown()))?;
        let truncated =
            || format!("it is truncated: storage `{}` begins in byte {at} of {}", shown(), bytes.len());
        let count = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()).ok_or_else(truncated)?;
        let count = u64::from_le_bytes(*count);
        if count != storage.elements {
            let expected = storage.elements;
            return Err(format!("storage `{}` has {count} elements, its tensors say {expected}", shown()));
        }
        let start = at + size_of::<u64>();
        let end = state_dict::storage_bytes(storage).and_then(|length| start.checked_add(length));
        let end = end.filter(|&end| end <= bytes.len()).ok_or_else(truncated)?;
        places.insert(key, start..end);
        at = end;
    }
    Ok(places)
}
