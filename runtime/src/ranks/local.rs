//! Ranks that are threads of one process, joined by channels: how everything above the transport is tested.

use super::{RanksError, Transport};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Messages to another rank, and from it.
type Peer = (Sender<Vec<u8>>, Receiver<Vec<u8>>);

/// One of several ranks in a process.
#[derive(Debug)]
pub struct LocalTransport {
    rank: usize,
    /// To and from each rank, itself included, which is not used.
    peers: Vec<Peer>,
    patience: Option<Duration>,
}

/// `count` ranks, each for a thread of its own.
pub fn ranks(count: usize) -> Vec<LocalTransport> {
    // channels[from][to]
    let mut senders: Vec<Vec<Sender<Vec<u8>>>> = Vec::new();
    let mut receivers: Vec<Vec<Receiver<Vec<u8>>>> = (0..count).map(|_| Vec::new()).collect();
    for _ in 0..count {
        let (to, from): (Vec<_>, Vec<_>) = (0..count).map(|_| channel()).unzip();
        senders.push(to);
        from.into_iter().zip(&mut receivers).for_each(|(receiver, of)| of.push(receiver));
    }
    let joined = senders.into_iter().zip(receivers).enumerate();
    joined
        .map(|(rank, (to, from))| LocalTransport {
            rank,
            peers: to.into_iter().zip(from).collect(),
            patience: None,
        })
        .collect()
}

impl Transport for LocalTransport {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        self.peers.len()
    }

    fn set_patience(&mut self, patience: Option<Duration>) {
        self.patience = patience;
    }

    fn exchange(&mut self, outgoing: Vec<Vec<u8>>, incoming: &[usize]) -> Result<Vec<Vec<u8>>, RanksError> {
        for (rank, bytes) in outgoing.into_iter().enumerate().filter(|&(rank, _)| rank != self.rank) {
            self.peers[rank].0.send(bytes).map_err(|_| RanksError::Left { rank })?;
        }
        let begun = Instant::now();
        let mut all = vec![Vec::new(); self.peers.len()];
        let mut silent = Vec::new();
        for (rank, (_, from)) in self.peers.iter().enumerate().filter(|&(rank, _)| rank != self.rank) {
            let left = |_| RanksError::Left { rank };
            let received = match self.patience {
                None => from.recv().map_err(left)?,
                Some(patience) => match from.recv_timeout(patience.saturating_sub(begun.elapsed())) {
                    Ok(bytes) => bytes,
                    Err(RecvTimeoutError::Disconnected) => return Err(RanksError::Left { rank }),
                    Err(RecvTimeoutError::Timeout) => {
                        silent.push(rank);
                        continue;
                    }
                },
            };
            if received.len() != incoming[rank] {
                return Err(RanksError::Length { rank, expected: incoming[rank], found: received.len() });
            }
            all[rank] = received;
        }
        if silent.is_empty() {
            return Ok(all);
        }
        Err(RanksError::Silent { ranks: silent, seconds: begun.elapsed().as_secs() })
    }

    /// Threads end by themselves: their peers have [left](RanksError::Left) when this is dropped.
    fn abort(&mut self) {
        self.peers.clear();
    }
}
