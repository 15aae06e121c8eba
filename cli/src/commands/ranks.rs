//! Ranks of a run: joining them, preparing in turn, agreeing before anything is computed, ending together.

use super::Outcome;
use crate::console::{self, Console};
use crate::error::{self, CliError};
use crate::flags::values::human_bytes;
use gptjc_runtime::ranks::launch::{Launched, launched};
use gptjc_runtime::ranks::{Ranks, RanksError, Seat, Standing};
use gptjc_runtime::self_test;
use gptjc_runtime::train::checkpoint::Checkpoints;
use gptjc_runtime::train::{RunState, Trainer};
use std::time::Duration;

/// How long a rank that has nothing to say waits for the one that has, before it ends everything.
const SPEAKING: Duration = Duration::from_secs(2);

/// The ranks that a launcher has started, or this process alone. None if there is nothing to do: copies that cannot join,
/// of which the first says so.
pub(crate) fn join() -> Result<Option<Ranks>, CliError> {
    match launched() {
        None => Ok(Some(Ranks::alone())),
        Some(launched) => joined(&launched),
    }
}

/// Ends this process with `code` if it is one of several copies and not the first, which says what all would say: after a
/// while, because a launcher may end all others with it.
pub(crate) fn leave_to_the_first(code: i32) {
    if launched().is_some_and(|launched| launched.rank > 0) {
        std::thread::sleep(SPEAKING);
        std::process::exit(code);
    }
}

#[cfg(feature = "mpi")]
fn joined(launched: &Launched) -> Result<Option<Ranks>, CliError> {
    use gptjc_runtime::ranks::Transport;
    use gptjc_runtime::ranks::mpi::MpiTransport;
    let transport = MpiTransport::join().map_err(failed)?;
    if transport.count() == launched.count {
        return Ok(Some(Ranks::new(Box::new(transport))));
    }
    if launched.rank > 0 {
        return Ok(None);
    }
    Err(CliError::Usage {
        what: format!(
            "{} has started {} copies of gptjc, and the MPI library that gptjc was built with counts {}",
            launched.launcher,
            launched.count,
            transport.count()
        ),
        advice: "start it with the mpirun of the library that it was built with, or build it with the library of this mpirun"
            .to_owned(),
    })
}

#[cfg(not(feature = "mpi"))]
fn joined(launched: &Launched) -> Result<Option<Ranks>, CliError> {
    if launched.rank > 0 {
        return Ok(None);
    }
    Err(CliError::Copies { launcher: launched.launcher, count: launched.count })
}

/// Where this rank runs; says so if ranks have little of a machine.
pub(crate) fn seat(ranks: &Ranks, console: Console) -> Result<Seat, CliError> {
    let seat = Seat::find(ranks).map_err(failed)?;
    if ranks.is_alone() {
        return Ok(seat);
    }
    console.line(&format!("{} ranks, {} of them on {}", ranks.count(), seat.on_host, seat.host));
    if seat.on_cores > 1 {
        console.note(&format!(
            "{} ranks may run on the same cores and share them out; bind each to its own with mpirun --map-by socket or --map-by \
             slot:PE=CORES",
            seat.on_cores
        ));
    }
    Ok(seat)
}

/// How much longer ranks wait for each other while they prepare: the first may have weights to convert.
pub(crate) const PREPARING: u64 = 6;

/// How long `seconds` make a rank wait for another; 0 is without end.
pub(crate) fn patience(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// `work`, on the first rank before the others: they find what it has written.
pub(crate) fn first_then_others<T>(
    ranks: &Ranks,
    work: impl Fn() -> Result<T, CliError>,
) -> Result<T, CliError> {
    if ranks.is_alone() {
        return work();
    }
    if ranks.is_first() {
        return together(ranks, work());
    }
    together(ranks, Ok(()))?;
    work()
}

/// `own`, if every rank has come as far.
pub(crate) fn together<T>(ranks: &Ranks, own: Result<T, CliError>) -> Result<T, CliError> {
    let standing = match &own {
        Ok(_) => Standing::Done,
        Err(error) => Standing::Failed(error.to_string()),
    };
    ranks.stand(standing).map_err(failed)?;
    own
}

/// Proves that all ranks would do the same from `state` on, `evaluation` included, and begins to watch over them.
pub(crate) fn agree(
    trainer: &mut Trainer,
    checkpoints: &Checkpoints,
    state: &RunState,
    evaluation: impl FnOnce() -> String,
    patience: Option<Duration>,
) -> Result<(), CliError> {
    if trainer.ranks().is_alone() {
        return Ok(());
    }
    let program = together(trainer.ranks(), program())?;
    let agreed = checkpoints.agree(trainer, state, program, &evaluation());
    agreed.map_err(|error| CliError::Ranks(error.into()))?;
    trainer.ranks().start(patience);
    Ok(())
}

/// Version and hash of the program that runs.
fn program() -> Result<String, CliError> {
    let hash =
        self_test::program().map_err(|source| CliError::Read { path: "/proc/self/exe".into(), source })?;
    Ok(format!("{} (build {:.16})", env!("CARGO_PKG_VERSION"), hash))
}

/// Says what was sent, and how much of the time that took.
pub(crate) fn tell_traffic(ranks: &Ranks, steps: u64, console: Console) {
    if ranks.is_alone() || steps == 0 {
        return;
    }
    let traffic = ranks.traffic();
    console.line(&format!(
        "rank 0 sent {} a step; {:.1} ms a step went into exchanging gradients, {:.1} ms into waiting for other ranks",
        human_bytes(traffic.sent / steps),
        1e3 * traffic.seconds / steps as f64,
        1e3 * traffic.waited / steps as f64
    ));
}

/// Ends the run on all ranks if it has failed on this one. One of them says why.
pub(crate) fn end(ranks: &Ranks, result: Result<Outcome, CliError>) -> Result<Outcome, CliError> {
    let failure = match result {
        Err(failure) if !ranks.is_alone() => failure,
        result => return result,
    };
    // Before they have started, others may have failed too, and all come to this point. What fails here is that they do not.
    if !ranks.is_started() {
        let _ = ranks.stand(Standing::Failed(failure.to_string()));
    }
    if ranks.speaks() {
        console::error(&format!(
            "on rank {} of {}: {}",
            ranks.rank(),
            ranks.count(),
            error::report(&failure)
        ));
    } else {
        std::thread::sleep(SPEAKING);
    }
    ranks.abort();
    Err(failure)
}

fn failed(error: RanksError) -> CliError {
    CliError::Ranks(error.into())
}
