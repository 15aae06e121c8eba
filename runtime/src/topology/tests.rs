//! Machines made of files, and where teams go on them.

use super::sys::{parse_list, parse_size};
use super::*;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A machine of `sockets` × `cores` × `threads`, numbered as Linux numbers them: first thread of every core, then the
/// second. Every socket has `nodes` NUMA nodes.
struct Made {
    root: TempDir,
    cpus: usize,
}

impl Made {
    fn new(sockets: usize, cores: usize, threads: usize, nodes: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        let all = sockets * cores;
        let made = Self { root, cpus: all * threads };
        let mut node_lists = vec![Vec::new(); sockets * nodes];
        for cpu in 0..made.cpus {
            let core = cpu % all;
            let siblings: Vec<String> =
                (0..threads).map(|thread| (core + thread * all).to_string()).collect();
            let (socket, inside) = (core / cores, core % cores);
            let folder = format!("sys/devices/system/cpu/cpu{cpu}");
            made.write(&format!("{folder}/topology/physical_package_id"), &format!("{socket}\n"));
            made.write(&format!("{folder}/topology/core_id"), &format!("{inside}\n"));
            made.write(&format!("{folder}/topology/core_cpus_list"), &format!("{}\n", siblings.join(",")));
            let first = socket * cores;
            let l3: Vec<String> = (0..threads)
                .map(|thread| format!("{}-{}", first + thread * all, first + thread * all + cores - 1))
                .collect();
            for (index, level, kind, size, shared) in [
                (0, 1, "Data", "48K", siblings.join(",")),
                (1, 1, "Instruction", "32K", siblings.join(",")),
                (2, 2, "Unified", "2048K", siblings.join(",")),
                (3, 3, "Unified", "105M", l3.join(",")),
            ] {
                let folder = format!("{folder}/cache/index{index}");
                made.write(&format!("{folder}/level"), &format!("{level}\n"));
                made.write(&format!("{folder}/type"), kind);
                made.write(&format!("{folder}/size"), size);
                made.write(&format!("{folder}/shared_cpu_list"), &shared);
            }
            node_lists[socket * nodes + inside * nodes / cores].push(cpu.to_string());
        }
        for (node, list) in node_lists.iter().enumerate() {
            made.write(&format!("sys/devices/system/node/node{node}/cpulist"), &list.join(","));
        }
        made.write("sys/devices/system/node/possible", "0\n"); // no node, whatever its name begins with
        made.write("sys/devices/system/cpu/online", &format!("0-{}\n", made.cpus - 1));
        made
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn files(&self) -> SystemFiles {
        SystemFiles { proc: self.root.path().join("proc"), sys: self.root.path().join("sys") }
    }

    fn topology(&self) -> Topology {
        self.within(&(0..self.cpus).collect::<Vec<_>>())
    }

    fn within(&self, mask: &[usize]) -> Topology {
        Topology::read(&self.files(), mask)
    }
}

fn bound(placement: &Placement) -> Vec<Vec<usize>> {
    placement.places.iter().map(|place| place.cpus.clone()).collect()
}

#[test]
fn one_socket_of_two_cores() {
    let topology = Made::new(1, 2, 1, 1).topology();
    assert_eq!((topology.sockets(), topology.numa_nodes(), topology.threads()), (1, 1, 2));
    assert_eq!(topology.cache_bytes(1), Some(48 << 10));
    assert_eq!(topology.cache_bytes(2), Some(2 << 20));
    assert_eq!(topology.socket_cache_bytes(3), Some(105 << 20));
    assert_eq!(topology.cache_bytes(4), None);
    assert_eq!(bound(&topology.place(2)), [[0], [1]]);
    let none = Vec::<usize>::new();
    assert_eq!(bound(&topology.place(1)), vec![none.clone()], "a smaller team may be moved");
    assert_eq!(bound(&topology.place(3)), vec![none; 3], "a larger team is not bound");
    assert_eq!(topology.place(0).places.len(), 1);
}

#[test]
fn two_sockets_with_two_threads_a_core_run_one_thread_a_core() {
    let topology = Made::new(2, 28, 2, 1).topology();
    assert_eq!((topology.sockets(), topology.numa_nodes(), topology.threads()), (2, 2, 56));
    assert_eq!(topology.cores[30], Core { cpu: 30, siblings: vec![30, 86], socket: 1, node: 1 });
    assert_eq!(topology.caches.iter().filter(|cache| cache.level == 3).count(), 2);
    assert_eq!(topology.socket_cache_bytes(3), Some(105 << 20));
    assert_eq!(topology.socket_cache_bytes(2), Some(28 * (2 << 20)));
    let placement = topology.place(56);
    assert_eq!(bound(&placement), (0..56).map(|cpu| vec![cpu]).collect::<Vec<_>>());
    let domain = |socket, threads| Domain { socket, node: socket, threads };
    assert_eq!(placement.domains, [domain(0, 28), domain(1, 28)]);
    let smaller = topology.place(30);
    assert_eq!(smaller.domains, [domain(0, 28), domain(1, 2)]);
    let second: Vec<usize> = (28..56).flat_map(|cpu| [cpu, cpu + 56]).collect();
    assert_eq!(smaller.places[29], Place { domain: 1, cpus: second });
}

#[test]
fn nodes_inside_of_a_socket_are_domains_of_their_own() {
    let topology = Made::new(2, 4, 2, 2).topology();
    assert_eq!((topology.sockets(), topology.numa_nodes(), topology.threads()), (2, 4, 8));
    let places: Vec<usize> = topology.place(8).places.iter().map(|place| place.domain).collect();
    assert_eq!(places, [0, 0, 1, 1, 2, 2, 3, 3]);
    let sockets: Vec<usize> = topology.place(8).domains.iter().map(|domain| domain.socket).collect();
    assert_eq!(sockets, [0, 0, 1, 1]);
}

#[test]
fn only_the_mask_counts() {
    let made = Made::new(2, 4, 2, 1);
    // Of core 1 only the second thread, of core 4 both, of core 7 only the first.
    let topology = made.within(&[9, 4, 12, 7]);
    let core =
        |cpu, siblings: &[usize], socket| Core { cpu, siblings: siblings.to_vec(), socket, node: socket };
    assert_eq!(topology.cores, [core(9, &[9], 0), core(4, &[4, 12], 1), core(7, &[7], 1)]);
    assert_eq!(bound(&topology.place(topology.threads())), [[9], [4], [7]]);
    assert_eq!(made.within(&[3]).sockets(), 1);
}

#[test]
fn cpus_that_are_offline_do_not_count() {
    let made = Made::new(1, 4, 2, 1);
    made.write("sys/devices/system/cpu/online", "0-1,3-5,7\n");
    let topology = made.topology();
    let cpus: Vec<&[usize]> = topology.cores.iter().map(|core| core.siblings.as_slice()).collect();
    assert_eq!(cpus, [&[0, 4][..], &[1, 5], &[3, 7]]);
    // A mask of which nothing is online.
    assert_eq!(made.within(&[2, 6]).threads(), 1);
}

#[test]
fn files_that_are_missing_make_cores_of_one_socket() {
    let empty = tempfile::tempdir().unwrap();
    let files = SystemFiles { proc: empty.path().into(), sys: empty.path().into() };
    let topology = Topology::read(&files, &[2, 5]);
    let core = |cpu| Core { cpu, siblings: vec![cpu], socket: 0, node: 0 };
    assert_eq!(topology.cores, [core(2), core(5)]);
    assert_eq!((topology.threads(), topology.quota, topology.cache_bytes(1)), (2, None, None));
    assert_eq!(Topology::read(&files, &[]).threads(), 1);
    let made = Made::new(1, 2, 2, 1);
    for cpu in 0..4 {
        let folder = made.root.path().join(format!("sys/devices/system/cpu/cpu{cpu}/topology"));
        fs::write(folder.join("physical_package_id"), "-1\n").unwrap();
        fs::rename(folder.join("core_cpus_list"), folder.join("thread_siblings_list")).unwrap();
    }
    assert_eq!(made.topology().threads(), 2, "the old name of the list, and a socket without a number");
}

#[test]
fn a_quota_of_cpu_time_bounds_the_threads() {
    let threads = |groups: &str, files: &[(&str, &str)]| {
        let made = Made::new(1, 8, 1, 1);
        made.write("proc/self/cgroup", groups);
        for (path, text) in files {
            made.write(&format!("sys/fs/cgroup/{path}"), text);
        }
        made.topology().threads()
    };
    assert_eq!(threads("0::/a/b\n", &[("a/cpu.max", "350000 100000\n"), ("a/b/cpu.max", "max 100000\n")]), 3);
    assert_eq!(threads("0::/a\n", &[("a/cpu.max", "50000 100000\n")]), 1);
    assert_eq!(threads("0::/a\n", &[("a/cpu.max", "9900000 100000\n")]), 8);
    assert_eq!(threads("0::/\n", &[("cpu.max", "200000 100000\n")]), 2);
    let v1 = [("cpu/a/cpu.cfs_quota_us", "200000\n"), ("cpu/a/cpu.cfs_period_us", "100000\n")];
    assert_eq!(threads("4:memory:/x\n3:cpu,cpuacct:/a\n", &v1), 2);
    let v1 = [("cpu,cpuacct/a/cpu.cfs_quota_us", "-1\n"), ("cpu,cpuacct/a/cpu.cfs_period_us", "100000\n")];
    assert_eq!(threads("3:cpu,cpuacct:/a\n", &v1), 8);
}

#[test]
fn a_topology_can_be_pretended() {
    let topology = "2x3".parse::<Pretended>().unwrap().topology();
    assert_eq!((topology.sockets(), topology.numa_nodes(), topology.threads()), (2, 2, 6));
    let placement = topology.place(6);
    assert_eq!(placement.domains.len(), 2);
    assert!(placement.places.iter().all(|place| place.cpus.is_empty()));
    assert_eq!("12x1".parse::<Pretended>().unwrap().to_string(), "12x1");
    for wrong in ["", "2", "0x1", "1x0", "2x", "x", "2x1x1", "257x1", "-1x1"] {
        assert!(wrong.parse::<Pretended>().unwrap_err().contains("such as 2x1"), "{wrong}");
    }
}

#[test]
fn this_machine_has_a_core() {
    let topology = Topology::host();
    assert!(topology.threads() >= 1 && topology.threads() <= topology.cores.len());
    assert!(Path::new("/sys").exists() || topology.caches.is_empty());
}

#[test]
fn lists_and_sizes_are_read() {
    assert_eq!(parse_list("0-2,5\n"), [0, 1, 2, 5]);
    for wrong in ["", "3-1", "a-b"] {
        assert!(parse_list(wrong).is_empty(), "{wrong}");
    }
    let sizes = ["32K", "2M", "4096", "", "99999999999M"].map(parse_size);
    assert_eq!(sizes, [Some(32 << 10), Some(2 << 20), Some(4096), None, Some(99999999999 << 20)]);
}
