//! The machine that this process runs on, as a compile target.
//!
//! Cores are those of the inherited affinity mask; memory is the smaller of the machine's and the control group's
//! limit. What cannot be read is replaced by a modest guess: it moves tiles and budgets, never results.

use crate::diagnosis::{SystemFiles, cgroup_memory_limit, diagnose};
use gptjc_graphs::plan::Target;
use std::path::Path;

/// Describes this machine.
pub fn host() -> Target {
    let counted = diagnose(&SystemFiles::default()).cores;
    let sockets = counted.sockets.unwrap_or(1).max(1) as u32;
    // Threads beyond the physical cores would share one.
    let cores =
        counted.physical.map_or(counted.usable, |physical| physical.min(counted.usable)).max(1) as u32;
    Target {
        name: "host".to_owned(),
        isa: "portable".to_owned(),
        cores,
        sockets,
        numa_nodes_per_socket: (counted.numa_nodes.unwrap_or(1) as u32 / sockets).max(1),
        threads: cores,
        l1d_bytes: cache_bytes(1).unwrap_or(32 << 10),
        l2_bytes: cache_bytes(2).unwrap_or(512 << 10),
        l3_bytes: cache_bytes(3).unwrap_or(8 << 20),
        memory_bytes: memory_bytes().unwrap_or(8 << 30),
        ..Target::default()
    }
}

/// Bytes of the first core's data or unified cache of this level.
fn cache_bytes(level: u32) -> Option<u64> {
    let caches = Path::new("/sys/devices/system/cpu/cpu0/cache");
    for entry in std::fs::read_dir(caches).ok()?.flatten() {
        let read = |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        if read("level").trim() == level.to_string() && read("type").trim() != "Instruction" {
            return parse_size(read("size").trim());
        }
    }
    None
}

/// `32K`, `2M` or plain bytes.
fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.strip_suffix(['K', 'k']) {
        Some(digits) => (digits, 10),
        None => match text.strip_suffix('M') {
            Some(digits) => (digits, 20),
            None => (text, 0),
        },
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
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
        assert_eq!(parse_size("32K"), Some(32 << 10));
        assert_eq!(parse_size("2M"), Some(2 << 20));
        assert_eq!(parse_size("4096"), Some(4096));
        assert_eq!(parse_size(""), None);
        assert_eq!(parse_meminfo("MemFree: 1 kB\nMemTotal:       1024 kB\n"), Some(1 << 20));
    }

    #[test]
    fn the_host_has_cores_caches_and_memory() {
        let target = host();
        assert!(target.cores > 0 && target.l2_bytes > 0 && target.memory_bytes > 0, "{target:?}");
    }
}
