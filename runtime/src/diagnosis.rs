//! What this machine has that matters here, read from the system's own files: for `gptjc doctor`.
//!
//! Does not: decide anything; [`crate::machine`] says what a plan is compiled for. What cannot be read is `None`.

use crate::topology::{self, Topology};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Features of a CPU that kernels could use, as `/proc/cpuinfo` names them.
pub const FEATURES: [&str; 11] = [
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512dq",
    "avx512vl",
    "avx512_bf16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
];

/// Where the system describes itself.
#[derive(Clone, Debug)]
pub struct SystemFiles {
    /// `/proc`
    pub proc: PathBuf,
    /// `/sys`
    pub sys: PathBuf,
}

impl Default for SystemFiles {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into() }
    }
}

/// The processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cpu {
    /// Its name.
    pub model: Option<String>,
    /// Those of [`FEATURES`] that it has.
    pub features: Vec<&'static str>,
    /// Those that it lacks.
    pub missing_features: Vec<&'static str>,
}

/// Who may compute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cores {
    /// Threads that run side by side under affinity mask and control group.
    pub usable: usize,
    /// The affinity mask, such as `0-3,8`.
    pub affinity: Option<String>,
    /// Hardware threads of the machine.
    pub hardware_threads: usize,
    /// Cores of the machine, threads of one core counted once.
    pub physical: Option<usize>,
    /// Sockets.
    pub sockets: Option<usize>,
    /// NUMA nodes.
    pub numa_nodes: Option<usize>,
}

/// Memory, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Of the machine.
    pub total: Option<u64>,
    /// That can be had now without swapping.
    pub available: Option<u64>,
    /// The smallest limit of the control groups that this process is in.
    pub cgroup_limit: Option<u64>,
    /// When the kernel gives transparent huge pages: `always`, `madvise` or `never`.
    pub huge_pages: Option<String>,
}

/// A cache of the first core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// 1, 2 or 3.
    pub level: u32,
    /// `Data`, `Instruction` or `Unified`.
    pub kind: String,
    /// Its size, as the system writes it: `32K`.
    pub size: String,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// The processor.
    pub cpu: Cpu,
    /// Who may compute.
    pub cores: Cores,
    /// Memory.
    pub memory: Memory,
    /// Caches.
    pub caches: Vec<Cache>,
    /// Cores that a team of threads would use.
    pub topology: Topology,
}

/// Looks at the machine.
pub fn diagnose(files: &SystemFiles) -> Diagnosis {
    let cpuinfo = read(&files.proc.join("cpuinfo"));
    Diagnosis {
        cpu: cpu(&cpuinfo),
        cores: cores(files, &cpuinfo),
        memory: memory(files),
        caches: caches(&files.sys.join("devices/system/cpu/cpu0/cache")),
        topology: Topology::read(files, &topology::allowed()),
    }
}

/// Bytes that may still be written where `path` is, or will be; asks `df`.
pub fn free_disk_bytes(path: &Path) -> Option<u64> {
    let path = std::path::absolute(path).ok()?;
    let existing = path.ancestors().find(|path| path.exists())?;
    let output = Command::new("df").arg("-Pk").arg(existing).env("LC_ALL", "C").output().ok()?;
    parse_df(&String::from_utf8_lossy(&output.stdout))
}

/// The column `Available` of `df -Pk`, in bytes. Counted from the percent sign, because device names may hold blanks.
fn parse_df(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.lines().nth(1)?.split_whitespace().collect();
    let used = words.iter().position(|word| word.ends_with('%') && word.len() > 1)?;
    words.get(used.checked_sub(1)?)?.parse::<u64>().ok()?.checked_mul(1024)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Values of the lines `key : value`, in order.
fn values<'t>(text: &'t str, key: &str) -> impl Iterator<Item = &'t str> {
    text.lines().filter_map(move |line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then_some(value.trim())
    })
}

fn cpu(cpuinfo: &str) -> Cpu {
    let flags: Vec<&str> =
        values(cpuinfo, "flags").next().map(|flags| flags.split_whitespace().collect()).unwrap_or_default();
    let (features, missing_features) = FEATURES.iter().partition(|feature| flags.contains(feature));
    Cpu { model: values(cpuinfo, "model name").next().map(str::to_owned), features, missing_features }
}

fn cores(files: &SystemFiles, cpuinfo: &str) -> Cores {
    let mut places: Vec<(&str, &str)> =
        values(cpuinfo, "physical id").zip(values(cpuinfo, "core id")).collect();
    places.sort_unstable();
    places.dedup();
    let mut sockets: Vec<&str> = places.iter().map(|(socket, _)| *socket).collect();
    sockets.dedup();
    let some = |count: usize| (count > 0).then_some(count);
    let is_node = |name: &str| {
        name.strip_prefix("node")
            .is_some_and(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
    };
    let nodes = fs::read_dir(files.sys.join("devices/system/node")).ok();
    let nodes = nodes.map(|entries| {
        entries.flatten().filter(|entry| is_node(&entry.file_name().to_string_lossy())).count()
    });
    let status = read(&files.proc.join("self/status"));
    Cores {
        usable: std::thread::available_parallelism().map_or(1, usize::from),
        affinity: values(&status, "Cpus_allowed_list").next().map(str::to_owned),
        hardware_threads: values(cpuinfo, "processor").count(),
        physical: some(places.len()),
        sockets: some(sockets.len()),
        numa_nodes: nodes.and_then(some),
    }
}

fn memory(files: &SystemFiles) -> Memory {
    let meminfo = read(&files.proc.join("meminfo"));
    let kilobytes = |key: &str| {
        values(&meminfo, key).next()?.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    Memory {
        total: kilobytes("MemTotal"),
        available: kilobytes("MemAvailable"),
        cgroup_limit: cgroup_memory_limit(files),
        huge_pages: chosen(&read(&files.sys.join("kernel/mm/transparent_hugepage/enabled"))),
    }
}

/// The word in brackets of a line of choices, such as `always [madvise] never`.
fn chosen(choices: &str) -> Option<String> {
    let (_, rest) = choices.split_once('[')?;
    rest.split_once(']').map(|(chosen, _)| chosen.to_owned())
}

/// The smallest memory limit of this process's control group and of those around it.
pub fn cgroup_memory_limit(files: &SystemFiles) -> Option<u64> {
    let memberships = read(&files.proc.join("self/cgroup"));
    let root = files.sys.join("fs/cgroup");
    let mut limits = Vec::new();
    for line in memberships.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let (base, file) = match controllers {
            "" => (root.clone(), "memory.max"),
            names if names.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(group.trim_start_matches('/'));
        limits.extend(
            group
                .ancestors()
                .filter_map(|group| read(&base.join(group).join(file)).trim().parse::<u64>().ok()),
        );
    }
    // The first version of control groups writes "no limit" as nearly 2^63.
    limits.into_iter().filter(|&limit| limit < 1 << 62).min()
}

fn caches(folder: &Path) -> Vec<Cache> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let cache = |folder: PathBuf| {
        let text = |name: &str| read(&folder.join(name)).trim().to_owned();
        Some(Cache { level: text("level").parse().ok()?, kind: text("type"), size: text("size") })
    };
    let mut caches: Vec<Cache> = entries.flatten().filter_map(|entry| cache(entry.path())).collect();
    caches.sort_by(|a, b| (a.level, &a.kind).cmp(&(b.level, &b.kind)));
    caches
}

#[cfg(test)]
#[path = "diagnosis_tests.rs"]
mod tests;
