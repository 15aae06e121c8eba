//! The output directory.

use crate::error::CliError;
use crate::flags::OutputFlags;
use gptjc_runtime::files::FileError;
use std::fs;
use std::path::Path;

/// Refuses a directory that holds something, unless asked to write into it, and makes it: what cannot be written to is
/// known before hours are spent.
pub(crate) fn prepare(flags: &OutputFlags) -> Result<(), CliError> {
    let path = &flags.output_dir;
    if path.exists() && !path.is_dir() {
        return Err(CliError::OutputNotDirectory { path: path.clone() });
    }
    if path.is_dir() && !flags.overwrite_output_dir {
        let read = |source| CliError::Read { path: path.clone(), source };
        if fs::read_dir(path).map_err(read)?.next().is_some() {
            return Err(CliError::OutputNotEmpty { path: path.clone() });
        }
    }
    fs::create_dir_all(path).map_err(|source| FileError::new("create the directory", path, source))?;
    check_writable(path)
}

/// Refuses a directory that no file can be made in.
pub(crate) fn check_writable(directory: &Path) -> Result<(), CliError> {
    let probe = |source| FileError::new("write into the directory", directory, source);
    let name = directory.join(format!(".gptjc-probe-{}", std::process::id()));
    fs::write(&name, b"").and_then(|()| fs::remove_file(&name)).map_err(probe)?;
    Ok(())
}
