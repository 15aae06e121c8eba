//! The machine that a plan is compiled for.

use crate::error::CliError;
use gptjc_compiler::target;
use gptjc_graphs::plan::Target;
use gptjc_graphs::plan::target_file;

/// The shipped description called `name`, or the one in the file `name`.
///
/// # Errors
/// [`CliError::Target`] if there is neither, or the file does not hold.
pub(super) fn named(name: &str) -> Result<Target, CliError> {
    let refuse = |advice: String, source| CliError::Target { name: name.to_owned(), advice, source };
    let of_the_file = "see `compiler/targets/` in the sources of gptjc for descriptions to start from";
    if let Some(found) =
        target::shipped(name).map_err(|error| refuse("please report this".to_owned(), error.into()))?
    {
        return Ok(found);
    }
    let text = std::fs::read_to_string(name).map_err(|error| {
        let known = target::names().collect::<Vec<_>>().join(", ");
        refuse(format!("give a file, or one of {known}"), error.into())
    })?;
    let mut found =
        target_file::parse(name, &text).map_err(|error| refuse(of_the_file.to_owned(), error.into()))?;
    if found.name.is_empty() {
        name.clone_into(&mut found.name);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    #[test]
    fn a_target_is_shipped_or_a_file() {
        assert_eq!(named("spr-2s").unwrap().cores, 112);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.toml");
        std::fs::write(&path, "isa = \"avx2\"\ncores_per_socket = 4\n").unwrap();
        let path = path.to_str().unwrap();
        assert_eq!((named(path).unwrap().cores, named(path).unwrap().name.as_str()), (4, path));
        std::fs::write(path, "isa = \"avx2\"\n").unwrap();
        let error = named(path).unwrap_err();
        let cause = error.source().unwrap().to_string();
        assert!(
            cause.ends_with("t.toml`: `cores_per_socket`: expected a number of cores, found nothing"),
            "{cause}"
        );
    }

    #[test]
    fn a_target_that_is_neither_is_refused() {
        let CliError::Target { advice, .. } = named("no/such.toml").unwrap_err() else { panic!() };
        assert_eq!(advice, "give a file, or one of spr-2s, zen4-2c, avx2-2c");
    }
}
