//! Machine descriptions that are shipped, by name.
//!
//! The files are in `compiler/targets/`, each with the sources of its numbers; their form is
//! [`target_file`]'s.

use gptjc_graphs::plan::Target;
use gptjc_graphs::plan::target_file::{self, TargetFileError};

/// Name and text of each description.
const SHIPPED: [(&str, &str); 3] = [
    ("spr-2s", include_str!("../targets/spr-2s.toml")),
    ("zen4-2c", include_str!("../targets/zen4-2c.toml")),
    ("avx2-2c", include_str!("../targets/avx2-2c.toml")),
];

/// Names of the descriptions.
pub fn names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|&(name, _)| name)
}

/// The description called `name`, if there is one.
///
/// # Errors
/// [`TargetFileError`] if the shipped file does not hold, which is an error of the compiler.
pub fn shipped(name: &str) -> Result<Option<Target>, TargetFileError> {
    let found = SHIPPED.iter().find(|&&(known, _)| known == name);
    found.map(|&(name, text)| target_file::parse(name, text)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_description_is_complete_and_bears_its_name() {
        for name in names() {
            let target = shipped(name).unwrap().unwrap();
            assert_eq!(target.name, name);
            // The team's threads follow from the cores.
            let complete = Target { threads: target.cores, ..target.clone() };
            assert_eq!(target.with_guesses(), complete, "{name} leaves something to guesses");
        }
        assert_eq!(shipped("pdp-11"), Ok(None));
    }
}
