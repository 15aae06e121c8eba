//! Where a rank runs: which others share its host and its cores, so that each plans for its share.

use super::{Ranks, RanksError};
use crate::topology;
use gptjc_graphs::plan::Target;

/// Where a rank runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Name of its host.
    pub host: String,
    /// Ranks on that host, this one included: memory is shared out among them.
    pub on_host: usize,
    /// Of these, ranks that may run on one of its cores, this one included: cores are shared out among them.
    pub on_cores: usize,
}

impl Seat {
    /// That of this process among `ranks`.
    ///
    /// # Errors
    /// [`RanksError`] if a rank does not answer.
    pub fn find(ranks: &Ranks) -> Result<Self, RanksError> {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let cpus: Vec<String> = topology::allowed().iter().map(ToString::to_string).collect();
        let own = format!("{}\n{}", name.trim(), cpus.join(","));
        let all = ranks.gather(own.into_bytes())?;
        let all: Vec<String> = all.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        Ok(Self::among(&all, ranks.rank()))
    }

    /// That of rank `rank`; each has a line with its host and one with its cores.
    fn among(all: &[String], rank: usize) -> Self {
        let parts = |line: &String| {
            let (host, cpus) = line.split_once('\n').unwrap_or((line, ""));
            (host.to_owned(), cpus.split(',').map(str::to_owned).collect::<Vec<_>>())
        };
        let seats: Vec<(String, Vec<String>)> = all.iter().map(parts).collect();
        let Some((host, cpus)) = seats.get(rank).cloned() else {
            return Self { host: String::new(), on_host: 1, on_cores: 1 };
        };
        let neighbours = || seats.iter().filter(|(other, _)| *other == host);
        let on_cores = neighbours().filter(|(_, other)| other.iter().any(|cpu| cpus.contains(cpu))).count();
        Self { on_host: neighbours().count(), on_cores, host }
    }

    /// Threads of this rank, of `threads` that its cores would run.
    pub fn threads(&self, threads: usize) -> usize {
        (threads / self.on_cores.max(1)).max(1)
    }

    /// This rank's share of the machine that it runs on.
    pub fn share_of(&self, host: Target) -> Target {
        let share = |count: u32| self.threads(count as usize) as u32;
        Target {
            cores: share(host.cores),
            threads: share(host.threads),
            memory_bytes: host.memory_bytes / self.on_host.max(1) as u64,
            ..host
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_share_what_they_have_in_common() {
        let all = ["a\n0,1", "a\n2,3", "b\n0,1,2,3", "b\n0,1,2,3"].map(str::to_owned);
        let seats: Vec<Seat> = (0..4).map(|rank| Seat::among(&all, rank)).collect();
        assert_eq!(seats[1], Seat { host: "a".to_owned(), on_host: 2, on_cores: 1 });
        assert_eq!(seats[3], Seat { host: "b".to_owned(), on_host: 2, on_cores: 2 });
        let host = Target { cores: 4, threads: 4, memory_bytes: 1 << 30, ..Target::default() };
        let share = seats[3].share_of(host.clone());
        assert_eq!((share.cores, share.threads, share.memory_bytes), (2, 2, 1 << 29));
        assert_eq!(seats[1].share_of(host).cores, 4);
        assert_eq!(Seat { on_cores: 9, ..seats[3].clone() }.threads(4), 1);
    }

    #[test]
    fn alone_all_is_ones_own() {
        let seat = Seat::find(&Ranks::alone()).unwrap();
        assert_eq!((seat.on_host, seat.on_cores), (1, 1));
    }
}
