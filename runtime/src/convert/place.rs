//! Where a conversion goes that a command needs and nobody asked for.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::ConvertError;
use crate::hex::hex;
use crate::hub::Repository;

/// The directory inside of a model's.
pub const DIRECTORY: &str = "gptjc-bf16";
/// The directory inside of gptjc's cache.
const CACHED: &str = "converted";

/// The places where the conversion of `model` may be, the first of which is preferred: [`DIRECTORY`] inside of it,
/// unless it cannot be written or belongs to the Hugging Face cache, and one in gptjc's own cache, `cache`.
pub fn candidates(model: &Path, cache: Option<&Path>) -> Vec<PathBuf> {
    let inside = Repository::of_snapshot(model).is_none().then(|| model.join(DIRECTORY));
    let cached = cache.map(|cache| cache.join(CACHED).join(cached_name(model)));
    inside.into_iter().chain(cached).collect()
}

/// The first of the [`candidates`] that can be written.
///
/// # Errors
/// [`ConvertError::NoPlace`].
pub fn choose(model: &Path, cache: Option<&Path>) -> Result<PathBuf, ConvertError> {
    let candidates = candidates(model, cache);
    let is_inside = |place: &Path| place.parent() == Some(model);
    let found = candidates.into_iter().find(|place| !is_inside(place) || is_writable(model));
    found.ok_or_else(|| ConvertError::NoPlace { model: model.to_owned() })
}

fn is_writable(directory: &Path) -> bool {
    tempfile::Builder::new().prefix(".gptjc-probe-").tempfile_in(directory).is_ok()
}

/// A name that says what it is, and is another one for every directory.
fn cached_name(model: &Path) -> String {
    let whole = fs::canonicalize(model).unwrap_or_else(|_| model.to_owned());
    let name = match Repository::of_snapshot(&whole) {
        Some(repository) => repository.name().replace('/', "--"),
        None => whole.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let digest = Sha256::digest(whole.as_os_str().as_encoded_bytes());
    format!("{name}-{}", hex(&digest[..6]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_it_inside_and_a_snapshot_in_the_cache() {
        let model = tempfile::tempdir().unwrap();
        let cache = Path::new("/cache");
        assert_eq!(choose(model.path(), Some(cache)).unwrap(), model.path().join(DIRECTORY));
        assert_eq!(fs::read_dir(model.path()).unwrap().count(), 0, "nothing is left of the probe");
        let snapshot = Path::new("/hub/models--a--b/snapshots/0123");
        let place = choose(snapshot, Some(cache)).unwrap();
        assert!(place.to_string_lossy().starts_with("/cache/converted/a--b-"), "{place:?}");
        assert_ne!(place, choose(Path::new("/hub/models--a--b/snapshots/4567"), Some(cache)).unwrap());
        let error = choose(snapshot, None).unwrap_err().to_string();
        assert!(error.contains("`gptjc convert`") && error.contains("XDG_CACHE_HOME"), "{error}");
    }

    #[test]
    fn a_model_that_cannot_be_written_has_it_in_the_cache() {
        let place = choose(Path::new("/proc/1"), Some(Path::new("/cache"))).unwrap();
        assert!(place.to_string_lossy().starts_with("/cache/converted/1-"), "{place:?}");
    }
}
