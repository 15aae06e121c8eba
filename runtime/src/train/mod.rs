//! Training: what runs between plan and adapter.
//!
//! [`Trainer`] holds a bound plan and does one optimizer step at a time; [`train`] runs a whole job over windows and
//! keeps the log; [`save`](Trainer::save) writes what was trained.
//!
//! Does not: print. What a person is to see goes to an [`Observer`].

mod data_order;
mod error;
mod hyper_parameters;
mod job;
mod log_entry;
mod options;
pub(crate) mod parameters;
mod schedule;
mod trainer;
mod trainer_state;

pub use data_order::{DATA_ORDER_FILE, DataOrder, DataOrderError};
pub use error::TrainError;
pub use job::{Observer, train};
pub use options::TrainOptions;
pub use parameters::Start;
pub use schedule::LinearSchedule;
pub use trainer::{Evaluation, StepReport, Trainer};
pub use trainer_state::{FILE as TRAINER_STATE_FILE, LogEntry, TrainerState, TrainerStateError};
