//! Where the Hugging Face cache is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Directories that hold repositories, in the order in which they are searched.
///
/// The cache is the first of `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE` (its old name), `HF_HOME/hub`,
/// `XDG_CACHE_HOME/huggingface/hub` and `~/.cache/huggingface/hub` whose variable is set. What older versions of
/// transformers downloaded is where `TRANSFORMERS_CACHE` says, which is searched after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caches(Vec<PathBuf>);

impl Caches {
    /// Those of this process's environment.
    pub fn of_process() -> Caches {
        Caches::from_variables(|name| std::env::var_os(name))
    }

    /// Those that the environment `variable` leads to; one that is empty counts as not set.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Caches {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = set("HOME");
        let directory = |name: &str| set(name).map(|path| expanded(&path, home.as_deref()));
        let hub_cache = directory("HF_HUB_CACHE").or_else(|| directory("HUGGINGFACE_HUB_CACHE"));
        let of_home = || {
            let own = directory("HF_HOME");
            let xdg = || directory("XDG_CACHE_HOME").map(|cache| cache.join("huggingface"));
            let default = || home.as_ref().map(|home| home.join(".cache/huggingface"));
            Some(own.or_else(xdg).or_else(default)?.join("hub"))
        };
        let mut found: Vec<PathBuf> = hub_cache.or_else(of_home).into_iter().collect();
        if let Some(old) = directory("TRANSFORMERS_CACHE").filter(|old| !found.contains(old)) {
            found.push(old);
        }
        Caches(found)
    }

    /// The directories; none if there is neither a variable nor a home.
    pub fn directories(&self) -> &[PathBuf] {
        &self.0
    }
}

impl<const N: usize> From<[PathBuf; N]> for Caches {
    fn from(directories: [PathBuf; N]) -> Self {
        Caches(directories.into())
    }
}

/// `path` with `~` at its beginning made the home, as `huggingface_hub` does.
fn expanded(path: &Path, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Vec<String> {
        let lookup = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        Caches::from_variables(lookup).0.iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn the_first_variable_that_is_set_decides() {
        let all = [
            ("HF_HUB_CACHE", "/a"),
            ("HUGGINGFACE_HUB_CACHE", "/b"),
            ("HF_HOME", "/c"),
            ("XDG_CACHE_HOME", "/d"),
            ("HOME", "/e"),
        ];
        let expected = ["/a", "/b", "/c/hub", "/d/huggingface/hub", "/e/.cache/huggingface/hub"];
        for (first, expected) in expected.into_iter().enumerate() {
            assert_eq!(found(&all[first..]), [expected]);
        }
        assert_eq!(found(&[]), [""; 0]);
        assert_eq!(found(&[("HF_HUB_CACHE", ""), ("HF_HOME", "/c")]), ["/c/hub"]);
        assert_eq!(found(&[("HF_HOME", "~/hf"), ("HOME", "/e")]), ["/e/hf/hub"]);
    }

    #[test]
    fn the_old_cache_of_transformers_is_searched_last() {
        assert_eq!(found(&[("TRANSFORMERS_CACHE", "/t"), ("HF_HOME", "/c")]), ["/c/hub", "/t"]);
        assert_eq!(found(&[("TRANSFORMERS_CACHE", "/t"), ("HF_HUB_CACHE", "/t")]), ["/t"]);
        assert_eq!(found(&[("TRANSFORMERS_CACHE", "/t")]), ["/t"]);
    }
}
