//! Verdicts that are kept: of one CPU and one program.

use super::Report;
use crate::diagnosis::{SystemFiles, diagnose};
use crate::files::FileError;
use crate::files::atomic::write_bytes;
use crate::hex::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::path::Path;

/// Which CPU and which program a verdict is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Name of the processor, its features and its microcode.
    pub cpu: String,
    /// Hash of the program.
    pub program: String,
}

/// What is in the file.
#[derive(Serialize, Deserialize)]
struct Kept {
    identity: Identity,
    report: Report,
}

/// This CPU and this program; an error if the program cannot read itself.
///
/// # Errors
/// What the system said.
pub fn identity() -> io::Result<Identity> {
    let cpu = diagnose(&SystemFiles::default()).cpu;
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let microcode = cpuinfo.lines().find(|line| line.starts_with("microcode")).unwrap_or_default();
    let model = cpu.model.unwrap_or_default();
    let cpu = format!("{model}; {}; {}", cpu.features.join(" "), microcode.replace('\t', " "));
    Ok(Identity { cpu, program: program()? })
}

/// Hash of the program that runs.
///
/// # Errors
/// What the system said if the program cannot read itself.
pub fn program() -> io::Result<String> {
    Ok(hex(&Sha256::digest(fs::read(std::env::current_exe()?)?)))
}

/// The report in `file`, if it is of `identity`.
pub fn load(file: &Path, identity: &Identity) -> Option<Report> {
    let kept: Kept = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    (kept.identity == *identity).then_some(kept.report)
}

/// Keeps `report` in `file`, whose directory is made.
///
/// # Errors
/// [`FileError`] if the file cannot be written.
pub fn save(file: &Path, identity: &Identity, report: &Report) -> Result<(), FileError> {
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent)
            .map_err(|source| FileError::new("create the directory", parent, source))?;
    }
    let kept = Kept { identity: identity.clone(), report: report.clone() };
    let failed = |source: serde_json::Error| FileError::new("write", file, source.into());
    let mut text = serde_json::to_vec_pretty(&kept).map_err(failed)?;
    text.push(b'\n');
    write_bytes(file, &text)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_verdict_is_kept_for_its_cpu_and_program_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cache/self-test.json");
        let own = identity().unwrap();
        assert_eq!(load(&file, &own), None);
        let verdict = Verdict { isa: "avx2".into(), agree: vec!["add-f32-avx2".into()], differ: Vec::new() };
        let report = Report { verdicts: vec![verdict] };
        save(&file, &own, &report).unwrap();
        assert_eq!(load(&file, &own), Some(report));
        assert_eq!(load(&file, &Identity { program: "another".into(), ..own.clone() }), None);
        assert_eq!(load(&file, &Identity { cpu: "another".into(), ..own.clone() }), None);
        fs::write(&file, b"{").unwrap();
        assert_eq!(load(&file, &own), None);
    }
}
