//! Ranks over MPI.
//!
//! Every call is made by the thread that joined (`MPI_THREAD_FUNNELED`); the team's threads know nothing of it. Messages
//! are sent and received without blocking and asked for until a deadline, so that a rank that hangs is noticed and named;
//! MPI itself would wait for ever. A rank that dies is noticed by the launcher, which names it and ends the others.

use super::{RanksError, Transport};
use mpi::environment::Universe;
use mpi::ffi;
use mpi::topology::Communicator;
use mpi::{Threading, initialize_with_threading};
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

/// Most bytes of one message: MPI counts in `int`.
const MESSAGE: usize = 1 << 30;
const TAG: c_int = 0;
/// How often messages are asked for before this thread begins to sleep in between.
const EAGER: u32 = 2000;
const NAP: Duration = Duration::from_micros(100);

/// The ranks of `MPI_COMM_WORLD`.
pub struct MpiTransport {
    universe: Universe,
    patience: Option<Duration>,
}

/// A message under way.
struct Pending {
    peer: usize,
    /// Bytes expected; none of a message that is sent.
    expected: Option<usize>,
    request: ffi::MPI_Request,
}

impl MpiTransport {
    /// Starts MPI in this process.
    ///
    /// # Errors
    /// [`RanksError::Start`] if MPI was started before in this process, or cannot be called from a process with threads.
    pub fn join() -> Result<Self, RanksError> {
        let start = |text: &str| RanksError::Start(text.to_owned());
        let (universe, threading) = initialize_with_threading(Threading::Funneled)
            .ok_or_else(|| start("MPI was started before in this process"))?;
        if threading < Threading::Funneled {
            return Err(start("this MPI library takes no calls from a process that has threads"));
        }
        // SAFETY: MPI is initialised, and both handles are its own constants.
        let code = unsafe { ffi::MPI_Comm_set_errhandler(ffi::RSMPI_COMM_WORLD, ffi::RSMPI_ERRORS_RETURN) };
        checked("MPI_Comm_set_errhandler", code)?;
        Ok(Self { universe, patience: None })
    }

    fn receive(&self, peer: usize, buffer: &mut [u8], pending: &mut Vec<Pending>) -> Result<(), RanksError> {
        for part in buffer.chunks_mut(MESSAGE) {
            let (address, length) = (part.as_mut_ptr().cast(), part.len() as c_int);
            // SAFETY: `part` outlives the request: `exchange` keeps its buffers until every request is complete, and leaks
            // them if one is not. Nobody else looks at it meanwhile. `request` is there to be written.
            let begun = Pending::begin("MPI_Irecv", peer, Some(part.len()), |request| unsafe {
                let (kind, of) = (ffi::RSMPI_UINT8_T, ffi::RSMPI_COMM_WORLD);
                ffi::MPI_Irecv(address, length, kind, peer as c_int, TAG, of, request)
            });
            pending.push(begun?);
        }
        Ok(())
    }

    fn send(&self, peer: usize, buffer: &[u8], pending: &mut Vec<Pending>) -> Result<(), RanksError> {
        for part in buffer.chunks(MESSAGE) {
            let (address, length) = (part.as_ptr().cast(), part.len() as c_int);
            // SAFETY: `part` is not changed and outlives the request, as in `receive`. `request` is there to be written.
            let begun = Pending::begin("MPI_Isend", peer, None, |request| unsafe {
                let (kind, of) = (ffi::RSMPI_UINT8_T, ffi::RSMPI_COMM_WORLD);
                ffi::MPI_Isend(address, length, kind, peer as c_int, TAG, of, request)
            });
            pending.push(begun?);
        }
        Ok(())
    }

    /// Waits until every message has arrived, or for as long as patience lasts.
    fn wait(&self, pending: &mut Vec<Pending>) -> Result<(), RanksError> {
        let (begun, mut asked) = (Instant::now(), 0);
        loop {
            let mut index = 0;
            while index < pending.len() {
                if pending[index].is_complete()? {
                    pending.swap_remove(index);
                } else {
                    index += 1;
                }
            }
            if pending.is_empty() {
                return Ok(());
            }
            if self.patience.is_some_and(|patience| begun.elapsed() >= patience) {
                return Err(RanksError::Silent {
                    ranks: silent(pending),
                    seconds: begun.elapsed().as_secs(),
                });
            }
            asked += 1;
            if asked < EAGER { std::thread::yield_now() } else { std::thread::sleep(NAP) }
        }
    }
}

