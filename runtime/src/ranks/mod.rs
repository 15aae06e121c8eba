//! Several processes that train one model together: who they are, how they agree, what they send each other.
//!
//! Every rank computes some windows of an optimizer step and sends the sums that are nodes of the window tree; all ranks
//! end up with the same total, so that clipping and AdamW see the same bits everywhere (`ranks/tree.rs`). What is below is a
//! [`Transport`]: MPI (cargo feature `mpi`), or threads of one process ([`local`]), which is how the rest is tested.
//!
//! A rank that fails tells the others in its next [`Ranks::stand`], whichever that is: everyone then ends, and the first
//! of those that failed says why. Between two of these calls all ranks make the same calls in the same order.

mod error;
pub mod launch;
pub mod local;
#[cfg(feature = "mpi")]
pub mod mpi;
mod seat;
pub(crate) mod tree;

pub use error::RanksError;
pub use seat::Seat;

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Moves bytes between ranks.
pub trait Transport {
    /// Number of this rank, from 0.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn count(&self) -> usize;

    /// How long to wait for a rank before it counts as hung; none for as long as it takes.
    fn set_patience(&mut self, patience: Option<Duration>);

    /// Sends `outgoing[r]` to rank r and returns what each rank sent here, `incoming[r]` bytes. Every rank calls this at
    /// the same time; the entries of this rank itself are neither sent nor looked at, and come back empty.
    ///
    /// # Errors
    /// [`RanksError`] naming the rank that did not answer, or sent something else. The transport is of no use afterwards.
    fn exchange(&mut self, outgoing: Vec<Vec<u8>>, incoming: &[usize]) -> Result<Vec<Vec<u8>>, RanksError>;

    /// Ends every rank at once, with exit code 1, as far as it is in the transport's hands.
    fn abort(&mut self);
}

/// What a rank sent and how long it waited.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Bytes that this rank sent.
    pub sent: u64,
    /// Seconds in which gradients travelled and were added.
    pub seconds: f64,
    /// Seconds for which this rank waited until all others had come as far.
    pub waited: f64,
}

/// How a rank fared since the last time that ranks stood together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It goes on.
    Done,
    /// It was told to stop.
    Stopped,
    /// It cannot go on, and this is why.
    Failed(String),
}

/// The ranks of a run; [alone](Self::alone), this process is the only one. Clones are the same ranks.
#[derive(Clone, Default)]
pub struct Ranks(Option<Rc<RefCell<Inner>>>);

struct Inner {
    transport: Box<dyn Transport>,
    traffic: Traffic,
    /// Everybody has agreed to start.
    started: bool,
    /// Everybody knows that the run ends; whether it is on this rank to say why.
    ended: Option<bool>,
}

impl Ranks {
    /// No other rank.
    pub fn alone() -> Self {
        Self::default()
    }

    /// The ranks that `transport` joins.
    pub fn new(transport: Box<dyn Transport>) -> Self {
        if transport.count() == 1 {
            return Self::alone();
        }
        let inner = Inner { transport, traffic: Traffic::default(), started: false, ended: None };
        Self(Some(Rc::new(RefCell::new(inner))))
    }

    fn ask<T>(&self, alone: T, question: impl FnOnce(&mut Inner) -> T) -> T {
        match &self.0 {
            Some(inner) => question(&mut inner.borrow_mut()),
            None => alone,
        }
    }

    /// Number of this rank, from 0.
    pub fn rank(&self) -> usize {
        self.ask(0, |inner| inner.transport.rank())
    }

    /// Number of ranks, at least 1.
    pub fn count(&self) -> usize {
        self.ask(1, |inner| inner.transport.count())
    }

    /// True if there is no other rank.
    pub fn is_alone(&self) -> bool {
        self.0.is_none()
    }

    /// True for the rank that writes and shows.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Of an error that ends the run: whether it is on this rank to say it. If several ranks know of it, one of them does.
    pub fn speaks(&self) -> bool {
        self.ask(true, |inner| inner.ended.unwrap_or(true))
    }

    /// True if the run ends and every rank knows it.
    pub fn is_ended(&self) -> bool {
        self.ask(false, |inner| inner.ended.is_some())
    }

    /// All ranks have come to the same error: the first one is to say it.
    pub(crate) fn end_together(&self) {
        self.ask((), |inner| inner.ended = Some(inner.transport.rank() == 0));
    }

    /// From now on a rank that does not answer for `patience` counts as hung; none, for as long as it takes.
    pub fn wait_at_most(&self, patience: Option<Duration>) {
        self.ask((), |inner| inner.transport.set_patience(patience));
    }

