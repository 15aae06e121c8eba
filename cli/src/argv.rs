//! The command line as typed, made into what clap takes.
//!
//! Does: write the underscores of flag names as dashes (`--lora_alpha` is `--lora-alpha`), and drop the comma that the
//! reference workflow's README has after a flag (`--dataset_config_name, "mnli"`).
//! Does not: touch values, also not those behind `=`, nor anything after a bare `--`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What clap gets, and what the user should know about the difference.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Normalised {
    /// The arguments, the program's name included.
    pub(crate) arguments: Vec<OsString>,
    /// One sentence for each argument that was not just respelt.
    pub(crate) warnings: Vec<String>,
}

/// Normalises the names of flags.
pub(crate) fn normalise(arguments: impl IntoIterator<Item = OsString>) -> Normalised {
    let mut normalised = Normalised::default();
    let mut only_values = false;
    for argument in arguments {
        only_values |= argument == "--";
        let argument = if only_values { argument } else { flag(argument, &mut normalised.warnings) };
        normalised.arguments.push(argument);
    }
    normalised
}

/// `argument` with its name normalised, if it is a long flag.
fn flag(argument: OsString, warnings: &mut Vec<String>) -> OsString {
    let bytes = argument.as_bytes();
    if !bytes.starts_with(b"--") {
        return argument;
    }
    let name_end = bytes.iter().position(|&byte| byte == b'=').unwrap_or(bytes.len());
    let (typed, value) = bytes.split_at(name_end);
    let mut name: Vec<u8> = typed.iter().map(|&byte| if byte == b'_' { b'-' } else { byte }).collect();
    if name.len() > 3 && name.ends_with(b",") {
        name.pop();
        let typed = OsStr::from_bytes(typed).to_string_lossy();
        warnings.push(format!(
            "`{typed}` is read as `{}`: a comma is no part of a flag",
            &typed[..typed.len() - 1]
        ));
    }
    name.extend_from_slice(value);
    OsString::from_vec(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(typed: &[&str], expected: &[&str], warnings: usize) {
        let normalised = normalise(typed.iter().map(OsString::from));
        assert_eq!(normalised.arguments, expected.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(normalised.warnings.len(), warnings, "{:?}", normalised.warnings);
    }

    #[test]
    fn underscores_of_names_become_dashes() {
        check(&["gptjc", "--lora_alpha", "54"], &["gptjc", "--lora-alpha", "54"], 0);
        check(&["--lora_alpha=5_4"], &["--lora-alpha=5_4"], 0);
        check(&["--lora-alpha", "54", "-o", "a_b"], &["--lora-alpha", "54", "-o", "a_b"], 0);
    }

    #[test]
    fn values_stay_as_they_are() {
        check(&["--output_dir", "./gptj_peft_model"], &["--output-dir", "./gptj_peft_model"], 0);
        check(
            &["--lora_target_modules", "q_proj", "v_proj"],
            &["--lora-target-modules", "q_proj", "v_proj"],
            0,
        );
        check(&["--output_dir=a_b=c_d"], &["--output-dir=a_b=c_d"], 0);
        check(&["--", "--a_b"], &["--", "--a_b"], 0);
    }

    #[test]
    fn the_comma_of_the_readme_is_dropped_with_a_warning() {
        check(&["--dataset_config_name,", "mnli"], &["--dataset-config-name", "mnli"], 1);
        check(&["--lora_target_modules", "q_proj,"], &["--lora-target-modules", "q_proj,"], 0);
        let warnings = normalise(["--dataset_config_name,".into()]).warnings;
        assert_eq!(
            warnings,
            ["`--dataset_config_name,` is read as `--dataset_config_name`: a comma is no part of a flag"]
        );
    }

    #[test]
    fn bytes_that_are_no_text_stay() {
        let typed = OsString::from_vec(b"--output_dir=\xff_".to_vec());
        let normalised = normalise([typed]);
        assert_eq!(normalised.arguments, [OsString::from_vec(b"--output-dir=\xff_".to_vec())]);
    }
}
