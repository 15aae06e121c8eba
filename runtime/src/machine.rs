//! The machine that this process runs on, as a compile target.
//!
//! Cores are the physical ones of the inherited affinity mask, within the control group's CPU quota; memory is the smaller of the machine's and the control group's
//! limit; peaks and bandwidths are those that `gptjc bench machine` measured and left in the user's cache directory. What
//! cannot be read is replaced by a modest guess: it moves tiles and budgets, never results.

use crate::diagnosis::{SystemFiles, cgroup_memory_limit, diagnose};
use crate::hex::hex;
use crate::isa;
use crate::topology::Topology;
use gptjc_graphs::plan::Target;
use gptjc_graphs::plan::target_file::{self, TargetFileError};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Describes this machine, with what was measured on it; a file of measurements that cannot be read counts as none.
pub fn host() -> Target {
    on(&Topology::host())
}

/// As [`host`], with the cores, sockets and NUMA nodes of `topology`, which may be pretended.
pub fn on(topology: &Topology) -> Target {
    let target = unmeasured(topology);
    match measurements_file() {
        Some(file) => with_measurements(&file, target.clone()).unwrap_or(target),
        None => target,
    }
}

/// Where the measurements of this machine are kept: `machine-HASH.toml` in `$XDG_CACHE_HOME/gptjc` or `~/.cache/gptjc`,
/// with a hash of the processor's name, its features and the number of cores that may be used. None without a home.
///
/// The file is a [machine description](target_file) with the keys `peak_f32`, `peak_bf16`, `memory_bandwidth` and
/// `disk_bandwidth`, or some of them.
pub fn measurements_file() -> Option<PathBuf> {
    let directory = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = directory("XDG_CACHE_HOME").or_else(|| Some(directory("HOME")?.join(".cache")))?;
    Some(cache.join("gptjc").join(format!("machine-{}.toml", cpu_hash())))
}

/// `target` with the measurements in `file`; as it was if there is no such file.
///
/// # Errors
/// [`TargetFileError`] if the file is there and is no machine description.
pub fn with_measurements(file: &Path, target: Target) -> Result<Target, TargetFileError> {
    let Ok(text) = std::fs::read_to_string(file) else { return Ok(target) };
    let measured = target_file::overlay(&file.display().to_string(), &text, Target::default())?;
    let known = |measured: f64, before: f64| if measured > 0.0 { measured } else { before };
    Ok(Target {
        peak_f32: known(measured.peak_f32, target.peak_f32),
        peak_bf16: known(measured.peak_bf16, target.peak_bf16),
        memory_bandwidth: known(measured.memory_bandwidth, target.memory_bandwidth),
        disk_bandwidth: known(measured.disk_bandwidth, target.disk_bandwidth),
        ..target
    })
}

/// Tells processors apart.
fn cpu_hash() -> String {
    let found = diagnose(&SystemFiles::default());
    let mut hash = Sha256::new();
    hash.update(found.cpu.model.unwrap_or_default());
    hash.update(found.cpu.features.join(" "));
    hash.update(found.cores.usable.to_le_bytes());
    hex(&hash.finalize()[..6])
}

/// What the system says of this machine.
fn unmeasured(topology: &Topology) -> Target {
    let (sockets, threads) = (topology.sockets().max(1), topology.threads() as u32);
    Target {
        name: "host".to_owned(),
        isa: isa::best().name().to_owned(),
        cores: threads,
        sockets: sockets as u32,
        numa_nodes_per_socket: (topology.numa_nodes() / sockets).max(1) as u32,
        threads,
        l1d_bytes: topology.cache_bytes(1).unwrap_or(32 << 10),
        l2_bytes: topology.cache_bytes(2).unwrap_or(512 << 10),
        l3_bytes: topology.socket_cache_bytes(3).unwrap_or(8 << 20),
        memory_bytes: memory_bytes().unwrap_or(8 << 30),
        ..Target::default()
    }
}

/// Bytes of memory that this process may use.
fn memory_bytes() -> Option<u64> {
    let total = parse_meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
    let limit = cgroup_memory_limit(&SystemFiles::default());
    Some(limit.map_or(total, |limit| limit.min(total)))
}

fn parse_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_meminfo("MemFree: 1 kB\nMemTotal:       1024 kB\n"), Some(1 << 20));
    }

    #[test]
    fn measurements_are_read_and_nothing_else_of_their_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("machine.toml");
        let target = Target { cores: 2, ..Target::default() };
        assert_eq!(with_measurements(&file, target.clone()), Ok(target.clone()));
        std::fs::write(&file, "cores_per_socket = 8\npeak_f32 = 9e10\ndisk_bandwidth = 2e9\n").unwrap();
        let measured = Target { peak_f32: 9e10, disk_bandwidth: 2e9, ..target.clone() };
        assert_eq!(with_measurements(&file, target.clone()), Ok(measured));
        std::fs::write(&file, "peak = 1").unwrap();
        let error = with_measurements(&file, target).unwrap_err().to_string();
        assert!(error.contains("machine.toml`: key `peak` is unknown"), "{error}");
    }

    #[test]
    fn the_host_has_cores_caches_and_memory() {
        let target = host();
        assert!(target.cores > 0 && target.l2_bytes > 0 && target.memory_bytes > 0, "{target:?}");
    }
}
