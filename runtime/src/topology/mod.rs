//! Sockets, NUMA nodes, cores and caches that this process may use, and where the threads of a team go.
//!
//! Read from a `/sys` tree within an affinity mask: a core counts if one of its hardware threads is online and in the
//! mask, and one thread runs on it (two threads that share a core share its vector units, so the second brings nothing to
//! matrix products). What a tree does not say is guessed modestly: a CPU without topology is a core of its own on socket
//! 0 and node 0.
//!
//! Does not: change results. They depend on neither threads nor sockets, so a topology may be pretended.

mod affinity;
mod pretended;
mod quota;
mod sys;
#[cfg(test)]
mod tests;

pub use affinity::{BoundThread, CpuMask, allowed};
pub use pretended::Pretended;

use crate::diagnosis::SystemFiles;
use serde::Serialize;

/// A physical core that this process may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Core {
    /// The hardware thread that a thread of the team runs on: the first that is allowed.
    pub cpu: usize,
    /// All its hardware threads that are allowed, ascending.
    pub siblings: Vec<usize>,
    /// Number of its socket.
    pub socket: usize,
    /// Number of its NUMA node.
    pub node: usize,
}

/// A data or unified cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// 1, 2 or 3.
    pub level: u32,
    /// Bytes.
    pub bytes: u64,
    /// Hardware threads that share it, whether they are allowed or not, ascending.
    pub cpus: Vec<usize>,
}

/// Where this process may compute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Topology {
    /// Cores by socket, NUMA node and number; at least one.
    pub cores: Vec<Core>,
    /// Caches of those cores, each once.
    pub caches: Vec<Cache>,
    /// Hardware threads of CPU time that the control group grants, if it limits them.
    pub quota: Option<usize>,
    /// True if it was made up for a test: threads are then not bound to cores.
    pub pretended: bool,
}

/// Cores that share a socket and a NUMA node: tiles are claimed inside a domain first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Number of its socket.
    pub socket: usize,
    /// Number of its NUMA node.
    pub node: usize,
    /// Threads of the team in it; at least one.
    pub threads: usize,
}

/// Where a thread of a team runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of its domain.
    pub domain: usize,
    /// Hardware threads that it is bound to; none if it is not bound.
    pub cpus: Vec<usize>,
}

/// Where the threads of a team run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Domains that have a thread.
    pub domains: Vec<Domain>,
    /// A place for each thread; the first is that of the thread that starts a run.
    pub places: Vec<Place>,
}

impl Placement {
    /// Numbers of the NUMA nodes that have a thread, in the order of the domains.
    pub fn nodes(&self) -> Vec<usize> {
        let mut nodes: Vec<usize> = Vec::new();
        for domain in &self.domains {
            if !nodes.contains(&domain.node) {
                nodes.push(domain.node);
            }
        }
        nodes
    }

    /// Which of [`nodes`](Self::nodes) thread `thread` runs on.
    pub fn node_of(&self, thread: usize) -> usize {
        let node = self.domains[self.places[thread].domain].node;
        self.nodes().iter().position(|&other| other == node).unwrap_or(0)
    }
}

impl Topology {
    /// That of this machine, within the affinity mask of the calling thread and the CPU quota of its control group.
    pub fn host() -> Self {
        Self::read(&SystemFiles::default(), &allowed())
    }

    /// That of the machine that `files` describe, within the hardware threads `mask`.
    pub fn read(files: &SystemFiles, mask: &[usize]) -> Self {
        let (cores, caches) = sys::read(&files.sys, mask);
        Self { cores, caches, quota: quota::cpus(files), pretended: false }
    }

    /// Number of sockets with a usable core.
    pub fn sockets(&self) -> usize {
        distinct(self.cores.iter().map(|core| core.socket))
    }

    /// Number of NUMA nodes with a usable core.
    pub fn numa_nodes(&self) -> usize {
        distinct(self.cores.iter().map(|core| core.node))
    }

    /// Threads of a team, unless another number is asked for: one a core, and no more than the control group lets run
    /// at a time (a team that is throttled waits at its next barrier).
    pub fn threads(&self) -> usize {
        self.quota.unwrap_or(usize::MAX).clamp(1, self.cores.len().max(1))
    }

    /// Bytes of a data or unified cache of this level of the first core.
    pub fn cache_bytes(&self, level: u32) -> Option<u64> {
        let cpu = self.cores.first()?.cpu;
        self.caches.iter().find(|cache| cache.level == level && cache.cpus.contains(&cpu)).map(|c| c.bytes)
    }

    /// Bytes of all caches of this level of the first core's socket.
    pub fn socket_cache_bytes(&self, level: u32) -> Option<u64> {
        let socket = self.cores.first()?.socket;
        let of_socket = |cache: &&Cache| {
            cache.level == level
                && self.cores.iter().any(|core| core.socket == socket && cache.cpus.contains(&core.cpu))
        };
        let bytes: u64 = self.caches.iter().filter(of_socket).map(|cache| cache.bytes).sum();
        (bytes > 0).then_some(bytes)
    }

    /// Places for a team of `threads` threads (at least one), socket by socket.
    ///
    /// A team that takes every core is bound one thread a core. A smaller one is bound to its domains only, so that the
    /// system can move it from a core that another process wants; a larger one is not bound.
    pub fn place(&self, threads: usize) -> Placement {
        let mut domains: Vec<Domain> = Vec::new();
        let mut places = Vec::with_capacity(threads.max(1));
        for core in self.cores.iter().cycle().take(threads.max(1)) {
            let same = |domain: &Domain| (domain.socket, domain.node) == (core.socket, core.node);
            let domain = domains.iter().position(same).unwrap_or_else(|| {
                domains.push(Domain { socket: core.socket, node: core.node, threads: 0 });
                domains.len() - 1
            });
            domains[domain].threads += 1;
            places.push(Place { domain, cpus: self.cpus_for(core, threads) });
        }
        Placement { domains, places }
    }

    /// Hardware threads for a thread on `core` in a team of `threads`.
    fn cpus_for(&self, core: &Core, threads: usize) -> Vec<usize> {
        if self.pretended || threads > self.cores.len() {
            return Vec::new();
        }
        if threads == self.cores.len() {
            return vec![core.cpu];
        }
        let domain = |other: &&Core| (other.socket, other.node) == (core.socket, core.node);
        if self.cores.iter().all(|other| domain(&other)) {
            return Vec::new(); // one domain: all that is allowed
        }
        self.cores.iter().filter(domain).flat_map(|other| other.siblings.iter().copied()).collect()
    }
}

fn distinct(numbers: impl Iterator<Item = usize>) -> usize {
    numbers.collect::<std::collections::BTreeSet<_>>().len()
}