/// The ranks that are waited for: those that have not sent, or else those that do not take what was sent.
fn silent(pending: &[Pending]) -> Vec<usize> {
    let of = |received: bool| {
        let some = pending.iter().filter(|message| message.expected.is_some() == received);
        let mut ranks: Vec<usize> = some.map(|message| message.peer).collect();
        ranks.sort_unstable();
        ranks.dedup();
        ranks
    };
    Some(of(true)).filter(|ranks| !ranks.is_empty()).unwrap_or_else(|| of(false))
}

impl Pending {
    /// The message that `start` has on its way when it succeeds; it writes the request.
    fn begin(
        call: &'static str,
        peer: usize,
        expected: Option<usize>,
        start: impl FnOnce(*mut ffi::MPI_Request) -> c_int,
    ) -> Result<Self, RanksError> {
        // SAFETY: a constant of the library, which is initialised.
        let mut request = unsafe { ffi::RSMPI_REQUEST_NULL };
        checked(call, start(&raw mut request))?;
        Ok(Self { peer, expected, request })
    }

    fn is_complete(&mut self) -> Result<bool, RanksError> {
        let (mut flag, mut status) = (0, MaybeUninit::<ffi::MPI_Status>::uninit());
        // SAFETY: `request` was made by MPI and is not complete yet: a complete one is removed.
        let code = unsafe { ffi::MPI_Test(&mut self.request, &mut flag, status.as_mut_ptr()) };
        let Some(expected) = self.expected.filter(|_| flag != 0) else {
            return checked("MPI_Test", code).map(|()| flag != 0);
        };
        let mut found = 0;
        // SAFETY: `flag` says that the request is complete, so the status is written.
        let counted = unsafe { ffi::MPI_Get_count(status.as_ptr(), ffi::RSMPI_UINT8_T, &mut found) };
        checked("MPI_Test", code).and_then(|()| checked("MPI_Get_count", counted))?;
        if usize::try_from(found) == Ok(expected) {
            return Ok(true);
        }
        Err(RanksError::Length { rank: self.peer, expected, found: usize::try_from(found).unwrap_or(0) })
    }
}

impl Transport for MpiTransport {
    fn rank(&self) -> usize {
        self.universe.world().rank() as usize
    }

    fn count(&self) -> usize {
        self.universe.world().size() as usize
    }

    fn set_patience(&mut self, patience: Option<Duration>) {
        self.patience = patience;
    }

    fn exchange(&mut self, outgoing: Vec<Vec<u8>>, incoming: &[usize]) -> Result<Vec<Vec<u8>>, RanksError> {
        let own = self.rank();
        let mut received: Vec<Vec<u8>> = incoming.iter().map(|&bytes| vec![0; bytes]).collect();
        received[own].clear();
        let mut pending = Vec::new();
        let others = || (0..outgoing.len()).filter(|&rank| rank != own);
        let mut begin = || {
            others().try_for_each(|rank| self.receive(rank, &mut received[rank], &mut pending))?;
            others().try_for_each(|rank| self.send(rank, &outgoing[rank], &mut pending))
        };
        let result = begin().and_then(|()| self.wait(&mut pending));
        if let Err(error) = result {
            // MPI may still read and write them.
            std::mem::forget((received, outgoing));
            return Err(error);
        }
        Ok(received)
    }

    fn abort(&mut self) {
        self.universe.world().abort(1)
    }
}

impl Drop for MpiTransport {
    /// Leaving MPI waits for the other ranks, who would wait for this one.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.abort();
        }
    }
}

fn checked(call: &'static str, code: c_int) -> Result<(), RanksError> {
    match code == ffi::MPI_SUCCESS as c_int {
        true => Ok(()),
        false => Err(RanksError::Mpi { call, code }),
    }
}
