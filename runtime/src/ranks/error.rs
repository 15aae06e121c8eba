//! What can go wrong between ranks.

/// Ranks that cannot go on together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RanksError {
    /// Ranks that hang, or whose link is broken.
    #[error(
        "{} not answered for {seconds} s: hung, stopped, or cut off; checkpoints are whole. Look at that process and its host, \
         then start the run again with --resume-from-checkpoint; --rank-timeout says how long to wait",
        have(ranks)
    )]
    Silent {
        /// Those that were waited for.
        ranks: Vec<usize>,
        /// How long, rounded.
        seconds: u64,
    },
    /// A rank that has ended while others wait for it.
    #[error(
        "rank {rank} has ended; checkpoints are whole, start the run again with --resume-from-checkpoint"
    )]
    Left {
        /// The rank.
        rank: usize,
    },
    /// A rank that sent something else than it should.
    #[error(
        "rank {rank} sent {found} bytes, expected {expected}: it is not in the same place of the same run"
    )]
    Length {
        /// The rank.
        rank: usize,
        /// Bytes expected.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// A call that MPI refuses.
    #[error("MPI refuses {call}: error {code}")]
    Mpi {
        /// The call.
        call: &'static str,
        /// What it returned.
        code: i32,
    },
    /// MPI cannot be used.
    #[error("{0}")]
    Start(String),
    /// Ranks that would not do the same.
    #[error("rank {rank} would not do what rank 0 does:\n{}\nEvery rank must be started with the same program, flags, model and data", lines.join("\n"))]
    Disagree {
        /// The first such rank.
        rank: usize,
        /// What it has otherwise.
        lines: Vec<String>,
    },
    /// Another rank failed.
    #[error("rank {rank}: {message}")]
    Elsewhere {
        /// The rank.
        rank: usize,
        /// What it says.
        message: String,
    },
}

fn have(ranks: &[usize]) -> String {
    match ranks {
        [rank] => format!("rank {rank} has"),
        ranks => {
            let names: Vec<String> = ranks.iter().map(ToString::to_string).collect();
            format!("ranks {} have", names.join(", "))
        }
    }
}
