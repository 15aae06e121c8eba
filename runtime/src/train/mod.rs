//! Training: what runs between plan and adapter.
//!
//! [`Trainer`] holds a bound plan and does one optimizer step at a time; [`train`] runs a whole job over windows and
//! keeps the log; [`save`](Trainer::save) writes what was trained.
//!
//! Does not: print. What a person is to see goes to an [`Observer`]; what is measured between steps is an [`Evaluator`]'s.

mod cadence;
pub mod checkpoint;
mod error;
mod evaluator;
mod hyper_parameters;
mod job;
mod log_entry;
mod observer;
mod options;
mod origin;
pub(crate) mod parameters;
mod run_state;
mod schedule;
mod shared;
mod stop;
mod trainer;
mod trainer_state;

pub use cadence::{Cadence, Moment};
pub use error::TrainError;
pub use evaluator::Evaluator;
pub use job::{Finished, Job, evaluate, train};
pub use observer::{Observer, RunStart, Stopped};
pub use options::TrainOptions;
pub use origin::{NotFiniteStep, Origin};
pub use parameters::Start;
pub use run_state::{Losses, RunState};
pub use schedule::{POLYNOMIAL_END, Schedule, SchedulerKind};
pub use stop::StopFlag;
pub use trainer::{StepReport, Trainer};
pub use trainer_state::{FILE as TRAINER_STATE_FILE, LogEntry, Others, TrainerState, TrainerStateError};
