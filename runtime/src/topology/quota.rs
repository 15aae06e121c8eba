//! How much CPU time the control groups grant.

use crate::diagnosis::SystemFiles;
use std::fs;
use std::path::{Path, PathBuf};

/// Hardware threads that may run at a time without being throttled: the smallest quota of this process's control group
/// and of those around it, rounded down, at least 1. None if no group limits it.
pub(super) fn cpus(files: &SystemFiles) -> Option<usize> {
    let memberships = read(&files.proc.join("self/cgroup"));
    let root = files.sys.join("fs/cgroup");
    let mut shares: Vec<f64> = Vec::new();
    for line in memberships.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let group = Path::new(group.trim_start_matches('/'));
        let (base, share): (PathBuf, fn(&Path) -> Option<f64>) = match controllers {
            "" => (root.clone(), share_v2),
            names if names.split(',').any(|name| name == "cpu") => {
                let joined = root.join(names); // mounted as `cpu,cpuacct`, with or without a link `cpu`
                (if joined.exists() { joined } else { root.join("cpu") }, share_v1)
            }
            _ => continue,
        };
        shares.extend(group.ancestors().filter_map(|group| share(&base.join(group))));
    }
    shares.into_iter().min_by(f64::total_cmp).map(|share| share.max(1.0) as usize)
}

/// `max 100000` or `150000 100000`: microseconds of CPU time in a period.
fn share_v2(folder: &Path) -> Option<f64> {
    let text = read(&folder.join("cpu.max"));
    let (quota, period) = text.trim().split_once(' ')?;
    ratio(quota, period)
}

fn share_v1(folder: &Path) -> Option<f64> {
    ratio(read(&folder.join("cpu.cfs_quota_us")).trim(), read(&folder.join("cpu.cfs_period_us")).trim())
}

/// None for "no limit", which is `max` or -1.
fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
