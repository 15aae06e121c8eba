//! A machine made of files is described as it is.

use super::*;

const CPUINFO: &str = "\
processor\t: 0\nmodel name\t: Some CPU\nphysical id\t: 0\ncore id\t: 0\nflags\t: fpu fma avx2 avx512f\n
processor\t: 1\nmodel name\t: Some CPU\nphysical id\t: 0\ncore id\t: 0\nflags\t: fpu fma avx2 avx512f\n
processor\t: 2\nmodel name\t: Some CPU\nphysical id\t: 1\ncore id\t: 0\nflags\t: fpu fma avx2 avx512f\n";

fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, SystemFiles) {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let files = SystemFiles { proc: root.path().join("proc"), sys: root.path().join("sys") };
    (root, files)
}

#[test]
fn a_machine_is_described() {
    let (_root, files) = machine(&[
        ("proc/cpuinfo", CPUINFO),
        ("proc/meminfo", "MemTotal:  2048 kB\nMemFree: 1 kB\nMemAvailable:   1024 kB\n"),
        ("proc/self/status", "Name:\tgptjc\nCpus_allowed:\t7\nCpus_allowed_list:\t0-2\n"),
        ("sys/devices/system/node/node0/cpulist", "0-1"),
        ("sys/devices/system/node/node1/cpulist", "2"),
        ("sys/devices/system/node/online", "0-1"),
        ("sys/devices/system/cpu/cpu0/cache/index1/level", "1\n"),
        ("sys/devices/system/cpu/cpu0/cache/index1/type", "Data\n"),
        ("sys/devices/system/cpu/cpu0/cache/index1/size", "48K\n"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
    ]);
    let found = diagnose(&files);
    assert_eq!(found.cpu.model.as_deref(), Some("Some CPU"));
    assert_eq!(found.cpu.features, ["avx2", "fma", "avx512f"]);
    assert_eq!(found.cpu.missing_features.len(), FEATURES.len() - 3);
    let cores = &found.cores;
    assert_eq!(cores.affinity.as_deref(), Some("0-2"));
    assert_eq!((cores.hardware_threads, cores.physical, cores.sockets), (3, Some(2), Some(2)));
    assert_eq!(cores.numa_nodes, Some(2));
    let huge_pages = Some("madvise".to_owned());
    let memory = Memory { total: Some(2 << 20), available: Some(1 << 20), cgroup_limit: None, huge_pages };
    assert_eq!(found.memory, memory);
    assert_eq!(found.caches, [Cache { level: 1, kind: "Data".into(), size: "48K".into() }]);
    assert!(found.topology.threads() > 0);
}

#[test]
fn a_machine_that_says_nothing_is_no_error() {
    let (_root, files) = machine(&[]);
    let found = diagnose(&files);
    assert_eq!((found.cpu.model, found.cores.numa_nodes, found.memory.total), (None, None, None));
    assert!(found.caches.is_empty() && found.cores.usable > 0);
}

#[test]
fn the_smallest_limit_of_the_groups_around_counts() {
    let (_root, files) = machine(&[
        ("proc/self/cgroup", "0::/pod/box\n"),
        ("sys/fs/cgroup/pod/memory.max", "4096\n"),
        ("sys/fs/cgroup/pod/box/memory.max", "max\n"),
    ]);
    assert_eq!(cgroup_memory_limit(&files), Some(4096));
    let (_root, files) = machine(&[
        ("proc/self/cgroup", "5:cpu:/a\n4:memory:/a/b\n"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "8192\n"),
        ("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "16384\n"),
    ]);
    assert_eq!(cgroup_memory_limit(&files), Some(8192));
}

#[test]
fn the_free_column_of_df_is_read() {
    let text = "Filesystem 1024-blocks Used Available Capacity Mounted on\nmy disk 100 60 40 60% /a b\n";
    assert_eq!(parse_df(text), Some(40 << 10));
    assert_eq!(parse_df(""), None);
    assert_eq!(parse_df("Filesystem\n- - -\n"), None);
}