    /// All ranks have agreed on what they do; they [wait](Self::wait_at_most) for each other at most `patience`.
    pub fn start(&self, patience: Option<Duration>) {
        self.ask((), |inner| inner.started = true);
        self.wait_at_most(patience);
    }

    /// True behind [`start`](Self::start).
    pub fn is_started(&self) -> bool {
        self.ask(true, |inner| inner.started)
    }

    /// What was sent so far.
    pub fn traffic(&self) -> Traffic {
        self.ask(Traffic::default(), |inner| inner.traffic)
    }

    /// Ends every rank at once.
    pub fn abort(&self) {
        self.ask((), |inner| inner.transport.abort());
    }

    /// Says how this rank fares, and hears how all fare: [`Standing::Stopped`] if one was stopped, and
    /// [`Standing::Failed`] if this rank failed and it is on it to say so.
    ///
    /// # Errors
    /// [`RanksError::Elsewhere`] if another rank failed and says why.
    pub fn stand(&self, own: Standing) -> Result<Standing, RanksError> {
        if self.is_alone() || self.is_ended() {
            return Ok(own);
        }
        let message = match &own {
            Standing::Done => vec![0],
            Standing::Stopped => vec![1],
            Standing::Failed(why) => [&[2], why.as_bytes()].concat(),
        };
        let begun = Instant::now();
        let all = self.gather(message)?;
        self.ask((), |inner| inner.traffic.waited += begun.elapsed().as_secs_f64());
        let failed = all.iter().enumerate().find(|(_, message)| message.first() == Some(&2));
        if let Some((rank, message)) = failed {
            let is_own = rank == self.rank();
            self.ask((), |inner| inner.ended = Some(is_own));
            let text = String::from_utf8_lossy(message.get(1..).unwrap_or_default());
            let elsewhere = || RanksError::Elsewhere { rank, message: text.into_owned() };
            return if is_own { Ok(own) } else { Err(elsewhere()) };
        }
        let stopped = all.iter().any(|message| message.first() == Some(&1));
        Ok(if stopped { Standing::Stopped } else { Standing::Done })
    }

    /// What every rank brings, by rank.
    ///
    /// # Errors
    /// [`RanksError`] if a rank does not answer.
    pub fn gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, RanksError> {
        let (rank, count) = (self.rank(), self.count());
        let length = (own.len() as u64).to_le_bytes().to_vec();
        let lengths = self.exchange(vec![length; count], &vec![8; count])?;
        let length = |bytes: &Vec<u8>| {
            bytes.as_slice().try_into().map_or(0, |bytes| u64::from_le_bytes(bytes) as usize)
        };
        let incoming: Vec<usize> = lengths.iter().map(length).collect();
        let mut all = self.exchange(vec![own.clone(); count], &incoming)?;
        all[rank] = own;
        Ok(all)
    }

    /// What the first rank has, on every rank.
    ///
    /// # Errors
    /// [`RanksError`] if a rank does not answer.
    pub fn of_first(&self, own: Vec<u8>) -> Result<Vec<u8>, RanksError> {
        let mine = if self.is_first() { own } else { Vec::new() };
        Ok(self.gather(mine)?.swap_remove(0))
    }

    /// Of `total` things in a row, those of this rank.
    pub fn part(&self, total: usize) -> Range<usize> {
        tree::part(total, self.rank(), self.count())
    }

    /// [`Transport::exchange`], counted. Alone, it brings nothing.
    pub(crate) fn exchange(
        &self,
        outgoing: Vec<Vec<u8>>,
        incoming: &[usize],
    ) -> Result<Vec<Vec<u8>>, RanksError> {
        self.ask(Ok(vec![Vec::new()]), |inner| {
            let (rank, count) = (inner.transport.rank(), inner.transport.count());
            let others = outgoing.iter().enumerate().filter(|&(to, _)| to != rank);
            inner.traffic.sent += others.map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
            let result = inner.transport.exchange(outgoing, incoming);
            if let Err(error) = &result {
                // Those that wait for a silent rank all find it; of them, the first says so.
                inner.ended = Some(match error {
                    RanksError::Silent { ranks, .. } => {
                        (0..count).find(|rank| !ranks.contains(rank)) == Some(rank)
                    }
                    _ => true,
                });
            }
            result
        })
    }

    /// Counts the seconds since `begun` as those in which gradients travelled.
    pub(crate) fn count_seconds(&self, begun: Instant) {
        self.ask((), |inner| inner.traffic.seconds += begun.elapsed().as_secs_f64());
    }
}

impl fmt::Debug for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank(), self.count())
    }
}

#[cfg(test)]
mod tests;
