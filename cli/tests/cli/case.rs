//! The golden case `accumulate` (six windows an optimizer step), trained in a directory of its own.

use crate::common::{copy_directory, edit_tensor, golden};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// Runs of the case in one directory.
pub(crate) struct Case {
    pub(crate) root: TempDir,
}

impl Case {
    pub(crate) fn new() -> Self {
        Self { root: TempDir::new().unwrap() }
    }

    pub(crate) fn out(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The words of `gptjc train` into `out`, with `flags` but for those that `more` has.
    pub(crate) fn words(&self, flags: &[(&str, &str)], out: &str, more: &str) -> Vec<String> {
        let case = golden("accumulate");
        let path = |name: &str| case.join(name).to_str().unwrap().to_owned();
        let mut flags: Vec<(&str, String)> =
            flags.iter().map(|(flag, value)| (*flag, (*value).to_owned())).collect();
        flags.push(("--model", path("model")));
        flags.push(("--train-tokens", path("batches.safetensors")));
        flags.push(("--adapter", path("adapter_init")));
        flags.push(("--output-dir", out.to_owned()));
        let more: Vec<&str> = more.split_whitespace().collect();
        flags.retain(|(flag, _)| !more.contains(flag));
        let words = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        let more = more.into_iter().map(str::to_owned);
        std::iter::once("train".to_owned()).chain(words).chain(more).collect()
    }

    /// A copy of the model with another weight in the second block's MLP.
    pub(crate) fn model(&self, name: &str, edit: impl FnOnce(&mut [u8])) -> PathBuf {
        let (from, to) = (golden("accumulate/model"), self.out(name));
        copy_directory(&from, &to);
        let file = "model.safetensors";
        edit_tensor(&from.join(file), &to.join(file), "transformer.h.1.mlp.fc_in.weight", edit);
        to
    }

    pub(crate) fn adapter(&self, out: &str) -> Vec<u8> {
        fs::read(self.out(out).join("adapter_model.safetensors")).unwrap()
    }
}
