//! The small model that is part of the program.
//!
//! Its bytes are in the binary, so that the demo works without the sources and without a network.

use crate::error::CliError;
use crate::flags::values::human_bytes;
use gptjc_runtime::files::FileError;
use gptjc_runtime::files::atomic::write_directory;
use std::fs;
use std::path::Path;

/// Names and contents of the model's files.
const FILES: [(&str, &[u8]); 3] = [
    ("config.json", include_bytes!("../../../../demo/model/config.json")),
    ("model.safetensors", include_bytes!("../../../../demo/model/model.safetensors")),
    ("tokenizer.json", include_bytes!("../../../../demo/model/tokenizer.json")),
];

/// Writes the model into `directory`, which is made, and says so.
pub(super) fn write(directory: &Path) -> Result<String, CliError> {
    write_directory(directory, |partial| {
        FILES.iter().try_for_each(|(name, bytes)| {
            let file = partial.join(name);
            fs::write(&file, bytes).map_err(|source| FileError::new("write", &file, source))
        })
    })?;
    let bytes: usize = FILES.iter().map(|(_, bytes)| bytes.len()).sum();
    Ok(format!("wrote {}: {}", directory.display(), human_bytes(bytes as u64)))
}
