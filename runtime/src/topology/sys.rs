//! Cores and caches out of a `/sys` tree.

use super::{Cache, Core};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Cores of the hardware threads that are online and in `mask`, and their caches.
pub(super) fn read(sys: &Path, mask: &[usize]) -> (Vec<Core>, Vec<Cache>) {
    let folder = sys.join("devices/system/cpu");
    let online = parse_list(&text(&folder.join("online")));
    let usable = |cpu: &usize| online.is_empty() || online.contains(cpu);
    let mut cpus: Vec<usize> = mask.iter().copied().filter(usable).collect();
    if cpus.is_empty() {
        cpus.push(mask.first().copied().unwrap_or(0)); // a tree that contradicts the mask: this thread runs somewhere
    }
    cpus.sort_unstable();
    cpus.dedup();
    let nodes = nodes(&sys.join("devices/system/node"));
    let mut cores: BTreeMap<(usize, usize, usize), Core> = BTreeMap::new();
    let mut caches: Vec<Cache> = Vec::new();
    for cpu in cpus {
        let folder = folder.join(format!("cpu{cpu}"));
        let socket = number(&folder.join("topology/physical_package_id")).unwrap_or(0);
        let node = nodes.iter().find(|(_, cpus)| cpus.contains(&cpu)).map_or(0, |(node, _)| *node);
        // A core is known by its first hardware thread, allowed or not: numbers of cores repeat from socket to socket.
        let first = siblings(&folder.join("topology")).first().copied().unwrap_or(cpu);
        let core = cores.entry((socket, node, first));
        core.or_insert_with(|| Core { cpu, siblings: Vec::new(), socket, node }).siblings.push(cpu);
        for cache in read_caches(&folder.join("cache"), cpu) {
            if !caches.contains(&cache) {
                caches.push(cache);
            }
        }
    }
    (cores.into_values().collect(), caches)
}

/// Hardware threads of the core, under the file's new or old name.
fn siblings(topology: &Path) -> Vec<usize> {
    let new = parse_list(&text(&topology.join("core_cpus_list")));
    if new.is_empty() { parse_list(&text(&topology.join("thread_siblings_list"))) } else { new }
}

/// NUMA nodes and their hardware threads, by number.
fn nodes(folder: &Path) -> Vec<(usize, Vec<usize>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let node = |entry: fs::DirEntry| {
        let node = entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()?;
        Some((node, parse_list(&text(&entry.path().join("cpulist")))))
    };
    let mut nodes: Vec<_> = entries.flatten().filter_map(node).collect();
    nodes.sort_unstable();
    nodes
}

fn read_caches(folder: &Path, cpu: usize) -> Vec<Cache> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let cache = |entry: fs::DirEntry| {
        let of = |name: &str| text(&entry.path().join(name));
        if of("type").trim() == "Instruction" {
            return None;
        }
        let mut cpus = parse_list(&of("shared_cpu_list"));
        if cpus.is_empty() {
            cpus.push(cpu);
        }
        Some(Cache { level: of("level").trim().parse().ok()?, bytes: parse_size(of("size").trim())?, cpus })
    };
    let mut caches: Vec<Cache> = entries.flatten().filter_map(cache).collect();
    caches.sort_unstable_by_key(|cache| cache.level);
    caches
}

/// `32K`, `2M` or plain bytes.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.strip_suffix(['K', 'k']) {
        Some(digits) => (digits, 10),
        None => match text.strip_suffix('M') {
            Some(digits) => (digits, 20),
            None => (text, 0),
        },
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// `0-3,8` as numbers; what is no list is an empty one.
pub(super) fn parse_list(text: &str) -> Vec<usize> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.parse::<usize>(), last.parse::<usize>()) {
            (Ok(first), Ok(last)) if first <= last && last < 1 << 20 => numbers.extend(first..=last),
            _ => return Vec::new(),
        }
    }
    numbers
}

/// A number of 0 or more; virtual machines write -1 for "unknown".
fn number(path: &Path) -> Option<usize> {
    text(path).trim().parse().ok()
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
