//! Who computes which tile.
//!
//! The rows of a phase are cut into one range for each domain (cores that share a socket and a NUMA node), as long as
//! the domain has threads: rows are the tokens of a micro-batch, window by window, so that every domain computes the same
//! windows in every step and its activations stay in its own memory. A thread claims tiles of its own domain; when they are
//! gone, it helps the domains of its own socket and then the others, and no thread idles while there is work. Results do not
//! depend on it.

use crate::topology::Domain;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counters of an entry point's phases, for one run at a time.
#[derive(Debug)]
pub(super) struct Tiles {
    /// Next tile of each domain's range, domain by domain and in a domain phase by phase, so that the counters of two
    /// domains do not share a cache line.
    counters: Vec<AtomicUsize>,
    /// Counters of a domain.
    stride: usize,
    /// Threads in the domains before each, and at the end all.
    threads: Vec<usize>,
    /// For each domain, in which order it looks for tiles.
    orders: Vec<Vec<usize>>,
}

impl Tiles {
    /// Counters for entry points of up to `phases` phases.
    pub(super) fn new(phases: usize, domains: &[Domain]) -> Self {
        const LINE: usize = 128 / size_of::<AtomicUsize>();
        let stride = phases.next_multiple_of(LINE) + LINE; // two neighbours never share a line, however it is aligned
        let mut threads = vec![0];
        for domain in domains {
            threads.push(threads.last().unwrap_or(&0) + domain.threads);
        }
        let order = |own: usize| {
            let mut order: Vec<usize> = (0..domains.len()).collect();
            order.rotate_left(own); // helpers of different domains do not all begin with the same
            order.sort_by_key(|&other| (other != own, domains[other].socket != domains[own].socket));
            order
        };
        Self {
            counters: (0..stride * domains.len()).map(|_| AtomicUsize::new(0)).collect(),
            stride,
            threads,
            orders: (0..domains.len()).map(order).collect(),
        }
    }

    /// Forgets what was claimed. Only between runs.
    pub(super) fn reset(&self) {
        for counter in &self.counters {
            counter.store(0, Ordering::Relaxed); // published with the next run
        }
    }

    /// Claims tiles of `phase`, of which there are `tiles`, until none is left; `run` gets each that a thread of `domain`
    /// got hold of. A tile is handed out once. `row_tiles` of them are side by side for the same columns; all of them, if
    /// tiles are not cut by columns.
    pub(super) fn claim(
        &self,
        phase: usize,
        domain: usize,
        tiles: usize,
        row_tiles: usize,
        mut run: impl FnMut(usize),
    ) {
        assert!(phase < self.stride, "more phases than at the bounds");
        for &other in &self.orders[domain] {
            let share = self.share(other, tiles, row_tiles);
            let counter = &self.counters[other * self.stride + phase];
            loop {
                let index = counter.fetch_add(1, Ordering::Relaxed);
                if index >= share.count {
                    break;
                }
                run(share.tile(index));
            }
        }
    }

    /// The tiles that belong to `domain`: its rows for all columns. Where there are fewer tiles of rows than domains, a range
    /// of all tiles.
    fn share(&self, domain: usize, tiles: usize, row_tiles: usize) -> Share {
        let domains = self.orders.len();
        let by_rows = row_tiles >= domains && tiles.is_multiple_of(row_tiles.max(1));
        let side_by_side = if by_rows { row_tiles } else { tiles };
        let Range { start, end } = self.range(domain, side_by_side);
        let (rows, columns) = (end - start, tiles.checked_div(side_by_side).unwrap_or(0));
        Share { start, rows, side_by_side, count: rows * columns }
    }

    /// The part of `count` things in a row that belongs to `domain`.
    fn range(&self, domain: usize, count: usize) -> Range<usize> {
        let all = self.threads.last().map_or(1, |&threads| threads.max(1));
        count * self.threads[domain] / all..count * self.threads[domain + 1] / all
    }
}

/// Tiles of a domain.
#[derive(Clone, Copy, Debug)]
struct Share {
    /// The first tile of rows.
    start: usize,
    /// Tiles of rows.
    rows: usize,
    /// Tiles of rows of all domains.
    side_by_side: usize,
    /// Tiles.
    count: usize,
}

impl Share {
    /// The tile with this index in the share, below its count.
    fn tile(self, index: usize) -> usize {
        index / self.rows * self.side_by_side + self.start + index % self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains(sockets_and_threads: &[(usize, usize)]) -> Vec<Domain> {
        let domain = |(node, &(socket, threads))| Domain { socket, node, threads };
        sockets_and_threads.iter().enumerate().map(domain).collect()
    }

    #[test]
    fn every_tile_is_handed_out_once_and_the_own_ones_first() {
        let domains = domains(&[(0, 2), (0, 1), (1, 3)]);
        // By rows of tiles; the last ones have fewer than domains, or are no matrix.
        for (tiles, row_tiles) in
            [(0, 0), (1, 1), (7, 7), (100, 100), (12, 6), (35, 7), (9, 3), (4, 2), (10, 4), (0, 4)]
        {
            for domain in 0..3 {
                let counters = Tiles::new(3, &domains);
                let mut found = Vec::new();
                counters.claim(2, domain, tiles, row_tiles, |tile| found.push(tile));
                let own = counters.share(domain, tiles, row_tiles);
                assert_eq!(
                    found[..own.count],
                    (0..own.count).map(|index| own.tile(index)).collect::<Vec<_>>()
                );
                let mut sorted = found.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..tiles).collect::<Vec<_>>(), "{tiles} tiles, {row_tiles} side by side");
                counters.claim(2, 0, tiles, row_tiles, |tile| panic!("{tile} is claimed twice"));
            }
        }
        assert_eq!(Tiles::new(1, &domains).orders, [[0, 1, 2], [1, 0, 2], [2, 0, 1]]);
    }

    #[test]
    fn a_domain_has_the_same_rows_of_all_columns() {
        let counters = Tiles::new(1, &domains(&[(0, 2), (1, 2)]));
        let tiles = |domain, tiles, row_tiles| {
            let share = counters.share(domain, tiles, row_tiles);
            (0..share.count).map(|index| share.tile(index)).collect::<Vec<_>>()
        };
        assert_eq!(tiles(0, 12, 4), [0, 1, 4, 5, 8, 9]);
        assert_eq!(tiles(1, 12, 4), [2, 3, 6, 7, 10, 11]);
        assert_eq!(tiles(1, 6, 3), [1, 2, 4, 5]);
        assert_eq!(tiles(1, 5, 1), [2, 3, 4], "one row for two domains: columns");
    }

    #[test]
    fn domains_get_tiles_by_their_threads() {
        let counters = Tiles::new(1, &domains(&[(0, 28), (1, 28)]));
        assert_eq!((counters.range(0, 7), counters.range(1, 7)), (0..3, 3..7));
        let counters = Tiles::new(1, &domains(&[(0, 3), (1, 1)]));
        assert_eq!((counters.range(0, 8), counters.range(1, 8)), (0..6, 6..8));
    }

    #[test]
    fn a_phase_beyond_the_bounds_panics_and_reset_starts_anew() {
        let counters = Tiles::new(1, &domains(&[(0, 1)]));
        let count = || {
            let mut count = 0;
            counters.claim(0, 0, 4, 4, |_| count += 1);
            count
        };
        assert_eq!((count(), count()), (4, 0));
        counters.reset();
        assert_eq!(count(), 4);
        assert!(std::panic::catch_unwind(|| counters.claim(1 << 20, 0, 1, 1, |_| ())).is_err());
    }
}
